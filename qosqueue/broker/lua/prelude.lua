-- What every script begins with: the clock, the names of the keys, the steps that several verbs share.
-- KEYS[1] is the group with its hash tag, e.g. "{qosqueue}"; every other key begins with it, so all stay in one slot.
-- ARGV[1] is the time in ms since the epoch, or '' for the server's own clock (only tests and simulations pass one).
local P = KEYS[1] .. ':'
local BAND_FACTOR = 8796093022208  -- 2^43: band * 2^43 + deadline stays an exact integer below 2^53
local BELL_DEPTH = 16              -- a bell is a hint, not a count: enough tokens to wake that many idle slots

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1] .. string.sub(string.format('%06d', time[2]), 1, 3))  -- seconds, then the first three of six digits
end

local function message_key(tag) return P .. 'msg:' .. tag end
local function place_key(kind, lane, model) return P .. kind .. ':' .. lane .. ':' .. model end

local function ring(lane, model)
  local bell = place_key('bell', lane, model)
  if redis.call('LLEN', bell) < BELL_DEPTH then redis.call('RPUSH', bell, '1') end
end

-- message: a table with lane, model, rank, arrival, expires (numbers as strings, as HMGET gives them)
local function enter_queue(tag, message)
  redis.call('ZADD', place_key('ready', message.lane, message.model), message.rank, tag)
  redis.call('ZADD', P .. 'arrivals:' .. message.lane, message.arrival, tag)
  if message.expires ~= '0' then redis.call('ZADD', P .. 'expiry', message.expires, tag) end
  redis.call('HSET', message_key(tag), 'state', 'queued')
  ring(message.lane, message.model)
end

local function leave_queue(tag, message)
  redis.call('ZREM', place_key('ready', message.lane, message.model), tag)
  redis.call('ZREM', place_key('aged', message.lane, message.model), tag)
  redis.call('ZREM', P .. 'arrivals:' .. message.lane, tag)
  redis.call('ZREM', P .. 'expiry', tag)
end

local FIELDS = {'lane', 'model', 'task', 'rank', 'arrival', 'expires', 'state', 'fence', 'attempts', 'max_attempts', 'cancel'}

-- The message as a table of strings, or nil if there is none.
local function load_message(tag)
  local values = redis.call('HMGET', message_key(tag), unpack(FIELDS))
  if not values[1] then return nil end
  local message = {}
  for index, field in ipairs(FIELDS) do message[field] = values[index] end
  return message
end

-- What an index still names but whose message is gone (a key that somebody deleted) must not stop a lane for ever.
local function drop_orphan(tag, lane)
  for _, index in ipairs({'expiry', 'leases', 'dead', 'arrivals:' .. lane}) do redis.call('ZREM', P .. index, tag) end
end

local function forget(tag, message)
  redis.call('DEL', message_key(tag))
  -- A retried Celery task is published under its old id while the first message is still leased:
  -- the id then belongs to the newer message.
  if redis.call('HGET', P .. 'tasks', message.task) == tag then redis.call('HDEL', P .. 'tasks', message.task) end
end
