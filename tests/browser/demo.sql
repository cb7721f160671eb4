-- A month and a half of one account: busy by day, quiet at night and on weekends, growing a little. Always the same.
SELECT setseed(0.42);

CREATE TEMPORARY TABLE demo AS
WITH moments AS (
    SELECT $1::timestamptz - (g || ' minutes')::interval AS at, random() AS a, random() AS b, random() AS c,
           random() AS d, random() AS e
    FROM generate_series(3, 64800, 7) g
), busy AS (
    SELECT *, extract(hour FROM at + interval '7 hours') AS hour, extract(isodow FROM at + interval '7 hours') AS day
    FROM moments
)
SELECT at, c, d, e,
       (SELECT key_id FROM api_key k WHERE k.account_id = $2::uuid
        ORDER BY k.created_at OFFSET CASE WHEN b < 0.62 THEN 0 WHEN b < 0.87 THEN 1 ELSE 2 END LIMIT 1) AS key_id,
       CASE WHEN b < 0.75 THEN 'nusantara-base' ELSE 'smollm2-135m' END AS model,
       120 + floor(e * 640)::bigint AS fresh, floor(c * 90)::bigint AS cached, 40 + floor(d * 330)::bigint AS written,
       300 + floor(d * 2600)::int AS took_ms
FROM busy
WHERE a < CASE WHEN day > 5 THEN 0.16 ELSE 0.5 END
          * (0.22 + 0.78 * greatest(0, sin((hour - 6) / 15 * pi())))
          * (0.72 + 0.28 * extract(epoch FROM at - ($1::timestamptz - interval '45 days')) / 3888000);

INSERT INTO ledger_entry (
    entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model, endpoint, upstream, end_user,
    plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
    output_reasoning_tokens, output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable,
    usage_source, end_reason, duration_ms, first_byte_ms)
SELECT uuidv7(), uuidv7(), 'usage', at, at + make_interval(secs => took_ms / 1000.0), $2::uuid, key_id, d.model,
    CASE WHEN c < 0.7 THEN 'responses' ELSE 'chat' END, 'models', CASE WHEN c < 0.3 THEN 'visitor-' || floor(c * 40)::int END,
    'pro', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM'), fresh, cached, 0, written, 0, 0, fresh + cached + written, 'idr',
    i.book_id, (fresh + cached) * i.micro_per_mtok + written * o.micro_per_mtok, false,
    CASE WHEN e < 0.985 THEN 'upstream' ELSE 'estimated' END,
    CASE WHEN e < 0.985 THEN 'completed' ELSE 'client_gone_cancelled' END, took_ms, took_ms / 6
FROM demo d
JOIN price_rate i ON i.book_id = 'idr-1' AND i.model = d.model AND i.token_class = 'input_text'
JOIN price_rate o ON o.book_id = 'idr-1' AND o.model = d.model AND o.token_class = 'output_text';

INSERT INTO usage_hourly
SELECT account_id, date_trunc('hour', occurred_at, 'UTC'), key_id, model, end_reason, currency, count(*),
    sum(input_text_tokens + input_cached_tokens), sum(input_cached_tokens), sum(output_text_tokens), 0, sum(amount_pico)
FROM ledger_entry WHERE account_id = $2::uuid GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO usage_user_daily
SELECT account_id, (occurred_at AT TIME ZONE 'UTC')::date, end_user, currency, count(*),
    sum(input_text_tokens + input_cached_tokens), sum(output_text_tokens), sum(amount_pico)
FROM ledger_entry WHERE account_id = $2::uuid AND end_user IS NOT NULL GROUP BY 1, 2, 3, 4;

INSERT INTO account_period_total (account_id, period, currency, requests, input_tokens, output_tokens, quota_tokens, amount_pico)
SELECT account_id, period, currency, count(*), sum(input_text_tokens + input_cached_tokens), sum(output_text_tokens),
    sum(quota_tokens), sum(amount_pico)
FROM ledger_entry WHERE account_id = $2::uuid GROUP BY 1, 2, 3;

INSERT INTO quota_counter (account_id, subject_id, period, used_tokens)
SELECT account_id, subject_id, period, sum(quota_tokens)
FROM ledger_entry, LATERAL (VALUES (account_id), (key_id)) AS subject(subject_id)
WHERE account_id = $2::uuid AND period = to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM') GROUP BY 1, 2, 3
UNION ALL
SELECT account_id, account_id, to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD'), sum(quota_tokens)
FROM ledger_entry
WHERE account_id = $2::uuid AND occurred_at >= date_trunc('day', $1::timestamptz, 'UTC') GROUP BY 1, 2, 3;

INSERT INTO refusal_hourly
SELECT $2::uuid, date_trunc('hour', at, 'UTC'), (array_agg(key_id))[1], 'requests_per_minute', 1 + count(*)
FROM demo WHERE e > 0.985 GROUP BY 1, 2;

UPDATE api_key k SET last_used_at = l.at, last_used_model = l.model
FROM (SELECT DISTINCT ON (key_id) key_id, occurred_at AS at, model FROM ledger_entry WHERE account_id = $2::uuid
      ORDER BY key_id, occurred_at DESC) l
WHERE k.key_id = l.key_id;
