-- age: make the moves that time has brought.
-- KEYS 1 group. ARGV 1 now, 2 how many of each kind at most.
-- Result: {task ids whose ETA came, that joined the order from batch, that were relegated, whose boost ended, of vip that missed
--         their budget}.
-- Atomic per call. Picks make a few of these moves themselves; this is for lanes that nobody picks from, and for floods.
assert(#ARGV == 2, 'age takes 2 arguments')
local now, limit = clock(), number_at(2, 1, C.LONGEST_MS)
end_limits(now, limit)
return move_due(now, limit)
