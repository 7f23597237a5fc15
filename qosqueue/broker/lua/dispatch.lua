-- dispatch: lease the message that runs next on a free slot.
-- KEYS 1 group. ARGV 1 now, 2 lease ms, 3 holder, 4 how many of the places are warm (they come before the rest),
--      5 number of places, then each place: the length of its lane's name, the lane, the model, joined by colons.
-- Result: {tag, fence, lane, model, task, lease until, arrival, payload}; or, if nothing may run, the ms after which to
--         look again should no bell ring, -1 if nothing waits.
-- Atomic: a message is leased to exactly one holder, and limits hold. O(places + log n); moves, and tenants and expired
-- messages passed over, are bounded. What has expired is left to reap, which tells of it.
assert(#ARGV == 5 + ARGV[5], 'dispatch takes as many places as it is told')
local now, lease_ms, warm = clock(), number_at(2, 0, C.LONGEST_MS), number_at(4, 0, tonumber(ARGV[5]))
local limited = call('EXISTS', P .. 'limits') == 1
if limited then end_limits(now, C.DUE_PER_PICK) end
move_due(now, C.DUE_PER_PICK)

local asked = {waits_key('relegated'), waits_key('batch')}
for index = 6, #ARGV do asked[index - 3] = waits_key(ARGV[index]) end
local waits = call('MGET', unpack(asked))
local some = {live = true, relegated = waits[1], batch = waits[2]}

local passed_over, outdated = 0, false  -- whether fewer wait than was said above

-- Whether a limit lets nothing more begin under that name.
local function reached(name)
  if not limited then return false end
  local most, until_ms = string.match(call('HGET', P .. 'limits', name) or '', '^(%d+):(%d+)$')
  if not most or tonumber(until_ms) > 0 and tonumber(until_ms) <= now then return false end
  return tonumber(call('HGET', P .. 'running', name) or 0) >= tonumber(most)
end

local function is_open(place)
  if not limited then return true end
  for _, name in ipairs(names_of(place)) do
    if reached(name) then return false end
  end
  return true
end

-- The first of a kind over some places; `oldest` counts only its age, not its tier.
local function head_of(kind, among, oldest)
  if not some[kind] then return nil end
  while true do
    local best
    for _, place in ipairs(among) do
      local tenant, score = first_score(heads_key(kind .. ':' .. place))
      if tenant then
        if oldest then score = score % C.TIER_STEP end
        if not best or score < best.score then best = {score = score, tenant = tenant, kind = kind, place = place} end
      end
    end
    if not best or best.tenant == '' or not reached('t:' .. best.tenant) then return best end
    if passed_over >= C.PASSED_OVER_PER_PICK then return nil end
    passed_over = passed_over + 1
    park(kind .. ':' .. best.place, best.tenant)
  end
end

-- The first of a kind that is still in its time to live. Orphans on the way are dropped.
local function message_of(kind, among, oldest)
  while true do
    local head = head_of(kind, among, oldest)
    if not head then return nil end
    local tag = call('ZRANGE', waiting_key(kind .. ':' .. head.place, head.tenant), 0, 0)[1]
    local message = load_message(tag)
    if message and not is_late(now, message) then return message end
    if passed_over >= C.PASSED_OVER_PER_PICK then return nil end
    passed_over = passed_over + 1
    outdated = true
    if message then
      expire(message)
    else
      local lane, model = lane_and_model(head.place)
      leave_row({tag = tag, stand = kind, lane = lane, model = model, tenant = head.tenant})
      drop_orphan(tag, lane)
    end
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

local function first_among(from, to)
  local open = {}
  for index = from, to do
    local place = ARGV[5 + index]
    if waits[2 + index] and is_open(place) then open[#open + 1] = place end
  end
  if not open[1] then return nil end
  local relegated = message_of('relegated', open, true)
  if relegated and tonumber(call('HGET', P .. 'credit', relegated.model) or 0) > 0 then
    call('HINCRBY', P .. 'credit', relegated.model, -relegated.cost_ms)
    return relegated
  end
  local live = message_of('live', open)
  if live then
    if relegated then owe(relegated.model, live.cost_ms) end
    return live
  end
  if relegated then return message_of('relegated', open) end
  if not some.batch then return nil end
  local spare = {}
  for _, place in ipairs(open) do
    local _, model = lane_and_model(place)
    if has_spare(model) then spare[#spare + 1] = place end
  end
  return message_of('batch', spare)
end

local message = first_among(1, warm) or first_among(warm + 1, tonumber(ARGV[5]))
if outdated then waits = call('MGET', unpack(asked)) end

if not message then
  local bells, any = {}, false
  for index = 1, ARGV[5] do
    bells[index] = bell_key(ARGV[5 + index])
    any = any or waits[2 + index]
  end
  if bells[1] then call('DEL', unpack(bells)) end
  local again
  if passed_over >= C.PASSED_OVER_PER_PICK then again = 1 end
  if any then
    again = math.min(again or C.LOOK_AGAIN_MS, C.LOOK_AGAIN_MS)
    local _, ends = first_score(P .. 'ends')
    if ends then again = math.min(again, math.max(1, ends - now)) end
  end
  local _, eta = first_score(P .. 'later')
  if eta then again = math.min(again or math.huge, math.max(1, eta - now)) end
  return again or -1
end

local until_ms = now + lease_ms
leave_queue(message)
message.fence = message.fence + 1
call('HSET', message_key(message.tag), 'state', 'leased', 'fence', message.fence, 'attempts', message.attempts + 1,
  'holder', ARGV[3], 'started', now)
call('ZADD', P .. 'leases', until_ms, message.tag)
begin_running(message)
-- A bell wakes one slot: whoever picks wakes the next, as long as there is work. The caller's blocking read has taken one
-- token, of the first of its bells that had one: no bell behind the first that still has one can have lost its last.
local picked_at = pair(message.lane, message.model)
for index = 1, ARGV[5] do
  local place = ARGV[5 + index]
  if place == picked_at and call('EXISTS', waits_key(place)) == 0 then
    call('DEL', bell_key(place))
  elseif waits[2 + index] then
    if call('EXISTS', bell_key(place)) == 1 then break end
    ring(place)
  end
end
return {message.tag, message.fence, message.lane, message.model, message.task, until_ms, message.arrival,
  call('GET', body_key(message.tag))}
