-- observe: tell breakers how an attempt ended.
-- KEYS 1 group. ARGV 1 now, 2 served: 1, or 0 if the engine has failed it (a fault of the client is neither), then names.
-- Result: for each name the state of its breaker now.
assert(#ARGV >= 3, 'observe takes an outcome and at least one breaker')
local now, was_served, states = clock(), number_at(2, 0, 1) == 1, {}
for index = 3, #ARGV do states[#states + 1] = note_outcome(now, ARGV[index], was_served) end
return states
