-- release: end what a request holds.
-- KEYS 1 group. ARGV 1 now, 2 request id, 3 tokens used, 4 ms of slots used; '' and '': nothing was used, not even a request.
-- Result: 1, or 0 if it holds nothing (any more).
-- Atomic, and done once whoever calls: the difference between estimate and use is settled, or everything is given back.
assert(#ARGV == 4, 'release takes 4 arguments')
local tokens, gpu_ms = number_at(3, 0, C.LARGEST_AMOUNT, true), number_at(4, 0, C.LARGEST_AMOUNT, true)
assert((tokens == nil) == (gpu_ms == nil), 'release takes both uses or none')
local now, request = clock(), ARGV[2]
if not tokens then return end_hold(request, false) end
if call('ZREM', P .. 'holds', request) == 0 then return 0 end
local spent = {tokens = tokens, day_tokens = tokens, day_gpu_ms = gpu_ms}
for _, held in ipairs(held_by(request)) do
  local kind = kind_of(held.account)
  local actual = spent[kind]
  if not MINUTE[kind] and not DAY[kind] then
    take_back(held)
  elseif actual and actual ~= held.amount then
    -- More used counts from now on, so what was used is drained first; a day that is over is left alone.
    local amount, since = used_now(now, held.account, held.most)
    if MINUTE[kind] or since == held.since then
      put_use(held.account, amount + scaled(held.account, actual - held.amount), since)
    end
  end
end
call('DEL', hold_key(request))
return 1
