-- Undoes one reservation that was not recorded, as if it had never been; only in the state that made it, which its
-- fence names. KEYS: state. Answers 1 if there was a hold.

local state, request, fence = KEYS[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', state, 'fence', 'hold:' .. request)
local hold = known[2]
if known[1] ~= fence or not hold then return 0 end

local function minus(number) return string.format('%.0f', 0 - tonumber(number)) end

local key, month, day, reserved, _, _, requests_us, tokens_us =
    string.match(hold, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) %S+$')
for _, subject in ipairs({ month, day, key .. ':' .. month }) do
    redis.call('HINCRBY', state, 'held:' .. subject, minus(reserved))
end
redis.call('HINCRBY', state, 'requests_tat_us', minus(requests_us))
redis.call('HINCRBY', state, 'tokens_tat_us', minus(tokens_us))
redis.call('HINCRBY', state, 'in_flight', -1)
redis.call('HDEL', state, 'hold:' .. request)
return 1
