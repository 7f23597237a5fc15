-- reply: append one event to the reply stream of a web process.
-- KEYS 1 stream. ARGV 1 how many events to keep at most, 2 seconds to keep a stream that nobody writes to,
--      then field, value, field, value, ...
-- Result: the event's id.
-- A script for its flag alone: at maxmemory what runs must still be able to end.
assert(#ARGV >= 4 and #ARGV % 2 == 0, 'reply takes two limits and at least one field')
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return id
