-- replay: queue a dead letter again, as if it had just arrived, with all its attempts.
-- KEYS 1 group. ARGV 1 now, 2 task id.
-- Result: 1, or 0 if the task is not dead.
-- Atomic. Its fence goes on rising: what an attempt before its death still does stays refused.
assert(#ARGV == 2, 'replay takes 2 arguments')
local now, tag = clock(), call('HGET', P .. 'tasks', ARGV[2])
local message = tag and load_message(tag)
if not message or message.state ~= 'dead' then return 0 end
call('ZREM', P .. 'dead', tag)
if message.expires > 0 then message.expires = message.expires + now - message.arrival end
message.arrival, message.attempts, message.penalty, message.in_profile = now, 0, '', 0
call('HDEL', message_key(tag), 'claimed')
save(message, 'expires', 'arrival', 'attempts', 'penalty', 'in_profile')
enter_queue(now, message)
save_arrival(now, message)
return 1
