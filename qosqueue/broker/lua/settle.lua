#!lua flags=allow-oom
-- settle: end one attempt.
-- KEYS 1 group. ARGV 1 now, 2 tag, 3 fence, 4 outcome: done | requeue | dead.
-- Result: 0 (stale: another attempt owns it, or it is gone), 1 (settled as asked), 2 (was to be requeued, but its
--         tenant had cancelled it: gone).
-- Atomic: exactly one attempt can settle a message. A requeued message keeps its place and is not charged an attempt;
-- a dead one is kept with its payload.
assert(#ARGV == 4, 'settle takes 4 arguments')
assert(ARGV[4] == 'done' or ARGV[4] == 'requeue' or ARGV[4] == 'dead', 'settle takes the outcome done, requeue or dead')
local tag = ARGV[2]
local message = load_message(tag)
if not message or message.state ~= 'leased' or message.fence ~= ARGV[3] then return 0 end
redis.call('ZREM', P .. 'leases', tag)
if ARGV[4] == 'requeue' and message.cancel == '0' then
  redis.call('HINCRBY', message_key(tag), 'attempts', -1)
  redis.call('HDEL', message_key(tag), 'holder')
  enter_queue(tag, message)
  return 1
end
if ARGV[4] == 'dead' then
  redis.call('HDEL', message_key(tag), 'holder')
  redis.call('HSET', message_key(tag), 'state', 'dead')
  redis.call('ZADD', P .. 'dead', clock(), tag)
  return 1
end
forget(tag, message)
return ARGV[4] == 'done' and 1 or 2
