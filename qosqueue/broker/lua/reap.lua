-- reap: collect what was lost or came too late.
-- KEYS 1 group. ARGV 1 now, 2 how many of each kind at most.
-- Result: {task ids queued again, task ids dead, task ids expired, task ids withdrawn, of those queued again the
--         fences whose leases were lost}.
-- Atomic: a lease that ran out is requeued once, whoever sweeps. A message that used up its attempts is dead:
-- kept with its payload, to be read and replayed, never deleted here.
assert(#ARGV == 2, 'reap takes 2 arguments')
local now, limit = clock(), number_at(2, 1, C.LONGEST_MS)
local requeued, dead, expired, withdrawn, fences = {}, {}, {}, {}, {}
for _, tag in ipairs(up_to('leases', now, limit)) do
  local message = load_message(tag)
  if not message then
    drop_orphan(tag, '')
  else
    end_lease(now, message)
    if message.cancel == 1 then
      forget(message)
      withdrawn[#withdrawn + 1] = message.task
    elseif message.attempts >= message.max_attempts then
      bury(now, message)
      dead[#dead + 1] = message.task
    else
      enter_queue(now, message)
      save_arrival(now, message)
      requeued[#requeued + 1] = message.task
      fences[#fences + 1] = message.fence
    end
  end
end
for _, tag in ipairs(up_to('expiry', now, limit)) do
  local message = load_message(tag)
  if message then
    drop(message)
    expired[#expired + 1] = message.task
  else
    drop_orphan(tag, '')
  end
end
return {requeued, dead, expired, withdrawn, fences}
