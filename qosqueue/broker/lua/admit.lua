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

local answer, fits = {1, now}, true
for index, quota in ipairs(quotas) do
  if quota.kind == 'breaker' then
    quota.breaker = look_at_breaker(now, quota.name)
    answer[index + 2] = opens_after(now, quota.breaker)
    fits = fits and answer[index + 2] == 0
  else
    quota.used, quota.since = used_now(now, quota.account, quota.most)
    quota.running = quota.kind == 'queue' and tonumber(call('HGET', P .. 'running', quota.name) or 0) or 0
    local used = math.max(0, quota.used - quota.running)
    answer[index + 2] = used
    fits = fits and used + scaled(quota.account, quota.amount) <= scaled(quota.account, quota.most)
  end
end
if call('ZSCORE', P .. 'holds', request) then return answer end
if not fits then
  answer[1] = 0
  return answer
end
local held = {}
for index, quota in ipairs(quotas) do
  local breaker = quota.breaker
  if not breaker then
    local used = math.min(quota.used + scaled(quota.account, quota.amount), MOST_COUNTED)
    put_use(quota.account, used, quota.since)
    answer[index + 2] = math.max(0, used - quota.running)
    local day = DAY[quota.kind] and quota.since or 0
    held[#held + 1] = quota.account
    held[#held + 1] = whole(quota.amount) .. ':' .. whole(quota.most) .. ':' .. whole(day)
  elseif breaker.state == 'half_open' then
    breaker.let_in = breaker.let_in + 1
    save_breaker(quota.name, breaker, breaker.state)
    answer[index + 2] = opens_after(now, breaker)
  end
end
if held[1] then call('HSET', hold_key(request), unpack(held)) end
call('ZADD', P .. 'holds', now + C.HOLD_MS, request)
return answer
