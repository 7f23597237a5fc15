-- What every script uses: the clock and the names of the keys. The scripts are functions of one library (broker/library.py
-- puts it together from these files), so that nothing is set up anew at each call but what begin() sets.
-- KEYS[1] is the group with its hash tag, e.g. "{qosqueue}"; every other key begins with it, so all stay in one slot.
-- ARGV[1] is the time in ms since the epoch, or '' for the server's own clock (only tests and simulations pass one).
-- C.<name> is a constant of qosqueue/policy/order.py: its value is put in its place before the library is sent.
-- Whole numbers only: x * y stays below 2^53, and math.floor(x / 2^n) is exact. A number is joined to a text with
-- whole(), since Lua's own conversion keeps 14 digits.
local KEYS, ARGV, P, call
local known_terms  -- of this call: see _claims.lua

local function begin(keys, arguments)
  KEYS, ARGV, P, call, known_terms = keys, arguments, keys[1] .. ':', redis.call, {}
end

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = call('TIME')
  return tonumber(time[1] .. string.sub(string.format('%06d', time[2]), 1, 3))  -- seconds, then the first three of six digits
end

local function whole(number) return string.format('%.0f', number) end

-- A whole number among the arguments, '' where `optional`. Looked at before anything is changed: what a script has done
-- when it fails stays done.
local function number_at(index, least, most, optional)
  if optional and ARGV[index] == '' then return nil end
  local number = tonumber(ARGV[index])
  if not number or number < least or number > most or number % 1 ~= 0 then
    error('argument ' .. index .. ' must be a whole number from ' .. least .. ' to ' .. whole(most) .. ', is ' .. ARGV[index])
  end
  return number
end

local function q10(number) return math.floor(number / 1024) end
local function q20(number) return math.floor(number / 1048576) end

local function message_key(tag) return P .. 'msg:' .. tag end
-- Whether the newest message of a task is still there.
local function has_message(task)
  local tag = call('HGET', P .. 'tasks', task)
  return tag and call('EXISTS', message_key(tag)) == 1
end
local function body_key(tag) return P .. 'body:' .. tag end
-- A name with its length in front: no two pairs of names give the same text, whatever characters they hold.
local function pair(first, second) return #first .. ':' .. first .. ':' .. second end
-- A place is pair(lane, model), a row a stand and a place.
local function bell_key(place) return P .. 'bell:' .. place end

-- Limits of tenants (caps) and of places stand apart: tenants may be thousands, every pick looks up the names of all its
-- places, and a hash of up to 128 fields is searched from its start for each.
local function limits_key(name) return P .. (string.sub(name, 1, 2) == 't:' and 'caps' or 'limits') end

local function lane_and_model(place)
  local length, rest = string.match(place, '^(%d+):(.*)$')
  return string.sub(rest, 1, length), string.sub(rest, length + 2)
end

local function ring(place)
  local bell = bell_key(place)
  if call('RPUSH', bell, '1') > C.BELL_DEPTH then call('LPOP', bell) end
end

-- The message as a table, or nil if there is none. `penalty` '' is: not yet decided. Written out: every pick pays for it.
local function load_message(tag)
  local v = call('HMGET', message_key(tag),
    'lane', 'model', 'task', 'tenant', 'organisation', 'state', 'stand', 'penalty', 'priority', 'batch',
    'budget_ms', 'predicted_ms', 'cost_ms', 'urgency', 'arrival', 'eta', 'number', 'expires', 'max_attempts',
    'in_profile', 'boost', 'boost_until', 'score', 'due', 'fence', 'attempts', 'started', 'cancel',
    'seen', 'seen_held')
  if not v[1] then return nil end
  return {
    tag = tag, lane = v[1], model = v[2], task = v[3], tenant = v[4], organisation = v[5], state = v[6],
    stand = v[7], penalty = v[8], priority = tonumber(v[9]), batch = tonumber(v[10]), budget_ms = tonumber(v[11]),
    predicted_ms = tonumber(v[12]), cost_ms = tonumber(v[13]), urgency = tonumber(v[14]),
    arrival = tonumber(v[15]), eta = tonumber(v[16]), number = tonumber(v[17]), expires = tonumber(v[18]),
    max_attempts = tonumber(v[19]), in_profile = tonumber(v[20]), boost = tonumber(v[21]),
    boost_until = tonumber(v[22]), score = tonumber(v[23]), due = tonumber(v[24]), fence = tonumber(v[25]),
    attempts = tonumber(v[26]), started = tonumber(v[27]), cancel = tonumber(v[28]),
    seen = v[29], seen_held = v[30],
  }
end

local function save(message, ...)
  local values = {}
  for _, name in ipairs({...}) do
    values[#values + 1] = name
    values[#values + 1] = message[name]
  end
  call('HSET', message_key(message.tag), unpack(values))
end
