-- For how long could nothing more begin under the name of a limit (policy/reference/held.py)? A running total by name, kept
-- at the instants at which that changes: a request's part of it is the difference of two readings, so no pick has to write
-- anything down for those that it passes over. `held` is name -> 'total ms:since when (0: it is free)'.
local function held_of(told)
  local total, since = string.match(told or '', '^(%d+):(%d+)$')
  return tonumber(total or 0), tonumber(since or 0)
end

local function set_reached(now, name, is_reached)
  local total, since = held_of(call('HGET', P .. 'held', name))
  if is_reached == (since > 0) then return end
  if is_reached then
    call('HSET', P .. 'held', name, whole(total) .. ':' .. whole(now))
  else
    call('HSET', P .. 'held', name, whole(total + math.max(0, now - since)) .. ':0')
  end
end

-- Of these names, those that are no longer reached, now that fewer run under them.
local function let_go(now, names, running)
  for index, told in ipairs(call('HMGET', P .. 'held', unpack(names))) do
    local name, _, since = names[index], held_of(told)
    if since > 0 then
      local most = string.match(call('HGET', limits_key(name), name) or '', '^(%d+):')
      if not most or running[name] < tonumber(most) then set_reached(now, name, false) end
    end
  end
end

-- The totals of a message's names now: of its place, model, lane, tier, tenant, and its model's breaker.
local function held_ms(now, names)
  local by = {p = 0, m = 0, l = 0, c = 0, t = 0, b = 0}
  for index, told in ipairs(call('HMGET', P .. 'held', unpack(names))) do
    local total, since = held_of(told)
    if since > 0 then total = total + math.max(0, now - since) end
    by[string.sub(names[index], 1, 1)] = total
  end
  return {by.p, by.m, by.l, by.c, by.t, by.b}
end
