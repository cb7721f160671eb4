-- Sets an account's state to what Postgres says, never adding to what was there. KEYS: state, lock, ended.
-- ARGV: server, nonce of the lock, fence, life in ms, now, number of fields, fields and values, then of every hold its
-- request and its text. Answers 0, and changes nothing, if the lock was lost or a newer state is there.

local SECOND_US = 1000000
local state, lock, ended = KEYS[1], KEYS[2], KEYS[3]
local server, nonce, fence, life_ms, now_us = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local fields = tonumber(ARGV[6])

if redis.call('GET', lock) ~= nonce then return 0 end
local present = redis.call('HMGET', state, 'server', 'fence')
if present[1] == server and tonumber(present[2]) >= tonumber(fence) then return 0 end
if not now_us then
    local time = redis.call('TIME')
    now_us = time[1] * SECOND_US + time[2]
end

redis.call('DEL', state)
redis.call('HSET', state, 'server', server, 'fence', fence, 'built_us', string.format('%.0f', now_us))
for i = 7, 5 + 2 * fields, 2 do redis.call('HSET', state, ARGV[i], ARGV[i + 1]) end

local function minus(number) return string.format('%.0f', 0 - tonumber(number)) end

local in_flight = 0
for i = 7 + 2 * fields, #ARGV, 2 do
    local request, hold = ARGV[i], ARGV[i + 1]
    local used = redis.call('HGET', ended, request)
    if used then
        -- It ended after Postgres was read. Its minute tokens are not given back: that only errs towards refusing.
        local key, month, day, reserved = string.match(hold, '^(%S+) (%S+) (%S+) (%S+)')
        for _, subject in ipairs({ month, day, key .. ':' .. month }) do
            redis.call('HINCRBY', state, 'held:' .. subject, minus(reserved))
            redis.call('HINCRBY', state, 'used:' .. subject, used)
        end
    else
        redis.call('HSET', state, 'hold:' .. request, hold)
        in_flight = in_flight + 1
    end
end
redis.call('HSET', state, 'in_flight', in_flight)
redis.call('PEXPIRE', state, life_ms)
redis.call('DEL', lock, ended)
return 1
