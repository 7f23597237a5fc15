#!lua flags=allow-oom
-- rerank: let what starves into the aging lane.
-- KEYS 1 group. ARGV 1 now, 2 lane, 3 starves after ms, 4 how many of the oldest to look at.
-- Result: the task ids that were lifted.
-- Atomic per call. The tier and the rank stay as they are: the aging lane is a second way to be picked, for a
-- bounded share of the picks, and at most so many messages of a lane are in it.
assert(#ARGV == 4, 'rerank takes 4 arguments')
local before = clock() - ARGV[3]
local starving = redis.call('ZRANGEBYSCORE', P .. 'arrivals:' .. ARGV[2], '-inf', before, 'LIMIT', 0, ARGV[4])
local lifted = {}
for _, tag in ipairs(starving) do
  local message = load_message(tag)
  if not message then
    drop_orphan(tag, ARGV[2])
  elseif redis.call('ZADD', place_key('aged', message.lane, message.model), 'NX', message.arrival, tag) == 1 then
    lifted[#lifted + 1] = message.task
  end
end
return lifted
