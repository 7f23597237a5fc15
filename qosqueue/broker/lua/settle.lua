-- settle: end one attempt.
-- KEYS 1 group. ARGV 1 now, 2 tag, 3 fence, 4 outcome: done | void | requeue | retry | dead, 5 tokens and 6 ms of slots that a done
--      one has used ('' and '': not known, what was estimated stays charged), then breakers to be told that a done one was
--      served.
-- Result: 0 (stale: another attempt owns it, or it is gone), 1 (settled as asked), 2 (was to be requeued, retried or
--         kept as dead, or not served, but its tenant had cancelled it: gone), 3 (was to be retried, but this was its last attempt: it
--         still runs, for its holder has to say so and end it).
-- Atomic: exactly one attempt can settle a message. A requeued message keeps its place and is not charged an attempt, a
-- retried one is; a dead one is kept with its payload. What a done one took corrects the pool's mean and its tenant's
-- bias, unless it was cancelled, and what its contract paid; a void one was not served: it teaches nothing and is given
-- back what it paid.
assert(#ARGV >= 6, 'settle takes at least 6 arguments')
local outcome = ARGV[4]
local known = outcome == 'done' or outcome == 'void' or outcome == 'requeue' or outcome == 'retry' or outcome == 'dead'
assert(known, 'settle takes the outcome done, void, requeue, retry or dead')
local tokens, gpu_ms = number_at(5, 0, C.LARGEST_AMOUNT, true), number_at(6, 0, C.LARGEST_AMOUNT, true)
assert((tokens == nil) == (gpu_ms == nil), 'settle takes both uses or none')
local now = clock()
local message = load_message(ARGV[2])
if not message or message.state ~= 'leased' or message.fence ~= tonumber(ARGV[3]) then return 0 end
-- One look where every breaker is closed and sound.
if outcome == 'done' and ARGV[7] and call('EXISTS', P .. 'breakers') == 1 then
  for index = 7, #ARGV do note_outcome(now, ARGV[index], true) end
end
if outcome == 'retry' and message.cancel == 0 and message.attempts >= message.max_attempts then return 3 end
end_lease(now, message)
if (outcome == 'requeue' or outcome == 'retry') and message.cancel == 0 then
  if outcome == 'requeue' then call('HINCRBY', message_key(message.tag), 'attempts', -1) end
  enter_queue(now, message)
  save_arrival(now, message)
  return 1
end
if outcome == 'dead' and message.cancel == 0 then
  bury(now, message)
  return 1
end
local actual = outcome == 'done' and math.max(0, now - message.started) or 0
if outcome == 'done' and message.cancel == 0 then
  local mean = tonumber(call('HGET', P .. 'mean32', message.model) or nil)
  local step = 2 ^ C.MEAN_STEP_BITS
  call('HSET', P .. 'mean32', message.model, mean and mean + actual - math.floor(mean / step) or actual * step)
  if message.tenant ~= '' and message.predicted_ms > 0 then
    local account = pair(message.tenant, message.model)
    local bias = tonumber(call('HGET', P .. 'bias', account) or 1024)
    local move = math.floor(bias / 2 ^ C.BIAS_STEP_BITS)
    local longer = actual * 1024 > message.predicted_ms * bias
    bias = math.min(math.max(longer and bias + move or bias - move, C.LEAST_BIAS), C.MOST_BIAS)
    call('HSET', P .. 'bias', account, bias)
  end
end
give_back(now, message, message.cost_ms - math.min(actual, C.LARGEST_COST_MS))
forget(message, now, outcome == 'done', outcome == 'done' and tokens and {tokens, gpu_ms})
return outcome ~= 'done' and message.cancel == 1 and 2 or 1
