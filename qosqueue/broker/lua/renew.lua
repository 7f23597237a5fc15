-- renew: hold leases for longer.
-- KEYS 1 group. ARGV 1 now, 2 lease ms, then tag, fence, tag, fence, ...
-- Result: for each pair 0 (lost: another attempt owns it, or it is gone), 1 (held), 2 (held, but its tenant cancelled it).
-- Atomic: each answer is true at one instant.
assert(#ARGV >= 4 and #ARGV % 2 == 0, 'renew takes a tag and a fence for each lease')
local until_ms = clock() + number_at(2, 0, C.LONGEST_MS)
local answers = {}
for index = 3, #ARGV, 2 do
  local tag = ARGV[index]
  local state, fence, cancel = unpack(call('HMGET', message_key(tag), 'state', 'fence', 'cancel'))
  if state == 'leased' and fence == ARGV[index + 1] then
    call('ZADD', P .. 'leases', until_ms, tag)
    answers[#answers + 1] = cancel == '1' and 2 or 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
