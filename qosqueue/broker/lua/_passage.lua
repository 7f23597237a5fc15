-- What a message met between its arrival and its pick (policy/reference/passage.py): readings of running counts, taken at
-- both ends. A pick pays for its own message alone, however many it passes over.
local FREE_MS = {0, 0, 0, 0, 0, 0}

-- The counts of what a model's slots have taken so far: live by tier, relegated, batch, and of one tenant. Keys of their own:
-- a small hash is searched from its start for each field.
local function pick_keys(message)
  local picks, model = P .. 'picks:', message.model
  return picks .. '0:' .. model, picks .. '1:' .. model, picks .. '2:' .. model, picks .. 'relegated:' .. model,
    picks .. 'batch:' .. model, picks .. 't:' .. pair(message.tenant, model)
end

-- Count a message that is being picked; `counts` are those of its keys.
local function count_pick(message, counts)
  local keys = {pick_keys(message)}
  local kind = message.stand == 'live' and 1 + tier_of(message.priority) or message.stand == 'relegated' and 4 or 5
  if message.tenant == '' then
    call('SET', keys[kind], (counts[kind] or 0) + 1)
  else
    call('MSET', keys[kind], (counts[kind] or 0) + 1, keys[6], (counts[6] or 0) + 1)
  end
end

-- What is there when a message, which stands by now, begins to wait: so long after its arrival, how many of its tenant are in
-- its row, how many at its place, how many relegated and batch at all (itself included); then the counts of picks.
local function note_arrival(now, message)
  local place = pair(message.lane, message.model)
  local read = call('MGET', waits_key(place), waits_key('relegated'), waits_key('batch'), pick_keys(message))
  local own = (message.stand == 'later' or message.stand == 'expired') and 0 or 1
  if tonumber(read[1] or 0) > own then own = call('ZCARD', waiting_key(message.stand .. ':' .. place, message.tenant)) end
  local seen = {math.max(0, now - message.arrival), own}
  for index = 1, 9 do seen[2 + index] = read[index] or 0 end
  message.seen = table.concat(seen, ':')
  -- One look where no limit was ever reached.
  if call('EXISTS', P .. 'held') == 0 then return end
  local held = held_ms(now, counted(message))
  for index = 1, 6 do
    if held[index] > 0 then
      message.seen_held = table.concat(held, ':')
      call('HSET', message_key(message.tag), 'seen_held', message.seen_held)
      return
    end
  end
end

function save_arrival(now, message)
  note_arrival(now, message)
  save(message, 'seen')
end

-- The passage of a message that is being picked, before it is counted; '' if it came from a version that noted nothing.
-- `held`: whether any limit is, or was once, reached.
local function passage_of(now, message, counts, held)
  local after, own, waiting, late, batch, v, s, b, r, f, t =
    string.match(message.seen or '', '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+)$')
  if not after then return '' end
  local seen, met = {v, s, b, r, f, t}, {message.stand, math.max(0, now - message.arrival - after), own, waiting, late, batch}
  for index = 1, 6 do met[6 + index] = math.max(0, (counts[index] or 0) - seen[index]) end
  local held_now = held and held_ms(now, counted(message)) or FREE_MS
  local p, m, l, c, u, o = string.match(message.seen_held or '', '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+)$')
  local held_then = {p or 0, m or 0, l or 0, c or 0, u or 0, o or 0}
  for index = 1, 6 do met[12 + index] = math.max(0, held_now[index] - held_then[index]) end
  met[19] = message.penalty == '' and 0 or message.penalty
  met[20], met[21], met[22] = message.in_profile, message.priority, message.boost_until > now and 1 or 0
  return table.concat(met, ':')
end
