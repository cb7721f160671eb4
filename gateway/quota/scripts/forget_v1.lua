-- Drops an account's state, so that it is read from Postgres before it is used again. KEYS: state. With a fence, only
-- the state of that fence: a newer one is right. Answers 1 if there was such a state.

local state, fence = KEYS[1], ARGV[2]
if fence ~= '' and redis.call('HGET', state, 'fence') ~= fence then return 0 end
return redis.call('DEL', state)
