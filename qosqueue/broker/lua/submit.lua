-- submit: put one message into the order.
-- KEYS 1 group. ARGV 1 now, 2 tag, 3 task id, 4 lane, 5 model, 6 band, 7 budget ms, 8 ttl ms (0: never expires),
--      9 attempts allowed, 10 payload.
-- Result: its position among the messages of its lane and model (1 is next), or 0 if the tag is already known.
-- Atomic: a message is either whole in the queue, with its bell rung, or not there at all.
assert(#ARGV == 10, 'submit takes 10 arguments')
local now, tag = clock(), ARGV[2]
if redis.call('EXISTS', message_key(tag)) == 1 then return 0 end
local deadline = now + ARGV[7]
local ttl = tonumber(ARGV[8])
local message = {
  lane = ARGV[4], model = ARGV[5],
  rank = string.format('%.0f', ARGV[6] * BAND_FACTOR + deadline),
  arrival = string.format('%.0f', now),
  expires = ttl > 0 and string.format('%.0f', now + ttl) or '0',
}
redis.call('HSET', message_key(tag), 'lane', message.lane, 'model', message.model, 'task', ARGV[3], 'rank', message.rank,
  'arrival', message.arrival, 'deadline', string.format('%.0f', deadline), 'expires', message.expires,
  'fence', '0', 'attempts', '0', 'max_attempts', ARGV[9], 'cancel', '0', 'payload', ARGV[10])
redis.call('HSET', P .. 'tasks', ARGV[3], tag)
redis.call('SADD', P .. 'places', message.lane .. ':' .. message.model)
enter_queue(tag, message)
return redis.call('ZRANK', place_key('ready', message.lane, message.model), tag) + 1
