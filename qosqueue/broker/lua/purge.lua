-- purge: drop the queued messages of one lane, a bounded number at a time.
-- KEYS 1 group. ARGV 1 now, 2 lane, 3 how many at most.
-- Result: how many were dropped. Leased messages stay with their holders.
-- Atomic per call.
assert(#ARGV == 3, 'purge takes 3 arguments')
local tags = call('ZRANGE', P .. 'arrivals:' .. ARGV[2], 0, number_at(3, 1, C.LONGEST_MS) - 1)
for _, tag in ipairs(tags) do
  local message = load_message(tag)
  if message then
    drop(message)
  else
    drop_orphan(tag, ARGV[2])
  end
end
return #tags
