-- latest_calls
-- The latest settled requests of an account since a moment, of one key where it is named.
SELECT request_id, key_id, model, occurred_at, input_text_tokens + input_cached_tokens + input_audio_tokens AS input_tokens,
       output_text_tokens + output_reasoning_tokens + output_audio_tokens AS output_tokens, amount_pico, currency,
       duration_ms, usage_source, end_reason
FROM ledger_entry
WHERE account_id = $1 AND occurred_at >= $2 AND kind = 'usage' AND ($3::uuid IS NULL OR key_id = $3)
ORDER BY occurred_at DESC LIMIT $4;

-- usage_cells
-- Usage of an account in a range of time, by bars of so many hours and by model, key or status: one row for each bar's
-- part, the smaller groups together in one that has no name, and one row without a time for each group's sum. Each bar
-- is read by itself, in the order of the index, so that a year of them is not sorted first; one of whole days that are
-- closed is read from days.
WITH parts AS MATERIALIZED (
    SELECT b.moment, p.*
    FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 microsecond', make_interval(hours => $4)) AS b(moment)
    CROSS JOIN LATERAL (
        SELECT CASE $5 WHEN 'key' THEN key_id::text WHEN 'status' THEN end_reason ELSE model END AS grouped, currency,
            sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
            sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
        FROM usage_between($1, b.moment, b.moment + make_interval(hours => $4))
        GROUP BY 1, 2
    ) p
),
places AS (
    SELECT grouped, row_number() OVER (ORDER BY sum(input_tokens + output_tokens) DESC, sum(requests) DESC, grouped) AS place
    FROM parts GROUP BY grouped
)
SELECT moment, CASE WHEN place <= $6 THEN grouped END AS grouped, currency, min(place) AS place,
    sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM parts JOIN places USING (grouped) GROUP BY 1, 2, 3
UNION ALL
SELECT NULL, CASE WHEN place <= $7 THEN grouped END, currency, min(place), sum(requests)::bigint,
    sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(amount_pico)
FROM parts JOIN places USING (grouped) GROUP BY 2, 3
ORDER BY moment, place, currency;

-- usage_cells_by_user
-- The same by day and end user, for requests that named one.
WITH parts AS MATERIALIZED (
    SELECT day::timestamp AT TIME ZONE 'UTC' AS moment, end_user AS grouped, currency, requests, input_tokens,
        output_tokens, amount_pico
    FROM usage_user_daily
    WHERE account_id = $1 AND day >= ($2::timestamptz AT TIME ZONE 'UTC')::date
        AND day <= (($3::timestamptz - interval '1 microsecond') AT TIME ZONE 'UTC')::date
),
places AS (
    SELECT grouped, row_number() OVER (ORDER BY sum(input_tokens + output_tokens) DESC, sum(requests) DESC, grouped) AS place
    FROM parts GROUP BY grouped
)
SELECT moment, CASE WHEN place <= $4 THEN grouped END AS grouped, currency, min(place) AS place,
    sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM parts JOIN places USING (grouped) GROUP BY 1, 2, 3
UNION ALL
SELECT NULL, CASE WHEN place <= $5 THEN grouped END, currency, min(place), sum(requests)::bigint,
    sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(amount_pico)
FROM parts JOIN places USING (grouped) GROUP BY 2, 3
ORDER BY moment, place, currency;

-- calls
-- A page of an account's settled requests before a moment, of one key, model or ending where it is named, the latest
-- first. The hourly read model says in which hours there are any, so that the ledger is only read there.
WITH hours AS (
    SELECT DISTINCT hour FROM usage_hourly
    WHERE account_id = $1 AND hour <= $2 AND ($4::uuid IS NULL OR key_id = $4) AND ($5::text IS NULL OR model = $5)
        AND ($6::text IS NULL OR end_reason = $6)
    ORDER BY hour DESC LIMIT $7
)
SELECT h.hour, e.* FROM hours h
LEFT JOIN LATERAL (
    SELECT request_id, key_id, model, occurred_at,
        input_text_tokens + input_cached_tokens + input_audio_tokens AS input_tokens,
        output_text_tokens + output_reasoning_tokens + output_audio_tokens AS output_tokens, amount_pico, currency,
        duration_ms, usage_source, end_reason
    FROM ledger_entry
    WHERE account_id = $1 AND occurred_at >= h.hour AND occurred_at < h.hour + interval '1 hour' AND kind = 'usage'
        AND (occurred_at, request_id) < ($2, $3) AND ($4::uuid IS NULL OR key_id = $4)
        AND ($5::text IS NULL OR model = $5) AND ($6::text IS NULL OR end_reason = $6)
    ORDER BY occurred_at DESC, request_id DESC LIMIT $7
) e ON true
ORDER BY h.hour DESC, e.occurred_at DESC, e.request_id DESC LIMIT $7;

-- models_used
-- The models that an account used in a range of time, to choose from.
SELECT DISTINCT model FROM usage_hourly WHERE account_id = $1 AND hour >= $2 ORDER BY model LIMIT $3;

-- call_detail
-- One settled request of an account, with all that says how it was counted.
SELECT request_id, entry_id, key_id, model, endpoint, upstream, end_user, plan_id, occurred_at,
    input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens, output_reasoning_tokens,
    output_audio_tokens, currency, book_id, amount_pico, billable, usage_source, usage_flaw, end_reason,
    raw_usage::text AS raw_usage, duration_ms, first_byte_ms
FROM ledger_entry WHERE request_id = $1 AND account_id = $2 AND kind = 'usage';
