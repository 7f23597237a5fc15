#!lua flags=allow-oom
-- dispatch: lease the message that runs next on a free slot.
-- KEYS 1 group. ARGV 1 now, 2 lease ms, 3 holder, 4 how many of the places are warm (they come before the rest),
--      5 number of places, then lane and model of each place.
-- Result: {tag, fence, lane, model, task, lease until, arrival, payload}; or, if nothing may run, the ms after which to
--         look again should no bell ring, -1 if nothing waits.
-- Atomic: a message is leased to exactly one holder, and limits hold. O(places + log n); moves and tenants passed over
-- are bounded.
assert(#ARGV == 5 + 2 * ARGV[5], 'dispatch takes a lane and a model for each place')
local now = clock()
move_due(now, C.DUE_PER_PICK)

local places, rows = {}, {}
local STANDS = {'live', 'relegated', 'batch'}
for index = 6, #ARGV, 2 do
  local lane, model = ARGV[index], ARGV[index + 1]
  local place = {lane = lane, model = model, depth = {}}
  places[#places + 1] = place
  for _, each in ipairs(STANDS) do
    place[each] = row_of(each, lane, model)
    rows[#rows + 1] = place[each]
  end
end
local depths = rows[1] and call('HMGET', P .. 'depth', unpack(rows)) or {}
local limited = call('EXISTS', P .. 'limits') == 1
for number, place in ipairs(places) do
  for offset, each in ipairs(STANDS) do place.depth[each] = tonumber(depths[3 * (number - 1) + offset] or 0) end
  place.waits = place.depth.live + place.depth.relegated + place.depth.batch > 0
end

local passed_over, opens = 0, nil

-- Whether a limit lets nothing more begin under that name; and until when (0: no end is known).
local function reached(name)
  if not limited then return false end
  local most, until_ms = string.match(call('HGET', P .. 'limits', name) or '', '^(%d+):(%d+)$')
  if not most or tonumber(until_ms) > 0 and tonumber(until_ms) <= now then return false end
  if tonumber(call('HGET', P .. 'running', name) or 0) < tonumber(most) then return false end
  return true, tonumber(until_ms)
end

local function is_open(place)
  if not place.waits then return false end
  for _, name in ipairs({'p:' .. pair(place.lane, place.model), 'm:' .. place.model, 'l:' .. place.lane}) do
    local closed, until_ms = reached(name)
    if closed then
      if until_ms > 0 then opens = opens and math.min(opens, until_ms) or until_ms end
      return false
    end
  end
  return true
end

-- The first of a kind over some places; `oldest` counts only its age, not its tier.
local function head_of(kind, among, oldest)
  while true do
    local best
    for _, place in ipairs(among) do
      if place.depth[kind] > 0 then
        local tenant, score = first_score(heads_key(place[kind]))
        if tenant then
          if oldest then score = score % C.TIER_STEP end
          if not best or score < best.score then best = {score = score, tenant = tenant, row = place[kind], place = place} end
        end
      end
    end
    if not best or best.tenant == '' or not reached('t:' .. best.tenant) then return best end
    if passed_over >= C.PARKED_PER_PICK then return nil end
    passed_over = passed_over + 1
    park(best.row, best.tenant)
  end
end

-- The head's message. Orphans on the way are dropped: their row is looked at again by the caller.
local function message_of(head)
  local tag = call('ZRANGE', waiting_key(head.row, head.tenant), 0, 0)[1]
  local message = load_message(tag)
  if message then return message end
  local kind = string.match(head.row, '^[^:]*')
  leave_row({tag = tag, stand = kind, lane = head.place.lane, model = head.place.model, tenant = head.tenant})
  drop_orphan(tag, head.place.lane)
  head.place.depth[kind] = head.place.depth[kind] - 1
end

local ORPHANS_AT_MOST = 100
local function whole_head(kind, among, oldest)
  for _ = 1, ORPHANS_AT_MOST do
    local head = head_of(kind, among, oldest)
    if not head then return nil end
    head.message = message_of(head)
    if head.message then return head end
  end
end

local function has_spare(model)
  local terms = terms_of(model)
  if terms.slots == 0 then return true end
  return terms.slots - tonumber(call('HGET', P .. 'running', 'm:' .. model) or 0) > terms.spare
end

local function owe(model, served_ms)
  local most = math.max(C.LEAST_CREDIT_MS, terms_of(model).credit_ms)
  local credit = tonumber(call('HGET', P .. 'credit', model) or 0)
  call('HSET', P .. 'credit', model, math.min(credit + q10(served_ms * C.FLOOR_Q10), most))
end

local function first_among(candidates)
  local open = {}
  for _, place in ipairs(candidates) do
    if is_open(place) then open[#open + 1] = place end
  end
  if not open[1] then return nil end
  local relegated = head_of('relegated', open, true)
  if relegated and tonumber(call('HGET', P .. 'credit', relegated.place.model) or 0) > 0 then
    local owed = whole_head('relegated', open, true)
    if owed then
      call('HINCRBY', P .. 'credit', owed.message.model, -owed.message.cost_ms)
      return owed
    end
  end
  local live = whole_head('live', open)
  if live then
    if relegated then owe(relegated.place.model, live.message.cost_ms) end
    return live
  end
  if relegated then return whole_head('relegated', open) end
  local spare = {}
  for _, place in ipairs(open) do
    if place.depth.batch > 0 and has_spare(place.model) then spare[#spare + 1] = place end
  end
  return whole_head('batch', spare)
end

local warm, cold = {}, {}
for number, place in ipairs(places) do
  local list = number <= tonumber(ARGV[4]) and warm or cold
  list[#list + 1] = place
end
local chosen = first_among(warm) or first_among(cold)

if not chosen then
  local bells, waits = {}, false
  for _, place in ipairs(places) do
    bells[#bells + 1] = bell_key(place.lane, place.model)
    waits = waits or place.waits
  end
  if bells[1] then call('DEL', unpack(bells)) end
  local again
  if passed_over >= C.PARKED_PER_PICK then again = 1 end
  if waits then
    again = math.min(again or C.LOOK_AGAIN_MS, C.LOOK_AGAIN_MS)
    if opens then again = math.min(again, opens - now) end
  end
  local _, eta = first_score(P .. 'later')
  if eta then again = math.min(again or math.huge, math.max(1, eta - now)) end
  return again or -1
end

local message = chosen.message
local until_ms = now + ARGV[2]
leave_queue(message)
chosen.place.depth[message.stand] = chosen.place.depth[message.stand] - 1
message.state, message.fence, message.attempts = 'leased', message.fence + 1, message.attempts + 1
message.holder, message.started = ARGV[3], now
save(message, 'state', 'fence', 'attempts', 'holder', 'started')
call('ZADD', P .. 'leases', until_ms, message.tag)
begin_running(message)
-- A bell wakes one slot: whoever picks wakes the next, as long as there is work. Bells of empty places go at once.
local idle = {}
for _, place in ipairs(places) do
  local bell = bell_key(place.lane, place.model)
  if place.depth.live + place.depth.relegated + place.depth.batch == 0 then
    idle[#idle + 1] = bell
  elseif call('EXISTS', bell) == 0 then
    ring(place.lane, place.model)
  end
end
if idle[1] then call('DEL', unpack(idle)) end
return {message.tag, message.fence, message.lane, message.model, message.task, until_ms, message.arrival,
  call('GET', body_key(message.tag))}
