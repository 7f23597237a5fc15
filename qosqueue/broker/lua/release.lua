-- release: end what a request holds.
-- KEYS 1 group. ARGV 1 now, 2 request id, 3 tokens used, 4 ms of slots used; '' and '': nothing was used, not even a request.
-- Result: 1, or 0 if it holds nothing (any more).
-- Atomic, and done once whoever calls: the difference between estimate and use is settled, or everything is given back.
assert(#ARGV == 4, 'release takes 4 arguments')
local tokens, gpu_ms = number_at(3, 0, C.LARGEST_AMOUNT, true), number_at(4, 0, C.LARGEST_AMOUNT, true)
assert((tokens == nil) == (gpu_ms == nil), 'release takes both uses or none')
if not tokens then return end_hold(ARGV[2], false) end
return settle_hold(clock(), ARGV[2], tokens, gpu_ms)
