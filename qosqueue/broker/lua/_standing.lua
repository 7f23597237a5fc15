-- How a queued message stands, and what time changes about it (policy/reference/standing.py).
local function tier_of(priority)
  return priority <= C.TIER_LAST[1] and 0 or priority <= C.TIER_LAST[2] and 1 or 2
end

local function urgency_of(budget_ms) return math.floor(C.Q30 / math.max(C.SHORTEST_BUDGET_MS, budget_ms)) end

-- Past its time to live: it must not run any more.
local function is_expired(now, message) return message.expires > 0 and message.expires <= now end

-- Its penalty (ms), decided when it is first asked for.
local function charged(now, message, priority)
  if message.penalty == '' then
    message.penalty, message.in_profile = charge(now, message, terms_of(message.model), tier_of(priority))
  end
  return message.penalty
end

-- Whether a vip request, no batch, on its first attempt and not beyond a contract, missed its start budget.
local function has_missed(now, message, priority)
  if message.budget_ms == 0 or message.batch == 1 or message.fence > 0 then return false end
  if tier_of(message.priority) > 0 or now <= message.arrival + message.budget_ms then return false end
  charged(now, message, priority)
  return message.in_profile == 1 or contract_of(message.organisation) == 0
end

-- The stand of a message, and the instant at which time changes it (0: never).
local function stand_of(now, message, priority)
  if is_expired(now, message) then return 'expired', 0 end
  if message.eta > now then return 'later', 0 end
  if message.budget_ms == 0 then return 'live', 0 end
  local joins = message.arrival + math.floor(message.budget_ms / C.SHARE_OF_BATCH_WINDOW)
  if message.batch == 1 and now < joins then return 'batch', joins end
  -- It was in time once and lost its worker: it goes back to its place, not behind everybody.
  if message.fence > 0 then return 'live', 0 end
  local too_late = message.arrival + message.budget_ms + 1
  if now < too_late then return 'live', too_late end
  return has_missed(now, message, priority) and 'live' or 'relegated', 0
end

-- So much after the end of its start budget a message stands that is no common one.
local function late_ms_of(now, message, priority)
  local base_ms = terms_of(message.model).base_ms
  if message.stand == 'live' and message.batch == 1 and message.budget_ms > 0 then return base_ms * C.LATE_BATCH end
  return has_missed(now, message, priority) and math.floor(base_ms / C.LATE_PART) or 0
end

local function score_of(now, message, priority, late_ms)
  if message.stand == 'relegated' then
    local key = message.arrival + tier_of(priority) * C.RELEGATED_STEP_MS
    return math.min(key, C.LATEST_KEY_MS) * C.SAME_MS + message.number
  end
  if message.stand == 'batch' then
    return math.min(message.arrival + message.budget_ms, C.LATEST_KEY_MS) * C.SAME_MS + message.number
  end
  local penalty, key = charged(now, message, priority), nil
  if late_ms > 0 then
    key = message.arrival + message.budget_ms + late_ms + penalty
  elseif message.budget_ms == 0 then
    key = message.arrival + C.PLAIN_STEP_MS * priority
  else
    local size = 0
    if priority >= C.SIZED_FROM and message.in_profile == 0 then size = q10(message.cost_ms * terms_of(message.model).size_q10) end
    key = message.arrival + q10(message.budget_ms * C.LEAD_Q10[priority + 1]) + size + penalty
  end
  return math.min(key, C.LATEST_KEY_MS) * C.SAME_MS + message.number
end

local function stand(now, message)
  local boosted, due = message.boost_until > now, nil
  local priority = boosted and message.boost or message.priority
  message.stand, due = stand_of(now, message, priority)
  if message.stand == 'later' then
    message.due = 0
    call('ZADD', P .. 'later', message.eta, message.tag)
    return
  end
  if message.stand == 'expired' then
    message.due = 0
    return
  end
  message.eta = 0
  if message.boost_until > 0 and not boosted then
    message.boost_until = 0
    save(message, 'boost_until')
  end
  local late_ms = late_ms_of(now, message, priority)
  -- It claims as one with a later deadline does: what is late must not close the door for those behind it.
  message.urgency = urgency_of(message.budget_ms + late_ms)
  message.score = score_of(now, message, priority, late_ms)
  if boosted then due = due > 0 and math.min(due, message.boost_until) or message.boost_until end
  message.due = due
  if due > 0 then call('ZADD', P .. 'due', due, message.tag) end
  enter_row(message)
  if message.stand == 'live' then add_claim(message) end
  ring(pair(message.lane, message.model))
end

-- Write down what `stand` has set, and the state.
local function save_standing(message)
  call('HSET', message_key(message.tag), 'state', message.state, 'stand', message.stand, 'eta', message.eta,
    'due', message.due, 'score', message.score, 'urgency', message.urgency, 'penalty', message.penalty,
    'in_profile', message.in_profile)
end

-- Returns how many still wait at its place, nil if it did not wait there.
local function unstand(message)
  if message.stand == 'later' then
    call('ZREM', P .. 'later', message.tag)
    return nil
  end
  if message.stand == 'expired' then return nil end
  if message.due > 0 then call('ZREM', P .. 'due', message.tag) end
  if message.stand == 'live' then remove_claim(message) end
  return leave_row(message)
end

-- Pass over for good what is past its time to live: it stays where the next sweep finds it.
local function expire(message)
  unstand(message)
  message.stand, message.due = 'expired', 0
  save(message, 'stand', 'due')
end

-- Without writing down how it stands.
local function join_queue(now, message)
  message.state = 'queued'
  call('ZADD', P .. 'arrivals:' .. message.lane, message.arrival, message.tag)
  if message.expires > 0 then call('ZADD', P .. 'expiry', message.expires, message.tag) end
  stand(now, message)
end

local function enter_queue(now, message)
  join_queue(now, message)
  save_standing(message)
end

local function leave_queue(message)
  call('ZREM', P .. 'arrivals:' .. message.lane, message.tag)
  if message.expires > 0 then call('ZREM', P .. 'expiry', message.tag) end
  return unstand(message)
end

-- It leaves the queue without service: its contract pays nothing for it.
local function drop(message)
  leave_queue(message)
  give_back(0, message, message.cost_ms)
  forget(message)
end

-- What an index still names but whose message is gone (a key that somebody deleted) must not stop anybody for ever.
local function drop_orphan(tag, lane)
  for _, index in ipairs({'expiry', 'leases', 'dead', 'later', 'due', 'arrivals:' .. lane}) do
    call('ZREM', P .. index, tag)
  end
end

local function up_to(index, score, limit) return call('ZRANGEBYSCORE', P .. index, '-inf', score, 'LIMIT', 0, limit) end

-- Let be picked what a limit held back that was changed or is over.
local function let_begin(name)
  if string.sub(name, 1, 2) == 't:' then unpark(string.sub(name, 3)) else ring_under({[name] = true}) end
end

-- Without limits there is nothing to end: the caller looks before.
local function end_limits(now, limit)
  for _, name in ipairs(up_to('ends', now, limit)) do
    call('ZREM', P .. 'ends', name)
    call('HDEL', limits_key(name), name)
    set_reached(now, name, false)
    let_begin(name)
  end
end

local save_arrival  -- _passage.lua

-- Make up to `limit` moves of each kind that time has brought: four lists of task ids.
local function move_due(now, limit)
  local woken, joined, relegated, boost_ended, missed = {}, {}, {}, {}, {}
  for _, index in ipairs({'later', 'due'}) do
    for _, tag in ipairs(up_to(index, now, limit)) do
      local message = load_message(tag)
      if message then
        local before, ends = message.stand, message.boost_until
        unstand(message)
        stand(now, message)
        save_standing(message)
        -- Until its ETA it waited for nobody.
        if index == 'later' then save_arrival(now, message) end
        -- Nothing but the end of its boost, or a missed budget of vip, leaves a message in its stand.
        local list = index == 'later' and woken
          or before == message.stand and (ends > 0 and ends <= now and boost_ended or missed)
          or message.stand == 'relegated' and relegated or joined
        if message.stand ~= 'expired' or list == woken then list[#list + 1] = message.task end
      else
        drop_orphan(tag, '')
      end
    end
  end
  return {woken, joined, relegated, boost_ended, missed}
end

local function counted(message)
  local names = names_of(pair(message.lane, message.model))
  if message.tenant ~= '' then names[#names + 1] = 't:' .. message.tenant end
  return names
end

-- One more or one less runs under each of these names; how many do now. Two or three commands, however many names.
local function count_running(names, by)
  local running, kept, gone = {}, {}, {}
  for index, told in ipairs(call('HMGET', P .. 'running', unpack(names))) do
    local name, number = names[index], tonumber(told or 0) + by
    running[name] = number
    if number > 0 then
      kept[#kept + 1], kept[#kept + 2] = name, number
    else
      gone[#gone + 1] = name
    end
  end
  if kept[1] then call('HSET', P .. 'running', unpack(kept)) end
  if gone[1] then call('HDEL', P .. 'running', unpack(gone)) end
  return running
end

-- `mosts` are the limits that are in force, of these names at least.
local function begin_running(now, message, mosts)
  for name, running in pairs(count_running(counted(message), 1)) do
    if mosts[name] and running >= mosts[name] then set_reached(now, name, true) end
  end
end

-- Whoever is idle knows nothing of the limits that the end of an attempt has opened, nor of slots that batch may have
-- again: wake one slot wherever that lets something begin.
local function ring_opened(message, running)
  local opened, names = {}, names_of(pair(message.lane, message.model))
  for index, told in ipairs(call('HMGET', P .. 'limits', unpack(names))) do
    local name, most = names[index], string.match(told or '', '^(%d+):')
    if most and running[name] == most - 1 then opened[name] = true end
  end
  local terms = terms_of(message.model)
  local batch = terms.slots > 0 and terms.slots - running['m:' .. message.model] == terms.spare + 1
  if batch or next(opened) then ring_under(opened, batch and message.model or nil) end
end

local function end_lease(now, message)
  call('ZREM', P .. 'leases', message.tag)
  local names = counted(message)
  local running = count_running(names, -1)
  -- One look where nothing is limited and nothing waits for spare slots.
  if call('EXISTS', P .. 'held', P .. 'limits', waits_key('batch'), parked_key(message.tenant)) == 0 then return end
  if call('EXISTS', P .. 'held') == 1 then let_go(now, names, running) end
  if call('EXISTS', P .. 'limits', waits_key('batch')) > 0 then ring_opened(message, running) end
  unpark(message.tenant)
end
