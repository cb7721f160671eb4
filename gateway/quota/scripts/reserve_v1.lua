-- Decides one request against everything that its account may use, and holds it: the rule of gateway/quota/rules.py.
-- KEYS: state, lock. Every number is an integer below 2^53, where Lua's doubles are exact; an empty one is no limit.
-- Answers {'wait'} or {'rebuild', nonce} when this Redis does not know the account, else {'decided', ...}.

local MINUTE_US, SECOND_US, DAY_US = 60000000, 1000000, 86400000000
local state, lock = KEYS[1], KEYS[2]
local server, request, key = ARGV[1], ARGV[2], ARGV[3]
local input, output, output_min, choices =
    tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local month_limit, day_limit, key_limit = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local requests_limit, tokens_limit, concurrency = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local now_us, verify_us, lock_ms = tonumber(ARGV[14]), tonumber(ARGV[15]), ARGV[16]

if not now_us then
    local time = redis.call('TIME')
    now_us = time[1] * SECOND_US + time[2]
end

-- The civil date of a number of days since 1970, after https://howardhinnant.github.io/date_algorithms.html.
local function date(days)
    local shifted = days + 719468
    local era = math.floor(shifted / 146097)
    local day_of_era = shifted - era * 146097
    local year_of_era = math.floor((day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524)
        - math.floor(day_of_era / 146096)) / 365)
    local day_of_year = day_of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
    local month = math.floor((5 * day_of_year + 2) / 153)
    local day = day_of_year - math.floor((153 * month + 2) / 5) + 1
    month = month < 10 and month + 3 or month - 9
    return string.format('%04d-%02d-%02d', year_of_era + era * 400 + (month <= 2 and 1 or 0), month, day)
end

local function ceil_div(dividend, divisor) return math.floor((dividend + divisor - 1) / divisor) end
local function text(number) return string.format('%.0f', number) end

-- Whoever takes the lock reads the account from Postgres; everybody else waits for it.
local function ask_postgres()
    if redis.call('SET', lock, request, 'NX', 'PX', lock_ms) then return { 'rebuild', request } end
    return { 'wait' }
end

local day = date(math.floor(now_us / DAY_US))
local month = string.sub(day, 1, 7)
local known = redis.call('HMGET', state, 'server', 'fence', 'built_us', 'in_flight', 'requests_tat_us', 'tokens_tat_us',
    'used:' .. month, 'held:' .. month, 'used:' .. day, 'held:' .. day,
    'used:' .. key .. ':' .. month, 'held:' .. key .. ':' .. month, 'hold:' .. request)
if known[1] ~= server then return ask_postgres() end
-- A state has the counters of the days around its beginning, and no older ones: a clock may step back, but not so far.
if now_us < known[3] - DAY_US / 2 then return ask_postgres() end

local fence, built_us, in_flight = known[2], tonumber(known[3]), tonumber(known[4])
local requests_tat_us, tokens_tat_us = tonumber(known[5]), tonumber(known[6])
local month_used, month_held = tonumber(known[7] or 0), tonumber(known[8] or 0)
local day_used, day_held = tonumber(known[9] or 0), tonumber(known[10] or 0)
local key_used, key_held = tonumber(known[11] or 0), tonumber(known[12] or 0)
local hold = known[13]

-- How much room is left, and which limit leaves the least.
local scope, room
local function bound(name, limit, taken)
    if limit and (not room or limit - taken < room) then scope, room = name, limit - taken end
end
bound('month', month_limit, month_used + month_held)
bound('key_month', key_limit, key_used + key_held)
bound('tokens_per_day', day_limit, day_used + day_held)
bound('tokens_per_minute', tokens_limit, 0)
local grant = output
if room then grant = math.min(output, math.floor((room - input) / choices)) end

-- GCRA: a unit moves the arrival time one minute / limit ahead, at most one minute's units ahead of now.
local function most_ahead(limit)
    return limit and limit > 0 and math.min(math.floor((MINUTE_US * (limit + 1) - 1) / limit), MINUTE_US + limit)
end
local requests_most_us, tokens_most_us = most_ahead(requests_limit), most_ahead(tokens_limit)

local refused_by, retry_after_us, admitted_us = '', 0, now_us
if hold then
    local granted, admitted = string.match(hold, '^%S+ %S+ %S+ %S+ (%S+) (%S+)')
    grant, admitted_us = tonumber(granted), tonumber(admitted)
elseif grant < math.min(output_min, output) then
    refused_by, retry_after_us = scope, MINUTE_US
elseif concurrency and concurrency <= in_flight then
    refused_by, retry_after_us = 'concurrency', SECOND_US
elseif requests_limit == 0 then
    refused_by, retry_after_us = 'requests_per_minute', MINUTE_US
else
    local requests_us = requests_limit and ceil_div(MINUTE_US, requests_limit) or 0
    local reserved = input + choices * grant
    local tokens_us = tokens_most_us and ceil_div(MINUTE_US * reserved, tokens_limit) or 0
    local next_requests_us = requests_limit and math.max(requests_tat_us, now_us) + requests_us or requests_tat_us
    local next_tokens_us = tokens_most_us and math.max(tokens_tat_us, now_us) + tokens_us or tokens_tat_us
    if requests_limit and next_requests_us - now_us > requests_most_us then
        refused_by, retry_after_us = 'requests_per_minute', next_requests_us - now_us - requests_most_us
    elseif tokens_most_us and next_tokens_us - now_us > tokens_most_us then
        refused_by, retry_after_us = 'tokens_per_minute', next_tokens_us - now_us - tokens_most_us
    else
        requests_tat_us, tokens_tat_us = next_requests_us, next_tokens_us
        month_held, day_held, key_held = month_held + reserved, day_held + reserved, key_held + reserved
        redis.call('HSET', state,
            'in_flight', text(in_flight + 1),
            'requests_tat_us', text(requests_tat_us), 'tokens_tat_us', text(tokens_tat_us),
            'held:' .. month, text(month_held), 'held:' .. day, text(day_held),
            'held:' .. key .. ':' .. month, text(key_held),
            'hold:' .. request, table.concat({ key, month, day, text(reserved), text(grant), text(now_us),
                text(requests_us), text(tokens_us), ARGV[12] == '' and '0' or ARGV[12] }, ' '))
    end
end

-- A hold whose end was never heard of must not refuse anybody for long.
if refused_by ~= '' and in_flight > 0 and now_us - built_us > verify_us then return ask_postgres() end

local scope_used, scope_held = month_used, month_held
if refused_by == 'key_month' then scope_used, scope_held = key_used, key_held end
if refused_by == 'tokens_per_day' then scope_used, scope_held = day_used, day_held end

local function remaining(limit, most_us, tat_us)
    local reset_us = math.max(tat_us - now_us, 0)
    if not limit then return -1, reset_us end
    if limit == 0 then return 0, reset_us end
    return math.floor(math.max(most_us - reset_us, 0) * limit / MINUTE_US), reset_us
end
local requests_remaining, requests_reset_us = remaining(requests_limit, requests_most_us, requests_tat_us)
local tokens_remaining, tokens_reset_us = remaining(tokens_limit, tokens_most_us, tokens_tat_us)

return { 'decided', tonumber(fence), refused_by, grant, admitted_us, month_used, month_held, scope_used, scope_held,
    retry_after_us, requests_remaining, requests_reset_us, tokens_remaining, tokens_reset_us }
