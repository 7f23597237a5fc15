-- Ordered rows of those who wait, one for each stand, lane and model, kept by tenant (policy/reference/rows.py).
local function waiting_key(row, tenant) return P .. 'waiting:' .. pair(tenant, row) end
local function heads_key(row) return P .. 'heads:' .. row end
local function parked_key(tenant) return P .. 'parked:' .. tenant end

local function place_of(row) return string.match(row, '^%a+:(.*)$') end

local function first_score(key)
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[1], tonumber(first[2])
end

-- How many wait at a place (a key of its own for each: a pick asks for many at once, and a small hash is searched from its
-- start for each field), or of a stand that is not live over all places (so that a pick need not look for it).
local function waits_key(name) return P .. 'waits:' .. name end

-- Returns how many wait at the place now.
local function count(stand, place, by)
  local row = stand .. ':' .. place
  if call('HINCRBY', P .. 'depth', row, by) <= 0 then call('HDEL', P .. 'depth', row) end
  if stand ~= 'live' and call('INCRBY', waits_key(stand), by) <= 0 then call('DEL', waits_key(stand)) end
  local waiting = call('INCRBY', waits_key(place), by)
  if waiting <= 0 then call('DEL', waits_key(place)) end
  return waiting
end

local function enter_row(message)
  local place = pair(message.lane, message.model)
  local row = message.stand .. ':' .. place
  local waiting = waiting_key(row, message.tenant)
  call('ZADD', waiting, message.score, message.tag)
  -- A parked tenant that comes up again is parked again by the next pick.
  if call('ZRANGE', waiting, 0, 0)[1] == message.tag then call('ZADD', heads_key(row), message.score, message.tenant) end
  count(message.stand, place, 1)
end

-- Returns how many still wait at its place.
local function leave_row(message)
  local place = pair(message.lane, message.model)
  local row = message.stand .. ':' .. place
  local waiting = waiting_key(row, message.tenant)
  call('ZREM', waiting, message.tag)
  local tag, score = first_score(waiting)
  if tag then
    call('ZADD', heads_key(row), 'XX', score, message.tenant)
  else
    call('ZREM', heads_key(row), message.tenant)
    call('SREM', parked_key(message.tenant), row)
  end
  return count(message.stand, place, -1)
end

-- The limits that hold for every message of a place. The tier is its lane's, what stands before the first dot.
local function names_of(place)
  local lane, model = lane_and_model(place)
  local tier = string.match(lane, '^([^.]+)%.')
  return {'p:' .. place, 'm:' .. model, 'l:' .. lane, 'b:' .. model, tier and 'c:' .. tier}
end

-- Wake a slot for every place where something waits under one of these names, or batch for that model.
local function ring_under(names, batch_of)
  local rung = {}
  for _, row in ipairs(call('HKEYS', P .. 'depth')) do
    local stand, place = string.match(row, '^(%a+):(.*)$')
    local _, model = lane_and_model(place)
    local wanted = stand == 'batch' and model == batch_of
    for _, name in ipairs(names_of(place)) do wanted = wanted or names[name] end
    if wanted and not rung[place] then
      rung[place] = true
      ring(place)
    end
  end
end

local function park(row, tenant)
  call('ZREM', heads_key(row), tenant)
  call('SADD', parked_key(tenant), row)
end

-- A tenant may be picked again: one of its slots is free, or its limit was changed.
local function unpark(tenant)
  local rows = call('SMEMBERS', parked_key(tenant))
  if not rows[1] then return end
  call('DEL', parked_key(tenant))
  for _, row in ipairs(rows) do
    local tag, score = first_score(waiting_key(row, tenant))
    if tag then call('ZADD', heads_key(row), score, tenant) end
    ring(place_of(row))
  end
end
