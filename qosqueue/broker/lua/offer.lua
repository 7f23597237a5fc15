-- offer: let a request in and put its message into the order, or do neither.
-- KEYS 1 group. ARGV 1 now, 2 how many arguments admit has besides, then those, then those of submit.
-- Result: that of admit; 0 if submit has a fence and its task is known: then nothing is taken.
-- Atomic: whoever asks for the quotas of a request that was refused finds nothing of it in the order.
local all, most = ARGV, number_at(2, 1, C.LONGEST_MS)
assert(#all == 2 + most + 16, 'offer takes the arguments of admit and of submit')
if all[18 + most] ~= '' and has_message(all[4 + most]) then return 0 end
local now = whole(clock())
ARGV = {now, unpack(all, 3, 2 + most)}
local answer = admit()
if answer[1] == 1 then
  ARGV = {now, unpack(all, 3 + most)}
  submit()
end
return answer
