-- limit: say how many attempts may run at once under a name.
-- KEYS 1 group. ARGV 1 now, 2 name (t:tenant, l:lane, c:tier, m:model, p:length of lane:lane:model), 3 how many ('' lifts the limit),
--      4 for how many ms (0: for good).
-- Result: nothing. Atomic: it counts from the next pick on, for what is queued too; what runs goes on.
assert(#ARGV == 4, 'limit takes 4 arguments')
local now, name, most, length = clock(), ARGV[2], number_at(3, 0, C.LONGEST_MS, true), number_at(4, 0, C.LONGEST_MS)
if not most then
  call('HDEL', limits_key(name), name)
else
  call('HSET', limits_key(name), name, ARGV[3] .. ':' .. (length > 0 and whole(now + length) or '0'))
end
if most and length > 0 then
  call('ZADD', P .. 'ends', now + length, name)
else
  call('ZREM', P .. 'ends', name)
end
set_reached(now, name, most ~= nil and tonumber(call('HGET', P .. 'running', name) or 0) >= most)
let_begin(name)
