-- discard: forget a dead letter for good.
-- KEYS 1 group. ARGV 1 now, 2 tag: an older message of the same task may be dead, too.
-- Result: 1, or 0 if it is not dead: what waits or runs again is left alone.
assert(#ARGV == 2, 'discard takes 2 arguments')
local message = load_message(ARGV[2])
call('ZREM', P .. 'dead', ARGV[2])
if not message or message.state ~= 'dead' then return 0 end
forget(message)
return 1
