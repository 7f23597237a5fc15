-- lapse: give back what is held by requests that were never queued, or that the order has lost.
-- KEYS 1 group. ARGV 1 now, 2 how many are looked at, at most.
-- Result: the ids of those whose holds have ended. Those whose messages are still there are looked at again later.
assert(#ARGV == 2, 'lapse takes 2 arguments')
local now, lapsed = clock(), {}
for _, request in ipairs(up_to('holds', now, number_at(2, 1, C.LONGEST_MS))) do
  if has_message(request) then
    call('ZADD', P .. 'holds', now + C.HELD_FOR_MS, request)
  else
    end_hold(request, false)
    lapsed[#lapsed + 1] = request
  end
end
return lapsed
