-- probe: look at every breaker that is not closed and sound, and let time move it.
-- KEYS 1 group. ARGV 1 now.
-- Result: name, then state:score:since:until:pause ms:probes left:let in, of each.
assert(#ARGV == 1, 'probe takes 1 argument')
local now, found = clock(), {}
for _, name in ipairs(call('HKEYS', P .. 'breakers')) do
  found[#found + 1] = name
  found[#found + 1] = told_breaker(look_at_breaker(now, name))
end
return found
