-- Breakers of models and replicas (policy/breaker.py). One that is closed and has no score is not kept.
local BREAKER = {'score', 'since', 'until_ms', 'pause_ms', 'left', 'let_in'}

local function sound()
  return {state = 'closed', score = 0, since = 0, until_ms = 0, pause_ms = C.FIRST_PAUSE_MS, left = 0, let_in = 0}
end

local function load_breaker(name)
  local told = call('HGET', P .. 'breakers', name)
  if not told then return sound() end
  local values = {string.match(told, '^([%a_]+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+)$')}
  local breaker = {state = values[1]}
  for index, field in ipairs(BREAKER) do breaker[field] = tonumber(values[index + 1]) end
  return breaker
end

local function told_breaker(breaker)
  local told = breaker.state
  for _, field in ipairs(BREAKER) do told = told .. ':' .. whole(breaker[field]) end
  return told
end

local function opened(now, pause_ms)
  return {state = 'open', score = 0, since = now, until_ms = now + pause_ms, pause_ms = pause_ms, left = 0, let_in = 0}
end

-- Keep it; with another state than `before` a model's lets other numbers run from now on.
local function save_breaker(name, breaker, before)
  if breaker.state == 'closed' and breaker.score == 0 then
    call('HDEL', P .. 'breakers', name)
  else
    call('HSET', P .. 'breakers', name, told_breaker(breaker))
  end
  if breaker.state == before or string.sub(name, 1, 2) ~= 'm:' then return end
  local limit = 'b:' .. string.sub(name, 3)
  if breaker.state == 'closed' then
    call('HDEL', P .. 'limits', limit)
  else
    call('HSET', P .. 'limits', limit, (breaker.state == 'open' and '0' or whole(C.PROBES)) .. ':0')
  end
  local most = breaker.state == 'open' and 0 or breaker.state == 'half_open' and C.PROBES or nil
  set_reached(clock(), limit, most ~= nil and tonumber(call('HGET', P .. 'running', limit) or 0) >= most)
  let_begin(limit)
end

-- As time has made it; kept if that is another one.
local function look_at_breaker(now, name)
  local breaker = load_breaker(name)
  if breaker.state == 'closed' then return breaker end
  local before = told_breaker(breaker)
  local state = breaker.state
  if state == 'open' then
    -- A clock that went back makes no pause longer.
    breaker.until_ms = math.min(breaker.until_ms, now + breaker.pause_ms)
    if breaker.until_ms <= now then
      breaker.state, breaker.since, breaker.until_ms = 'half_open', now, now + C.PROBE_MS
      breaker.left, breaker.let_in = C.PROBES, 0
    end
  elseif state == 'half_open' and now - breaker.since > C.UNTRIED_MS then
    breaker = sound()
  elseif state == 'half_open' and (breaker.until_ms <= now or breaker.until_ms > now + C.PROBE_MS) then
    breaker.until_ms, breaker.let_in = now + C.PROBE_MS, 0
  end
  if told_breaker(breaker) ~= before then save_breaker(name, breaker, state) end
  return breaker
end

-- For how many ms the door lets nothing through.
local function opens_after(now, breaker)
  local full = breaker.state == 'half_open' and breaker.let_in >= C.PROBES
  return (breaker.state == 'open' or full) and math.max(1, breaker.until_ms - now) or 0
end

-- An attempt has ended; the state of this breaker now.
local function note_outcome(now, name, was_served)
  if was_served and call('HEXISTS', P .. 'breakers', name) == 0 then return 'closed' end
  local breaker = look_at_breaker(now, name)
  local before = breaker.state
  if was_served and before == 'closed' then
    if breaker.score > 1 then breaker.score = breaker.score - 1 else breaker = sound() end
  elseif was_served and before == 'half_open' then
    if breaker.left > 1 then breaker.left = breaker.left - 1 else breaker = sound() end
  elseif before == 'closed' then
    local score = now - breaker.since <= C.FORGOTTEN_MS and breaker.score or 0
    if score + C.FAULT_STEP < C.OPENS_AT then
      breaker.score, breaker.since = score + C.FAULT_STEP, now
    else
      breaker = opened(now, breaker.pause_ms)
    end
  elseif before == 'half_open' then
    breaker = opened(now, math.min(2 * breaker.pause_ms, C.LONGEST_PAUSE_MS))
  end
  save_breaker(name, breaker, before)
  return breaker.state
end
