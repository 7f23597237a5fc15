-- observe: tell breakers how an attempt ended.
-- KEYS 1 group. ARGV 1 now, 2 served: 1, or 0 if the engine has failed it (a fault of the client is neither), then names.
-- Result: for each name the state of its breaker now.
assert(#ARGV >= 3, 'observe takes an outcome and at least one breaker')
local now, was_served, states = clock(), number_at(2, 0, 1) == 1, {}
for index = 3, #ARGV do
  local name = ARGV[index]
  if was_served and call('HEXISTS', P .. 'breakers', name) == 0 then
    states[#states + 1] = 'closed'
  else
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
    states[#states + 1] = breaker.state
  end
end
return states
