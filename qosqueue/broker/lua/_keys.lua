-- What every script begins with: the clock and the names of the keys.
-- KEYS[1] is the group with its hash tag, e.g. "{qosqueue}"; every other key begins with it, so all stay in one slot.
-- ARGV[1] is the time in ms since the epoch, or '' for the server's own clock (only tests and simulations pass one).
-- Above this part stands C, the constants of qosqueue/policy/order.py.
-- Whole numbers only: x * y stays below 2^53, and math.floor(x / 2^n) is exact. A number is joined to a text with
-- whole(), since Lua's own conversion keeps 14 digits.
local P = KEYS[1] .. ':'
local call = redis.call

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = call('TIME')
  return tonumber(time[1] .. string.sub(string.format('%06d', time[2]), 1, 3))  -- seconds, then the first three of six digits
end

local function whole(number) return string.format('%.0f', number) end
local function q10(number) return math.floor(number / 1024) end
local function q20(number) return math.floor(number / 1048576) end

local function message_key(tag) return P .. 'msg:' .. tag end
local function body_key(tag) return P .. 'body:' .. tag end
-- A name with its length in front: no two pairs of names give the same text, whatever characters they hold.
local function pair(first, second) return #first .. ':' .. first .. ':' .. second end
-- A place is pair(lane, model), a row a stand and a place.
local function bell_key(place) return P .. 'bell:' .. place end

local function lane_and_model(place)
  local length, rest = string.match(place, '^(%d+):(.*)$')
  return string.sub(rest, 1, length), string.sub(rest, length + 2)
end

local BELL_DEPTH = 16  -- a bell is a hint, not a count: enough tokens to wake that many idle slots

local function ring(place)
  local bell = bell_key(place)
  if call('LLEN', bell) < BELL_DEPTH then call('RPUSH', bell, '1') end
end

local TEXTS = {'tag', 'lane', 'model', 'task', 'tenant', 'organisation', 'state', 'stand', 'penalty'}
local NUMBERS = {'priority', 'batch', 'budget_ms', 'predicted_ms', 'cost_ms', 'urgency', 'arrival', 'eta', 'number', 'expires',
  'max_attempts', 'in_profile', 'boost', 'boost_until', 'score', 'due', 'fence', 'attempts', 'started', 'cancel'}
local FIELDS = {unpack(TEXTS)}
for index, name in ipairs(NUMBERS) do FIELDS[#TEXTS + index] = name end

-- The message as a table, or nil if there is none. `penalty` '' is: not yet decided.
local function load_message(tag)
  local values = call('HMGET', message_key(tag), unpack(FIELDS))
  if not values[1] then return nil end
  local message = {}
  for index, name in ipairs(TEXTS) do message[name] = values[index] end
  for index, name in ipairs(NUMBERS) do message[name] = tonumber(values[#TEXTS + index]) end
  return message
end

local function save(message, ...)
  local values = {}
  for _, name in ipairs({...}) do
    values[#values + 1] = name
    values[#values + 1] = message[name]
  end
  call('HSET', message_key(message.tag), unpack(values))
end

local function forget(message)
  call('DEL', message_key(message.tag), body_key(message.tag))
  -- A retried Celery task is published under its old id while the first message is still leased:
  -- the id then belongs to the newer message.
  if call('HGET', P .. 'tasks', message.task) == message.tag then call('HDEL', P .. 'tasks', message.task) end
end
