-- submit: put one message into the order.
-- KEYS 1 group. ARGV 1 now, 2 tag, 3 task id, 4 lane, 5 model, 6 tenant, 7 organisation, 8 priority 0-9, 9 batch (1) or
--      not (0), 10 start budget ms (0: no deadline), 11 predicted cost in ms of a slot (0: unknown), 12 delay ms until
--      it may run, 13 ttl ms from then (0: never expires), 14 attempts allowed, 15 payload, 16 admitted (1: only if
--      admit has let its task in), 17 the fence that its attempts go on from, for a message that must be the only one of
--      its task ('': it need not be).
-- Result: 1, 0 if the tag is already known (or the task of one that must be the only one), -1 if it was not let in.
-- Atomic: a message is either whole in the queue, with its bell rung, or not there at all.
assert(#ARGV == 17, 'submit takes 17 arguments')
local now, tag = clock(), ARGV[2]
local priority, batch, budget = number_at(8, 0, 9), number_at(9, 0, 1), number_at(10, 0, C.LONGEST_MS)
local predicted, delay, ttl = number_at(11, 0, C.LONGEST_MS), number_at(12, 0, C.LONGEST_MS), number_at(13, 0, C.LONGEST_MS)
number_at(14, 1, C.LONGEST_MS)
local fence = number_at(17, 0, C.LONGEST_MS, true)
if number_at(16, 0, 1) == 1 and not call('ZSCORE', P .. 'holds', ARGV[3]) then return -1 end
if fence and has_message(ARGV[3]) then return 0 end
-- Its body is there exactly as long as a message is.
if not call('SET', body_key(tag), ARGV[15], 'NX') then return 0 end
local tenant, model, arrival = ARGV[6], ARGV[5], now + delay
local cost
if predicted == 0 then
  cost = terms_of(model).mean_ms
  if cost == 0 then cost = C.DEFAULT_COST_MS end
else
  local bias = tenant ~= '' and call('HGET', P .. 'bias', pair(tenant, model)) or 1024
  cost = math.min(math.max(1, q10(predicted * bias)), C.LARGEST_COST_MS)
end
local message = {
  tag = tag, task = ARGV[3], lane = ARGV[4], model = model, tenant = tenant, organisation = ARGV[7],
  priority = priority, batch = batch, budget_ms = budget, predicted_ms = predicted, cost_ms = cost,
  urgency = urgency_of(budget), arrival = arrival,
  eta = arrival > now and arrival or 0,
  number = call('INCR', P .. 'number') % C.SAME_MS, expires = ttl > 0 and arrival + ttl or 0,
  penalty = '', in_profile = 0, claimed = false, boost_until = 0, score = 0, fence = fence or 0,
}
call('HSET', P .. 'tasks', message.task, tag)
join_queue(now, message)
note_arrival(now, message)
-- One write for all that save_standing writes and all that stays as it is.
local fields = {'tag', tag, 'task', message.task, 'lane', message.lane, 'model', model, 'tenant', tenant,
  'organisation', message.organisation, 'priority', ARGV[8], 'batch', ARGV[9], 'budget_ms', budget,
  'predicted_ms', predicted, 'cost_ms', cost, 'urgency', message.urgency, 'arrival', arrival, 'number', message.number,
  'expires', message.expires, 'max_attempts', ARGV[14], 'boost', -1, 'boost_until', 0, 'fence', message.fence, 'attempts', 0,
  'started', 0, 'cancel', 0, 'state', message.state, 'stand', message.stand, 'eta', message.eta, 'due', message.due,
  'score', message.score, 'penalty', message.penalty, 'in_profile', message.in_profile,
  'seen', message.seen}
if message.claimed then fields[#fields + 1], fields[#fields + 2] = 'claimed', message.claimed end
call('HSET', message_key(tag), unpack(fields))
return 1
