-- Ends one request: its hold becomes use, once. Where there is no hold, the state has been read from Postgres since, and
-- knows the end already. KEYS: state, lock, ended. Answers 1 if there was a hold.

local MINUTE_US, SECOND_US = 60000000, 1000000
local state, lock, ended = KEYS[1], KEYS[2], KEYS[3]
local request, used, now_us, lock_ms = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

-- Somebody is reading Postgres and may have looked before the end was committed: leave word for their install.
if redis.call('EXISTS', lock) == 1 then
    redis.call('HSET', ended, request, ARGV[3])
    redis.call('PEXPIRE', ended, lock_ms)
end

local hold = redis.call('HGET', state, 'hold:' .. request)
if not hold then return 0 end
if not now_us then
    local time = redis.call('TIME')
    now_us = time[1] * SECOND_US + time[2]
end

local function minus(number) return string.format('%.0f', 0 - tonumber(number)) end

local key, month, day, reserved, _, admitted_us, _, _, tokens_limit =
    string.match(hold, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
for _, subject in ipairs({ month, day, key .. ':' .. month }) do
    redis.call('HINCRBY', state, 'held:' .. subject, minus(reserved))
    redis.call('HINCRBY', state, 'used:' .. subject, ARGV[3])
end
redis.call('HINCRBY', state, 'in_flight', -1)
redis.call('HDEL', state, 'hold:' .. request)

-- Minute tokens that were reserved and not used come back, less what has drained since (GCRA).
tokens_limit = tonumber(tokens_limit)
if tokens_limit > 0 and tonumber(reserved) > used then
    local back_us = math.floor((tonumber(reserved) - used) * MINUTE_US / tokens_limit)
        - math.max(0, now_us - tonumber(admitted_us))
    if back_us > 0 then redis.call('HINCRBY', state, 'tokens_tat_us', minus(back_us)) end
end
return 1
