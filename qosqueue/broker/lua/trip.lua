-- trip: open a breaker, or reset it.
-- KEYS 1 group. ARGV 1 now, 2 name, 3 for how many ms (0: until it is reset; '': reset it).
-- Result: nothing. Atomic: it counts from the next pick and the next request on.
assert(#ARGV == 3, 'trip takes 3 arguments')
local now, for_ms = clock(), number_at(3, 0, C.LONGEST_MS, true)
local before = load_breaker(ARGV[2]).state
save_breaker(ARGV[2], for_ms and opened(now, for_ms > 0 and for_ms or C.LONGEST_MS) or sound(), before)
