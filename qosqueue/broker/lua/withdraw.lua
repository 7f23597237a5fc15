-- withdraw: take a message back by its task id.
-- KEYS 1 group. ARGV 1 now, 2 task id.
-- Result: 0 (unknown), 1 (it was queued or dead and is gone), 2 (it is running: its holder was told to stop).
-- Atomic: either it never runs, or its holder is told. O(log n).
assert(#ARGV == 2, 'withdraw takes 2 arguments')
local tag = call('HGET', P .. 'tasks', ARGV[2])
local message = tag and load_message(tag)
if not message then
  call('HDEL', P .. 'tasks', ARGV[2])
  -- It may have been admitted and never queued; then it is not queued any more (submit).
  end_hold(ARGV[2], false)
  return 0
end
if message.state == 'leased' then
  call('HSET', message_key(tag), 'cancel', '1')
  call('PUBLISH', P .. 'cancel', ARGV[2])
  return 2
end
if message.state == 'queued' then
  drop(message)
else
  call('ZREM', P .. 'dead', tag)
  forget(message)
end
return 1
