-- admit: take what a request needs of all its quotas, or nothing of any.
-- KEYS 1 group. ARGV 1 now, 2 request id, then for each quota its name, kind, how much there is, how much is taken.
--      Kinds: requests, tokens (a minute); day_tokens, day_gpu_ms (a UTC day); flight (accepted and not ended); queue (of
--      those the ones that do not run under the limit of that name); breaker (0 and 0: does it let anything through?).
-- Result: {1 admitted (also if it was before), 0 refused, now, of each quota what is used: a minute's in 1/60000, with the
--         request's own part if it was admitted; of a breaker the ms for which it lets nothing through}.
-- Atomic: check all, then commit all. What was taken is kept under the id until the message of that id is gone, or, if it is
-- never queued, until lapse finds it.
assert(#ARGV % 4 == 2, 'admit takes a request and four arguments for each quota')
local quotas, seen = {}, {}
for index = 3, #ARGV, 4 do
  local kind, account = ARGV[index + 1], ARGV[index + 1] .. ':' .. ARGV[index]
  assert(MINUTE[kind] or DAY[kind] or PLAIN[kind], 'admit takes no quota of that kind')
  assert(not seen[account], 'admit takes each quota once')
  seen[account] = true
  quotas[#quotas + 1] = {
    name = ARGV[index], kind = kind, account = account,
    most = number_at(index + 2, 0, C.LARGEST_AMOUNT), amount = number_at(index + 3, 0, C.LARGEST_AMOUNT),
  }
end
local now, request = clock(), ARGV[2]

local function look(quota)
  if quota.kind == 'breaker' then return opens_after(now, look_at_breaker(now, quota.name)) end
  local used = used_now(now, quota.account, quota.most)
  if quota.kind ~= 'queue' then return used end
  return math.max(0, used - tonumber(call('HGET', P .. 'running', quota.name) or 0))
end

local answer, fits = {1, now}, true
for index, quota in ipairs(quotas) do
  local used = look(quota)
  answer[index + 2] = used
  if quota.kind == 'breaker' then
    fits = fits and used == 0
  else
    fits = fits and used + scaled(quota.account, quota.amount) <= scaled(quota.account, quota.most)
  end
end
if call('ZSCORE', P .. 'holds', request) then return answer end
if not fits then
  answer[1] = 0
  return answer
end
for index, quota in ipairs(quotas) do
  if quota.kind == 'breaker' then
    local breaker = load_breaker(quota.name)
    if breaker.state == 'half_open' then
      breaker.let_in = breaker.let_in + 1
      save_breaker(quota.name, breaker, breaker.state)
    end
  else
    local used, since = used_now(now, quota.account, quota.most)
    put_use(quota.account, used + scaled(quota.account, quota.amount), since)
    local day = DAY[quota.kind] and since or 0
    call('HSET', hold_key(request), quota.account, whole(quota.amount) .. ':' .. whole(quota.most) .. ':' .. whole(day))
  end
  answer[index + 2] = look(quota)
end
call('ZADD', P .. 'holds', now + C.HOLD_MS, request)
return answer
