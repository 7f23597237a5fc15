-- What an organisation claims of a pool, and what joining the order costs its next request
-- (policy/reference/claims.py).
local TERMS = {'slots', 'spare', 'mean_ms', 'size_q10', 'slope_q20', 'base_ms', 'burst_ms', 'credit_ms'}

local function terms_of(model)
  local terms = known_terms[model]
  if not terms then
    terms = {}
    local values = call('HMGET', P .. 'pool:' .. model, unpack(TERMS))
    for index, name in ipairs(TERMS) do terms[name] = tonumber(values[index] or 0) end
    known_terms[model] = terms
  end
  return terms
end

local function claim(cost_ms, urgency) return q20(cost_ms * urgency) end

local function add_claim(message)
  if message.organisation == '' then return end
  call('HINCRBY', P .. 'claims', pair(message.organisation, message.model), claim(message.cost_ms, message.urgency))
end

-- `0 - x`, not `-x`: Redis 7.0 writes a negative zero as "-0", which is no integer to it.
local function remove_claim(message)
  if message.organisation == '' then return end
  local account = pair(message.organisation, message.model)
  if call('HINCRBY', P .. 'claims', account, 0 - claim(message.cost_ms, message.urgency)) <= 0 then
    call('HDEL', P .. 'claims', account)
  end
end

-- What is in a contract's bucket, at which instant, and the most that it holds. Tokens are 1/1024 ms of one slot.
local function bucket(now, message, terms, contract)
  local account = pair(message.organisation, message.model)
  local rate = contract * terms.slots
  local most = rate * terms.burst_ms
  local tokens, since = string.match(call('HGET', P .. 'tokens', account) or '', '^(-?%d+):(%d+)$')
  tokens, since = tonumber(tokens or most), tonumber(since or now)
  local elapsed = math.min(math.max(0, now - since), terms.burst_ms)
  -- The clock that went back gives nothing twice.
  return math.min(tokens + elapsed * rate, most), math.max(now, since), most
end

local function save_bucket(message, tokens, since)
  call('HSET', P .. 'tokens', pair(message.organisation, message.model), whole(tokens) .. ':' .. whole(since))
end

-- Take a message's cost out of its contract's bucket, if it is there.
local function take_tokens(now, message, terms, contract)
  local tokens, since = bucket(now, message, terms, contract)
  local cost = message.cost_ms * 1024
  local fits = cost <= tokens
  save_bucket(message, fits and tokens - cost or tokens, since)
  return fits
end

-- The contracted share of an organisation, 0 without one.
local function contract_of(organisation)
  return tonumber(string.match(call('HGET', P .. 'shares', organisation) or '', '^(%d+):') or 0)
end

-- Put back into its contract's bucket what a message that was in profile did not use (ms of one slot; less than 0: it used
-- more). With `now` 0 the bucket is left at its instant: what only grows needs no clock. Who used more than it said may owe
-- the bucket as much as it holds: small predictions buy nothing.
local function give_back(now, message, unused_ms)
  if message.in_profile == 0 then return end
  local contract = contract_of(message.organisation)
  local terms = terms_of(message.model)
  if contract == 0 or terms.slots == 0 then return end
  local tokens, since, most = bucket(now, message, terms, contract)
  save_bucket(message, math.min(math.max(0 - most, tokens + unused_ms * 1024), most), since)
end

-- What joining now costs a message in place: its penalty (ms), and 1 if it fits its contract, else 0. With other shares it
-- is charged again for what was claimed before it when it joined, and what was in profile stays so.
local function charge(now, message, terms, tier)
  if message.organisation == '' or message.budget_ms == 0 or terms.slots == 0 then return 0, 0 end
  local contract, allowed, steepness =
    string.match(call('HGET', P .. 'shares', message.organisation) or '0::1024', '^(%d+):(%d*):(%d+)$')
  contract = tonumber(contract)
  -- Not among the fields that each pick reads; what is just being submitted (false) has none yet.
  local claimed = message.claimed
  if claimed == nil then claimed = tonumber(call('HGET', message_key(message.tag), 'claimed') or '') end
  if not claimed then
    claimed = tonumber(call('HGET', P .. 'claims', pair(message.organisation, message.model)) or 0)
    if message.claimed == nil then call('HSET', message_key(message.tag), 'claimed', claimed) end
    message.claimed = claimed
  end
  if contract > 0 and (message.in_profile == 1 or take_tokens(now, message, terms, contract)) then return 0, 1 end
  allowed = tonumber(allowed) or (contract > 0 and contract or C.ALLOWANCE_Q10[tier + 1])
  local free = C.FREE_SERVICES * claim(terms.mean_ms, message.urgency)
  local allowance = math.max(allowed * terms.slots, free)
  local excess = math.min(math.max(0, claimed - allowance), C.LARGEST_EXCESS)
  local base = contract > 0 and terms.base_ms or 0
  return base + q10(q20(excess * terms.slope_q20) * tonumber(steepness)), 0
end
