-- What has been admitted, and what each request holds of which quota (policy/quota.py, policy/reference/door.py).
-- A hold ends with the message of its request: whoever ends that (forget) ends both, so nothing can be held for ever.
local MINUTE = {requests = true, tokens = true}
local DAY = {day_tokens = true, day_gpu_ms = true}
local PLAIN = {flight = true, queue = true, breaker = true}
local MOST_COUNTED = 2 ^ 52

-- An account is kind:name.
local function used_key(account) return P .. 'used:' .. account end
local function hold_key(request) return P .. 'hold:' .. request end
local function kind_of(account) return string.match(account, '^([%a_]+):') end

local function stored_use(account)
  local amount, since = string.match(call('GET', used_key(account)) or '', '^(%d+):(%d+)$')
  return tonumber(amount or 0), tonumber(since or 0)
end

-- What is used now, and the instant (the day) that it is of.
local function used_now(now, account, most)
  local kind, amount, since = kind_of(account), stored_use(account)
  if MINUTE[kind] then return amount - math.min(amount, math.max(0, now - since) * most), now end
  if DAY[kind] then
    local today = now - now % C.DAY_MS
    if since < today then return 0, today end
    -- A clock that went back over midnight keeps the day; one that went further back keeps what was used.
    return amount, since > today + C.DAY_MS and today or since
  end
  return amount, since
end

local function put_use(account, amount, since)
  if amount <= 0 then
    call('DEL', used_key(account))
    return
  end
  local told, kind = whole(math.min(amount, MOST_COUNTED)) .. ':' .. whole(since), kind_of(account)
  if MINUTE[kind] then
    call('SET', used_key(account), told, 'PX', C.MINUTE_KEPT_MS)
  elseif DAY[kind] then
    call('SET', used_key(account), told, 'PX', C.DAY_KEPT_MS)
  else
    call('SET', used_key(account), told)
  end
end

local function scaled(account, amount) return MINUTE[kind_of(account)] and amount * C.MINUTE_MS or amount end

-- For each account that a request holds something of: the account, how much, how much there was in all, of which day.
local function held_by(request)
  local held, fields = {}, call('HGETALL', hold_key(request))
  for index = 1, #fields, 2 do
    local amount, most, since = string.match(fields[index + 1], '^(%d+):(%d+):(%d+)$')
    held[#held + 1] = {account = fields[index], amount = tonumber(amount), most = tonumber(most), since = tonumber(since)}
  end
  return held
end

local function take_back(held) put_use(held.account, stored_use(held.account) - held.amount, 0) end

-- Less used at its own instant is less used now: no clock is needed, and nothing is given twice.
local function give_back_use(held)
  local amount, since = stored_use(held.account)
  if MINUTE[kind_of(held.account)] or since == held.since then
    put_use(held.account, amount - scaled(held.account, held.amount), since)
  end
end

-- The request is over: unless it was served, everything is given back; what was served and never settled keeps what was
-- estimated. 1, or 0 if it holds nothing.
local function end_hold(request, was_served)
  if call('ZREM', P .. 'holds', request) == 0 then return 0 end
  for _, held in ipairs(held_by(request)) do
    local kind = kind_of(held.account)
    if not MINUTE[kind] and not DAY[kind] then
      take_back(held)
    elseif not was_served then
      give_back_use(held)
    end
  end
  call('DEL', hold_key(request))
  return 1
end

-- The request was served: the difference between what it took and what it has spent is settled. 1, or 0 as above.
local function settle_hold(now, request, tokens, gpu_ms)
  if call('ZREM', P .. 'holds', request) == 0 then return 0 end
  local spent = {tokens = tokens, day_tokens = tokens, day_gpu_ms = gpu_ms}
  for _, held in ipairs(held_by(request)) do
    local kind = kind_of(held.account)
    local actual = spent[kind]
    if not MINUTE[kind] and not DAY[kind] then
      take_back(held)
    elseif actual and actual ~= held.amount then
      -- More used counts from now on, so what was used is drained first; a day that is over is left alone.
      local amount, since = used_now(now, held.account, held.most)
      if MINUTE[kind] or since == held.since then
        put_use(held.account, amount + scaled(held.account, actual - held.amount), since)
      end
    end
  end
  call('DEL', hold_key(request))
  return 1
end

-- A retried Celery task is published under its old id while the first message is still leased: the id then belongs to
-- the newer message, and so does what is held under it.
local function is_last_of_its_task(message) return call('HGET', P .. 'tasks', message.task) == message.tag end

-- The message is gone for good, and what its request held with it. `spent` is what a served one has used: {tokens, ms of
-- slots}, if that is known.
local function forget(message, now, was_served, spent)
  call('DEL', message_key(message.tag), body_key(message.tag))
  if not is_last_of_its_task(message) then return end
  call('HDEL', P .. 'tasks', message.task)
  if spent then
    settle_hold(now, message.task, spent[1], spent[2])
  else
    end_hold(message.task, was_served)
  end
end

-- Its last attempt is over: it is kept with its payload, but its request has ended.
local function bury(now, message)
  call('HSET', message_key(message.tag), 'state', 'dead')
  call('ZADD', P .. 'dead', now, message.tag)
  if is_last_of_its_task(message) then end_hold(message.task, false) end
end
