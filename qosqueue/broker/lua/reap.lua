#!lua flags=allow-oom
-- reap: collect what was lost or came too late.
-- KEYS 1 group. ARGV 1 now, 2 how many of each kind at most.
-- Result: {task ids queued again, task ids dead, task ids expired, task ids withdrawn, of those queued again the
--         fences whose leases were lost}.
-- Atomic: a lease that ran out is requeued once, whoever sweeps. A message that used up its attempts is dead:
-- kept with its payload, to be read and replayed, never deleted here.
assert(#ARGV == 2, 'reap takes 2 arguments')
local now = clock()
local requeued, dead, expired, withdrawn, fences = {}, {}, {}, {}, {}
for _, tag in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local message = load_message(tag)
  redis.call('ZREM', P .. 'leases', tag)
  if message then redis.call('HDEL', message_key(tag), 'holder') end
  if not message then
    drop_orphan(tag, '')
  elseif message.cancel == '1' then
    forget(tag, message)
    withdrawn[#withdrawn + 1] = message.task
  elseif tonumber(message.attempts) >= tonumber(message.max_attempts) then
    redis.call('HSET', message_key(tag), 'state', 'dead')
    redis.call('ZADD', P .. 'dead', now, tag)
    dead[#dead + 1] = message.task
  else
    enter_queue(tag, message)
    requeued[#requeued + 1] = message.task
    fences[#fences + 1] = tonumber(message.fence)
  end
end
for _, tag in ipairs(redis.call('ZRANGEBYSCORE', P .. 'expiry', '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local message = load_message(tag)
  if message then
    leave_queue(tag, message)
    forget(tag, message)
    expired[#expired + 1] = message.task
  else
    drop_orphan(tag, '')
  end
end
return {requeued, dead, expired, withdrawn, fences}
