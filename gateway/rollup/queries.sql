-- lock_days
-- Keeps everybody else who closes days or writes hours into them out until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('usage_daily'), 0);

-- share_days
-- Keeps days from being closed until the transaction ends.
SELECT pg_advisory_xact_lock_shared(hashtext('usage_daily'), 0);

-- backlog
-- How many days ended so many hours ago and are not closed, and the first of them where it can be closed: every request
-- that was let in before its end has ended too, so that no settlement can come for it. The first of all is that of the
-- first usage.
WITH ended AS (
    SELECT ((clock_timestamp() - make_interval(hours => $1)) AT TIME ZONE 'UTC')::date AS until
),
following AS (
    SELECT COALESCE(
        (SELECT c.last_day + 1 FROM usage_closed c),
        (SELECT (min(first.hour) AT TIME ZONE 'UTC')::date
         FROM account a
         CROSS JOIN LATERAL (
             SELECT h.hour FROM usage_hourly h WHERE h.account_id = a.account_id ORDER BY h.hour LIMIT 1
         ) AS first)
    ) AS day
)
SELECT GREATEST(0, until - day) AS days, CASE WHEN day < LEAST(
        until, (SELECT (min(admitted_at) AT TIME ZONE 'UTC')::date FROM request_intent WHERE state = 'open')
    ) THEN day END AS due
FROM ended, following;

-- is_closed
-- Whether a day is closed.
SELECT EXISTS (SELECT FROM usage_closed WHERE last_day >= $1);

-- sum_day
-- Sums the hours of a day, of everybody or of the accounts that are named; doing it again changes nothing. Each
-- account's day is read by itself, because nothing leads with the hour.
INSERT INTO usage_daily (
    account_id, day, key_id, model, end_reason, currency, requests, input_tokens, input_cached_tokens, output_tokens,
    output_reasoning_tokens, amount_pico)
SELECT a.account_id, $1, h.*
FROM account a
CROSS JOIN LATERAL (
    SELECT key_id, model, end_reason, currency, sum(requests), sum(input_tokens), sum(input_cached_tokens),
        sum(output_tokens), sum(output_reasoning_tokens), sum(amount_pico)
    FROM usage_hourly
    WHERE account_id = a.account_id
        AND hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND hour < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
    GROUP BY 1, 2, 3, 4
) h
WHERE $2::uuid[] IS NULL OR a.account_id = ANY ($2::uuid[])
ON CONFLICT (account_id, day, key_id, model, end_reason, currency) DO UPDATE SET
    requests = EXCLUDED.requests, input_tokens = EXCLUDED.input_tokens,
    input_cached_tokens = EXCLUDED.input_cached_tokens, output_tokens = EXCLUDED.output_tokens,
    output_reasoning_tokens = EXCLUDED.output_reasoning_tokens, amount_pico = EXCLUDED.amount_pico;

-- close_day
-- Says that a day and all before it are closed.
INSERT INTO usage_closed (last_day) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET last_day = EXCLUDED.last_day;
