#!lua flags=allow-oom
-- dispatch: pick the first eligible message and lease it to a holder.
-- KEYS 1 group. ARGV 1 now, 2 lease ms, 3 holder, 4 one pick in so many may serve an aging lane,
--      5 number of pairs, then lane, model, lane, model, ... that the holder serves and has a free slot for.
-- Result: nil if none is queued, else {tag, fence, lane, model, task, lease until, arrival, payload}.
-- Atomic: the pick, the lease and the rise of the fence are one step: no message is ever between queue and lease.
-- Cost: O(pairs * log n); nothing is scanned.
local pairs_given = tonumber(ARGV[5])
assert(#ARGV == 5 + 2 * pairs_given, 'dispatch takes a lane and a model for each pair')
local now = clock()

-- The smallest (score, tag) of the heads of one kind of set; sorted sets break ties by tag already.
local waiting = {}  -- index of a place in ARGV: true if something is ready there
local function first_of(kind)
  local best
  for index = 6, #ARGV, 2 do
    local head = redis.call('ZRANGE', place_key(kind, ARGV[index], ARGV[index + 1]), 0, 0, 'WITHSCORES')
    if head[1] then
      if kind == 'ready' then waiting[index] = true end
      local score = tonumber(head[2])
      if not best or score < best.score or (score == best.score and head[1] < best.tag) then
        best = {tag = head[1], score = score, place = index}
      end
    end
  end
  return best
end

-- The first with its message. Orphans on the way are dropped, so many at most in one call.
local ORPHANS_AT_MOST = 100
local function first_whole(kind)
  for _ = 1, ORPHANS_AT_MOST do
    local first = first_of(kind)
    if not first then return nil end
    first.message = load_message(first.tag)
    if first.message then return first end
    leave_queue(first.tag, {lane = ARGV[first.place], model = ARGV[first.place + 1]})
  end
end

local chosen = first_whole('ready')
if not chosen then
  local bells = {}
  for index = 6, #ARGV, 2 do bells[#bells + 1] = place_key('bell', ARGV[index], ARGV[index + 1]) end
  if bells[1] then redis.call('DEL', unpack(bells)) end
  return false
end
local aged = first_whole('aged')
if aged and redis.call('INCR', P .. 'turn') >= tonumber(ARGV[4]) then
  chosen = aged
  redis.call('DEL', P .. 'turn')
end

local tag, message = chosen.tag, chosen.message
local until_ms = now + ARGV[2]
leave_queue(tag, message)
local fence = redis.call('HINCRBY', message_key(tag), 'fence', 1)
redis.call('HINCRBY', message_key(tag), 'attempts', 1)
redis.call('HSET', message_key(tag), 'state', 'leased', 'holder', ARGV[3])
redis.call('ZADD', P .. 'leases', until_ms, tag)
-- A bell wakes one slot: whoever picks wakes the next, as long as there is work. Bells of empty places go at once.
local idle = {}
for index = 6, #ARGV, 2 do
  local lane, model = ARGV[index], ARGV[index + 1]
  local picked_here = lane == message.lane and model == message.model
  if not waiting[index] or picked_here and redis.call('EXISTS', place_key('ready', lane, model)) == 0 then
    idle[#idle + 1] = place_key('bell', lane, model)
  elseif redis.call('EXISTS', place_key('bell', lane, model)) == 0 then
    ring(lane, model)
  end
end
if idle[1] then redis.call('DEL', unpack(idle)) end
return {tag, fence, message.lane, message.model, message.task, until_ms, tonumber(message.arrival),
  redis.call('HGET', message_key(tag), 'payload')}
