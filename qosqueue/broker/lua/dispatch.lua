-- dispatch: lease the message that runs next on a free slot.
-- KEYS 1 group. ARGV 1 now, 2 lease ms, 3 holder, 4 how many of the places are warm (their online work comes first),
--      5 number of places, then each place: the length of its lane's name, the lane, the model, joined by colons.
-- Result: {tag, fence, lane, model, task, lease until, arrival, payload, passage}; or, if nothing may run, the ms after which to
--         look again should no bell ring, -1 if nothing waits. The passage is what it met while it waited (passage.py).
-- Atomic: a message is leased to exactly one holder, and limits hold. O(places + log n); moves, and tenants and expired
-- messages passed over, are bounded. What has expired is left to reap, which tells of it.
assert(#ARGV == 5 + ARGV[5], 'dispatch takes as many places as it is told')
local now, lease_ms, warm = clock(), number_at(2, 0, C.LONGEST_MS), number_at(4, 0, tonumber(ARGV[5]))
-- One look where nothing is limited and nothing ever was.
local held = call('EXISTS', P .. 'limits', P .. 'caps', P .. 'held') > 0
local limited = held and call('EXISTS', P .. 'limits') == 1
local capped = held and call('EXISTS', P .. 'caps') == 1
if limited or capped then end_limits(now, C.DUE_PER_PICK) end
move_due(now, C.DUE_PER_PICK)

local asked = {waits_key('relegated'), waits_key('batch')}
for index = 6, #ARGV do asked[index - 3] = waits_key(ARGV[index]) end
local waits = call('MGET', unpack(asked))
local some = {live = true, relegated = waits[1], batch = waits[2]}

local passed_over, outdated = 0, false  -- whether fewer wait than was said above

-- Of these names, all of places or one of a tenant, those under which a limit lets nothing more begin. Nothing begins
-- during a pick: each is looked up once.
local reached, mosts = {}, {}

local function look_up(names)
  local limits, in_force = call('HMGET', limits_key(names[1]), unpack(names)), {}
  for index, name in ipairs(names) do
    local most, until_ms = string.match(limits[index] or '', '^(%d+):(%d+)$')
    reached[name] = false
    if most and (until_ms == '0' or tonumber(until_ms) > now) then
      in_force[#in_force + 1], mosts[name] = name, tonumber(most)
    end
  end
  if not in_force[1] then return end
  for index, running in ipairs(call('HMGET', P .. 'running', unpack(in_force))) do
    reached[in_force[index]] = tonumber(running or 0) >= mosts[in_force[index]]
  end
end

local function is_at_limit(tenant)
  if not capped then return false end
  local name = 't:' .. tenant
  if reached[name] == nil then look_up({name}) end
  return reached[name]
end

-- Those of the places where something waits that may run.
local function open_places(from, to)
  local waiting, names = {}, {}
  for index = from, to do
    local place = ARGV[5 + index]
    if waits[2 + index] then
      waiting[#waiting + 1] = place
      if limited then
        for _, name in ipairs(names_of(place)) do
          if reached[name] == nil then reached[name], names[#names + 1] = false, name end
        end
      end
    end
  end
  if names[1] then look_up(names) end
  if not limited then return waiting end
  local open = {}
  for _, place in ipairs(waiting) do
    local held = false
    for _, name in ipairs(names_of(place)) do held = held or reached[name] end
    if not held then open[#open + 1] = place end
  end
  return open
end

-- The first of a kind over some places.
local function head_of(kind, among)
  if not some[kind] then return nil end
  while true do
    local best
    for _, place in ipairs(among) do
      local tenant, score = first_score(heads_key(kind .. ':' .. place))
      if tenant and (not best or score < best.score) then best = {score = score, tenant = tenant, place = place} end
    end
    if not best or best.tenant == '' or not is_at_limit(best.tenant) then return best end
    if passed_over >= C.PASSED_OVER_PER_PICK then return nil end
    passed_over = passed_over + 1
    park(kind .. ':' .. best.place, best.tenant)
  end
end

-- The first of a kind that is still in its time to live. Orphans on the way are dropped.
local function message_of(kind, among)
  while true do
    local head = head_of(kind, among)
    if not head then return nil end
    local tag = call('ZRANGE', waiting_key(kind .. ':' .. head.place, head.tenant), 0, 0)[1]
    local message = load_message(tag)
    if message and not is_expired(now, message) then return message end
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

local function repay(served)
  local mean_ms = terms_of(served.model).mean_ms
  if mean_ms == 0 then mean_ms = C.DEFAULT_COST_MS end
  local credit = tonumber(call('HGET', P .. 'credit', served.model)) - served.cost_ms
  call('HSET', P .. 'credit', served.model, math.max(credit, 0 - C.MOST_OWED_SERVICES * mean_ms))
end

local function with_spare(places)
  local spare = {}
  for _, place in ipairs(places) do
    local _, model = lane_and_model(place)
    if has_spare(model) then spare[#spare + 1] = place end
  end
  return spare
end

local function first()
  local near, far = open_places(1, warm), open_places(warm + 1, tonumber(ARGV[5]))
  local relegated
  if some.relegated then
    local all = {unpack(near)}
    for _, place in ipairs(far) do all[#all + 1] = place end
    relegated = message_of('relegated', all)
    if relegated and tonumber(call('HGET', P .. 'credit', relegated.model) or 0) > 0 then
      repay(relegated)
      return relegated
    end
  end
  local live = message_of('live', near) or message_of('live', far)
  if live then
    if relegated then owe(relegated.model, live.cost_ms) end
    return live
  end
  -- Somebody online may wait behind those that were passed over: the next pick looks there.
  if passed_over >= C.PASSED_OVER_PER_PICK then return nil end
  if relegated or not some.batch then return relegated end
  return message_of('batch', with_spare(near)) or message_of('batch', with_spare(far))
end

local message = first()
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
local counts = call('MGET', pick_keys(message))
local passage = passage_of(now, message, counts, held)
count_pick(message, counts)
local left = leave_queue(message)
message.fence = message.fence + 1
call('HSET', message_key(message.tag), 'state', 'leased', 'fence', message.fence, 'attempts', message.attempts + 1,
  'holder', ARGV[3], 'started', now)
call('ZADD', P .. 'leases', until_ms, message.tag)
begin_running(now, message, mosts)
-- A bell wakes one slot: whoever picks wakes the next, as long as there is work. The caller's blocking read has taken one
-- token, of the first of its bells that had one: no bell behind the first that still has one can have lost its last.
local picked_at = pair(message.lane, message.model)
for index = 1, ARGV[5] do
  local place = ARGV[5 + index]
  if place == picked_at and left <= 0 then
    call('DEL', bell_key(place))
  elseif waits[2 + index] then
    if call('EXISTS', bell_key(place)) == 1 then break end
    ring(place)
  end
end
return {message.tag, message.fence, message.lane, message.model, message.task, until_ms, message.arrival,
  call('GET', body_key(message.tag)), passage}
