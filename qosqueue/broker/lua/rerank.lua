-- rerank: move one queued message by its task id.
-- KEYS 1 group. ARGV 1 now, 2 task id, 3 priority ('' keeps it), 4 start budget ms from its arrival ('' keeps it),
--      5 boost: a priority that counts for a time ('' keeps what it has), 6 that time in ms (0 ends a boost),
--      7 1: decide its penalty afresh, with the shares of now, for what was claimed before it when it joined.
-- Result: 1, or 0 if the task is not queued.
-- Atomic; O(log n). Its lane stays: a boost never rewrites a tier.
assert(#ARGV == 7, 'rerank takes 7 arguments')
local priority, budget = number_at(3, 0, 9, true), number_at(4, 0, C.LONGEST_MS, true)
local boost, boost_ms = number_at(5, 0, 9, true), number_at(6, 0, C.LONGEST_MS)
local now, tag = clock(), call('HGET', P .. 'tasks', ARGV[2])
local message = tag and load_message(tag)
if not message or message.state ~= 'queued' then return 0 end
leave_queue(message)
if priority then message.priority = priority end
if budget then message.budget_ms = budget end
if boost then message.boost, message.boost_until = boost, now + boost_ms end
if ARGV[7] == '1' then message.penalty = '' end
save(message, 'priority', 'budget_ms', 'boost', 'boost_until', 'penalty')
enter_queue(now, message)
return 1
