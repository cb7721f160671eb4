-- settle
-- Ends a batch of requests in one statement: entries, intents, limits, read models and outbox together.
-- Everything follows from the intents that were still open, so settling twice changes nothing.
WITH done AS (
    SELECT * FROM json_to_recordset($1::json) AS d(
        request_id uuid, account_id uuid, entry_id uuid, released boolean, end_reason text, upstream text,
        duration_ms integer, first_byte_ms integer,
        input_text_tokens bigint, input_cached_tokens bigint, input_audio_tokens bigint,
        output_text_tokens bigint, output_reasoning_tokens bigint, output_audio_tokens bigint,
        amount_pico bigint, usage_source text, usage_flaw text, raw_usage jsonb, kept_id text,
        kept_previous_id text, kept_days integer, kept_input json, kept_response json, replay_key text, replay_body text)
),
gates AS MATERIALIZED (
    -- Accounts are locked in one order, so that two batches cannot wait for each other.
    SELECT account_id FROM quota_gate
    WHERE account_id IN (SELECT account_id FROM done)
    ORDER BY account_id FOR UPDATE
),
closed AS (
    UPDATE request_intent i
    SET state = CASE WHEN d.released THEN 'released' ELSE 'settled' END,
        end_reason = d.end_reason, upstream = d.upstream, closed_at = clock_timestamp()
    FROM done d JOIN gates USING (account_id)
    -- Not "state = 'open'": the index of the open requests would be read for each row, and only the id's is meant.
    WHERE i.request_id = d.request_id AND i.state NOT IN ('settled', 'released')
    RETURNING i.request_id, i.account_id, i.key_id, i.model, i.endpoint, i.end_user, i.plan_id, i.billable, i.currency,
        i.book_id, i.admitted_at, i.period, i.day, i.reserved_tokens, i.tokens_per_minute, i.closed_at,
        d.entry_id, d.released, d.end_reason, d.upstream, d.duration_ms, d.first_byte_ms,
        d.input_text_tokens, d.input_cached_tokens, d.input_audio_tokens,
        d.output_text_tokens, d.output_reasoning_tokens, d.output_audio_tokens,
        d.input_text_tokens + d.input_cached_tokens + d.input_audio_tokens AS input_tokens,
        d.output_text_tokens + d.output_reasoning_tokens + d.output_audio_tokens AS output_tokens,
        d.amount_pico, d.usage_source, d.usage_flaw, d.raw_usage, d.kept_id,
        d.kept_previous_id, d.kept_days, d.kept_input, d.kept_response, d.replay_key, d.replay_body
),
entries AS (
    INSERT INTO ledger_entry (
        entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model, endpoint, upstream, end_user,
        plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
        output_reasoning_tokens, output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable,
        usage_source, usage_flaw, end_reason, raw_usage, duration_ms, first_byte_ms)
    SELECT entry_id, request_id, 'usage', admitted_at, closed_at, account_id, key_id, model, endpoint, upstream, end_user,
        plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
        output_reasoning_tokens, output_audio_tokens, input_tokens + output_tokens, currency, book_id, amount_pico,
        billable, usage_source, usage_flaw, end_reason, raw_usage, duration_ms, first_byte_ms
    FROM closed WHERE NOT released
),
kept AS (
    -- What the Responses API keeps is readable the moment its answer ends, and only if it was recorded.
    INSERT INTO stored_response (
        response_id, account_id, created_at, expires_at, previous_response_id, model, input_items, response)
    SELECT kept_id, account_id, admitted_at, closed_at + make_interval(days => kept_days), kept_previous_id, model,
        kept_input, kept_response
    FROM closed WHERE kept_id IS NOT NULL
),
replays AS (
    -- A repetition with the same Idempotency-Key gets these bytes.
    UPDATE idempotency_key k SET body = convert_to(c.replay_body, 'UTF8')
    FROM closed c
    WHERE k.account_id = c.account_id AND k.key = c.replay_key AND k.request_id = c.request_id AND NOT c.released
),
outbox AS (
    INSERT INTO billing_outbox (entry_id, account_id, currency, occurred_at, amount_pico)
    SELECT entry_id, account_id, currency, admitted_at, amount_pico
    FROM closed WHERE NOT released AND billable AND amount_pico <> 0
),
gates_passed AS (
    -- Minute tokens that were reserved and not used come back, less what has drained since (GCRA).
    UPDATE quota_gate g
    SET in_flight = g.in_flight - c.requests, tokens_tat_us = g.tokens_tat_us - c.refund_us
    FROM (
        SELECT account_id, count(*) AS requests,
            COALESCE(sum(GREATEST(0, (reserved_tokens - input_tokens - output_tokens) * 60000000
                / NULLIF(tokens_per_minute, 0)
                - GREATEST(0, (extract(epoch FROM closed_at - admitted_at) * 1000000)::bigint))), 0)::bigint AS refund_us
        FROM closed GROUP BY account_id
    ) c
    WHERE g.account_id = c.account_id
),
counters AS (
    UPDATE quota_counter q
    SET used_tokens = q.used_tokens + c.used_tokens, held_tokens = q.held_tokens - c.held_tokens
    FROM (
        SELECT c.account_id, s.subject_id, s.period,
            sum(c.input_tokens + c.output_tokens)::bigint AS used_tokens, sum(c.reserved_tokens)::bigint AS held_tokens
        FROM closed c
        CROSS JOIN LATERAL (
            VALUES (c.account_id, c.period), (c.account_id, c.day), (c.key_id, c.period)
        ) AS s(subject_id, period)
        GROUP BY 1, 2, 3
    ) c
    WHERE q.account_id = c.account_id AND q.subject_id = c.subject_id AND q.period = c.period
),
totals AS (
    INSERT INTO account_period_total AS t (
        account_id, period, currency, requests, input_tokens, output_tokens, quota_tokens, amount_pico, billable_pico)
    SELECT account_id, period, currency, count(*), sum(input_tokens), sum(output_tokens),
        sum(input_tokens + output_tokens), sum(amount_pico), COALESCE(sum(amount_pico) FILTER (WHERE billable), 0)
    FROM closed WHERE NOT released GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (account_id, period, currency) DO UPDATE SET
        requests = t.requests + EXCLUDED.requests, input_tokens = t.input_tokens + EXCLUDED.input_tokens,
        output_tokens = t.output_tokens + EXCLUDED.output_tokens, quota_tokens = t.quota_tokens + EXCLUDED.quota_tokens,
        amount_pico = t.amount_pico + EXCLUDED.amount_pico, billable_pico = t.billable_pico + EXCLUDED.billable_pico
),
hourly AS (
    INSERT INTO usage_hourly AS h (
        account_id, hour, key_id, model, end_reason, currency, requests, input_tokens, input_cached_tokens,
        output_tokens, output_reasoning_tokens, amount_pico)
    SELECT account_id, date_trunc('hour', admitted_at, 'UTC'), key_id, model, end_reason, currency, count(*),
        sum(input_tokens), sum(input_cached_tokens), sum(output_tokens), sum(output_reasoning_tokens), sum(amount_pico)
    FROM closed GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (account_id, hour, key_id, model, end_reason, currency) DO UPDATE SET
        requests = h.requests + EXCLUDED.requests, input_tokens = h.input_tokens + EXCLUDED.input_tokens,
        input_cached_tokens = h.input_cached_tokens + EXCLUDED.input_cached_tokens,
        output_tokens = h.output_tokens + EXCLUDED.output_tokens,
        output_reasoning_tokens = h.output_reasoning_tokens + EXCLUDED.output_reasoning_tokens,
        amount_pico = h.amount_pico + EXCLUDED.amount_pico
),
users AS (
    INSERT INTO usage_user_daily AS u (
        account_id, day, end_user, currency, requests, input_tokens, output_tokens, amount_pico)
    SELECT account_id, day::date, end_user, currency, count(*), sum(input_tokens), sum(output_tokens), sum(amount_pico)
    FROM closed WHERE end_user IS NOT NULL AND NOT released GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (account_id, day, end_user, currency) DO UPDATE SET
        requests = u.requests + EXCLUDED.requests, input_tokens = u.input_tokens + EXCLUDED.input_tokens,
        output_tokens = u.output_tokens + EXCLUDED.output_tokens, amount_pico = u.amount_pico + EXCLUDED.amount_pico
)
SELECT request_id FROM closed;

-- intent_states
-- How requests ended that a batch found closed already.
SELECT request_id, state FROM request_intent WHERE request_id = ANY($1::uuid[]);

-- swept
-- Requests that a sweeper ended, among those that are named.
SELECT request_id FROM ledger_entry WHERE request_id = ANY($1::uuid[]) AND kind = 'usage' AND usage_flaw = 'gateway_crash';

-- stale_intents
-- Open requests whose gateway has not been heard of for a while. After 24 days an age is more than an entry's duration
-- can say: one such request, out of an old backup, must not fail the whole page.
SELECT request_id, account_id, model, book_id, upstream, input_tokens, reserved_tokens, delivered_bytes,
    LEAST((extract(epoch FROM clock_timestamp() - admitted_at) * 1000)::bigint, 2147483647) AS age_ms
FROM request_intent
WHERE state = 'open' AND heartbeat_at < clock_timestamp() - make_interval(secs => $1)
ORDER BY deadline LIMIT $2;

-- heartbeat
-- Says that requests are still being served, and how far they are. One that is just being settled is passed over: whoever
-- waits for it, and has locked others that the same settlement is about to want, is in a deadlock with it.
WITH alive AS MATERIALIZED (
    SELECT i.request_id, b.delivered_bytes, b.upstream
    FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS b(request_id, delivered_bytes, upstream)
    JOIN request_intent i ON i.request_id = b.request_id AND i.state NOT IN ('settled', 'released')
    FOR NO KEY UPDATE OF i SKIP LOCKED
)
UPDATE request_intent i SET heartbeat_at = clock_timestamp(), delivered_bytes = a.delivered_bytes, upstream = a.upstream
FROM alive a WHERE i.request_id = a.request_id;

-- export
-- The ledger for export: one month or all of it, one account or all, oldest first, page by page.
SELECT entry_id, kind, request_id, account_id, key_id, model, endpoint, upstream, end_user, plan_id, period,
    occurred_at, settled_at,
    input_text_tokens + input_cached_tokens + input_audio_tokens AS input_tokens, input_cached_tokens,
    output_text_tokens + output_reasoning_tokens + output_audio_tokens AS output_tokens, output_reasoning_tokens,
    quota_tokens, usage_source, end_reason, currency, amount_pico, book_id
FROM ledger_entry
WHERE ($1::uuid IS NULL OR account_id = $1) AND ($2::text IS NULL OR period = $2)
    AND (occurred_at, entry_id) > ($3::timestamptz, $4::uuid)
ORDER BY occurred_at, entry_id
LIMIT $5;

-- usage_by_model
-- Usage of an account in a range of time, by model, from closed days and hours.
SELECT model AS grouped, currency, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM usage_between($1, $2, $3)
GROUP BY 1, 2 ORDER BY 1, 2;

-- usage_by_key
-- Usage of an account in a range of time, by key.
SELECT key_id::text AS grouped, currency, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM usage_between($1, $2, $3)
GROUP BY 1, 2 ORDER BY 1, 2;

-- usage_by_status
-- Usage of an account in a range of time, by how the requests ended; those that served nothing have no tokens.
SELECT end_reason AS grouped, currency, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM usage_between($1, $2, $3)
GROUP BY 1, 2 ORDER BY 1, 2;

-- usage_by_day
-- Usage of an account in a range of time, by UTC day.
SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS grouped, currency, sum(requests)::bigint AS requests,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM usage_between($1, $2, $3)
GROUP BY 1, 2 ORDER BY 1, 2;

-- usage_by_hour
-- Usage of an account in a range of time, by UTC hour.
SELECT to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:00:00"Z"') AS grouped, currency,
    sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM usage_hourly WHERE account_id = $1 AND hour >= $2 AND hour < $3
GROUP BY 1, 2 ORDER BY 1, 2;

-- usage_by_user
-- Usage of an account in the UTC days that a range of time touches, by end user: so many who used most, and the others
-- together in one group that has no name.
WITH users AS (
    SELECT end_user, currency, sum(requests) AS requests, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(amount_pico) AS amount_pico
    FROM usage_user_daily
    WHERE account_id = $1 AND day >= ($2::timestamptz AT TIME ZONE 'UTC')::date
        AND day <= (($3::timestamptz - interval '1 microsecond') AT TIME ZONE 'UTC')::date
    GROUP BY 1, 2
),
places AS (
    SELECT end_user, row_number() OVER (ORDER BY sum(input_tokens + output_tokens) DESC, sum(requests) DESC, end_user) AS place
    FROM users GROUP BY end_user
)
SELECT CASE WHEN place <= $4 THEN end_user END AS grouped, currency, sum(requests)::bigint AS requests,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, sum(amount_pico) AS amount_pico
FROM users JOIN places USING (end_user) GROUP BY 1, 2 ORDER BY 1, 2;

-- verify_one_entry_a_request
-- Requests of a month that were settled without exactly one usage entry (I1, I3).
SELECT count(*) FROM (
    SELECT i.request_id FROM request_intent i
    LEFT JOIN ledger_entry e ON e.request_id = i.request_id AND e.kind = 'usage' AND e.occurred_at = i.admitted_at
        AND e.occurred_at >= $1::text::timestamptz AND e.occurred_at < $2::text::timestamptz
    WHERE i.state <> 'open' AND i.admitted_at >= $1::text::timestamptz AND i.admitted_at < $2::text::timestamptz
    GROUP BY i.request_id, i.state
    HAVING count(e.entry_id) <> CASE i.state WHEN 'settled' THEN 1 ELSE 0 END
) AS broken;

-- verify_no_double_entry
-- Requests with more than one usage entry, whatever partition they are in (I3). Ids begin with their time, so those that
-- were made in the month are a range of the index of every partition.
SELECT count(*) FROM (
    SELECT request_id FROM ledger_entry WHERE kind = 'usage' AND request_id >= $1 AND request_id <= $2
    GROUP BY request_id HAVING count(*) > 1
) AS broken;

-- verify_used
-- Counters of a month and its days whose used tokens are not the sum of the ledger's entries (I6).
WITH used AS MATERIALIZED (
    SELECT account_id, key_id, period, (occurred_at AT TIME ZONE 'UTC')::date AS day, sum(quota_tokens) AS tokens
    FROM ledger_entry
    WHERE occurred_at >= $1::text::timestamptz AND occurred_at < $2::text::timestamptz
    GROUP BY 1, 2, 3, 4
),
sums AS (
    SELECT u.account_id, s.subject_id, s.period, sum(u.tokens) AS tokens
    FROM used u
    CROSS JOIN LATERAL (
        VALUES (u.account_id, u.period), (u.key_id, u.period), (u.account_id, u.day::text), (u.key_id, u.day::text)
    ) AS s(subject_id, period)
    GROUP BY 1, 2, 3
)
SELECT count(*) FROM quota_counter c LEFT JOIN sums s USING (account_id, subject_id, period)
WHERE c.used_tokens <> COALESCE(s.tokens, 0)
    AND c.period COLLATE "C" >= left($1, 7) AND c.period COLLATE "C" < left($2, 7);

-- verify_held
-- Counters whose held tokens are not the sum of the open requests (I6).
WITH held AS MATERIALIZED (
    SELECT i.account_id, s.subject_id, s.period, sum(i.reserved_tokens) AS tokens
    FROM request_intent i
    CROSS JOIN LATERAL (
        VALUES (i.account_id, i.period), (i.key_id, i.period), (i.account_id, i.day), (i.key_id, i.day)
    ) AS s(subject_id, period)
    WHERE i.state = 'open' GROUP BY 1, 2, 3
)
SELECT count(*) FROM quota_counter c LEFT JOIN held h USING (account_id, subject_id, period)
WHERE c.held_tokens <> COALESCE(h.tokens, 0);

-- verify_in_flight
-- Gates whose requests in flight are not the open requests (I6).
SELECT count(*) FROM quota_gate g
WHERE g.in_flight <> (SELECT count(*) FROM request_intent i WHERE i.state = 'open' AND i.account_id = g.account_id);

-- verify_limits
-- Accounts above their month's limit by more than their requests used above their reservations and operators added (I5).
-- What was let in under another limit proves nothing, so only requests of the account's present plan count that were let in
-- within ten minutes, and a minute or more after its limits were last set: until then a gateway may have known the old ones.
WITH above AS MATERIALIZED (
    SELECT c.account_id, c.period, a.plan_id, c.used_tokens + c.held_tokens - l.monthly_tokens AS beyond_tokens
    FROM quota_counter c
    JOIN account a ON a.account_id = c.account_id AND c.subject_id = c.account_id
    JOIN plan p ON p.plan_id = a.plan_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.limits ? 'monthly_tokens' THEN (a.limits ->> 'monthly_tokens')::bigint ELSE p.monthly_tokens END
            AS monthly_tokens
    ) l
    WHERE c.period = to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') AND c.used_tokens + c.held_tokens > l.monthly_tokens
)
SELECT count(*) FROM above b
WHERE EXISTS (
        SELECT FROM request_intent i
        WHERE i.account_id = b.account_id AND i.period = b.period AND i.plan_id = b.plan_id AND i.state <> 'released'
            AND i.admitted_at > now() - interval '10 minutes'
            AND NOT EXISTS (
                SELECT FROM audit_event s
                WHERE s.account_id = b.account_id AND s.action = 'account:set_limits'
                    AND s.happened_at > i.admitted_at - interval '1 minute'))
    AND b.beyond_tokens > (
        SELECT COALESCE(sum(GREATEST(0, e.quota_tokens - COALESCE(i.reserved_tokens, 0))), 0) FROM ledger_entry e
        LEFT JOIN request_intent i ON i.request_id = e.request_id AND e.kind = 'usage'
        WHERE e.account_id = b.account_id AND e.period = b.period AND (i.request_id IS NOT NULL OR e.kind <> 'usage')
            AND e.occurred_at >= date_trunc('month', now(), 'UTC'));

-- verify_append_only
-- Guards of the ledger and of what operators did that are not there or not in force, in every partition, and grants to
-- change either (I13).
WITH kept AS (
    SELECT relid, 'ledger_entry' AS name FROM pg_partition_tree('ledger_entry')
    UNION ALL SELECT 'audit_event'::regclass, 'audit_event'
)
SELECT (
    SELECT count(*) FROM kept, unnest(ARRAY['_append_only', '_no_truncate']) AS guard
    WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relid AND tgname = name || guard AND tgenabled IN ('O', 'A'))
) + (
    SELECT count(*) FROM kept JOIN pg_class c ON c.oid = relid CROSS JOIN aclexplode(c.relacl) AS a
    WHERE a.grantee <> c.relowner AND a.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')
);

-- verify_period_totals
-- Totals of a month that are not the sum of the ledger (I6).
SELECT count(*) FROM (
    SELECT account_id, period, currency, quota_tokens, amount_pico, billable_pico FROM account_period_total
    WHERE period COLLATE "C" >= left($1, 7) AND period COLLATE "C" < left($2, 7)
) t
FULL JOIN (
    SELECT account_id, period, currency, sum(quota_tokens) AS quota_tokens, sum(amount_pico) AS amount_pico,
        COALESCE(sum(amount_pico) FILTER (WHERE billable), 0) AS billable_pico
    FROM ledger_entry
    WHERE occurred_at >= $1::text::timestamptz AND occurred_at < $2::text::timestamptz
    GROUP BY 1, 2, 3
) l USING (account_id, period, currency)
WHERE t.quota_tokens IS DISTINCT FROM l.quota_tokens OR t.amount_pico IS DISTINCT FROM l.amount_pico
    OR t.billable_pico IS DISTINCT FROM l.billable_pico;

-- verify_hourly
-- Hours of accounts in a month whose read model does not add up to the ledger (I6).
SELECT count(*) FROM (
    SELECT account_id, hour, currency, sum(input_tokens + output_tokens) AS tokens, sum(amount_pico) AS amount_pico
    FROM usage_hourly
    WHERE hour >= $1::text::timestamptz AND hour < $2::text::timestamptz
    GROUP BY 1, 2, 3
) h
FULL JOIN (
    SELECT account_id, date_trunc('hour', occurred_at, 'UTC') AS hour, currency, sum(quota_tokens) AS tokens,
        sum(amount_pico) AS amount_pico
    FROM ledger_entry
    WHERE occurred_at >= $1::text::timestamptz AND occurred_at < $2::text::timestamptz
    GROUP BY 1, 2, 3
) l USING (account_id, hour, currency)
WHERE COALESCE(h.tokens, 0) <> COALESCE(l.tokens, 0) OR COALESCE(h.amount_pico, 0) <> COALESCE(l.amount_pico, 0);

-- verify_daily
-- Rows of a month's closed days that are not the sum of their hours, on either side (I6).
WITH closed AS (
    SELECT (last_day + 1)::timestamp AT TIME ZONE 'UTC' AS until FROM usage_closed
)
SELECT count(*) FROM (
    SELECT d.* FROM usage_daily d, closed
    WHERE d.day < (until AT TIME ZONE 'UTC')::date
        AND d.day >= ($1::text::timestamptz AT TIME ZONE 'UTC')::date
        AND d.day < ($2::text::timestamptz AT TIME ZONE 'UTC')::date
) d
FULL JOIN (
    SELECT account_id, (hour AT TIME ZONE 'UTC')::date AS day, key_id, model, end_reason, currency,
        sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(input_cached_tokens) AS input_cached_tokens,
        sum(output_tokens) AS output_tokens, sum(output_reasoning_tokens) AS output_reasoning_tokens,
        sum(amount_pico) AS amount_pico
    FROM usage_hourly, closed
    WHERE hour < until AND hour >= $1::text::timestamptz AND hour < $2::text::timestamptz
    GROUP BY 1, 2, 3, 4, 5, 6
) h USING (account_id, day, key_id, model, end_reason, currency)
WHERE (d.requests, d.input_tokens, d.input_cached_tokens, d.output_tokens, d.output_reasoning_tokens, d.amount_pico)
    IS DISTINCT FROM
    (h.requests, h.input_tokens, h.input_cached_tokens, h.output_tokens, h.output_reasoning_tokens, h.amount_pico);

-- verify_outbox
-- Billable entries of a month without their outbox row, and outbox rows of a month without their entry (I3).
SELECT count(*) FROM (
    SELECT entry_id, amount_pico FROM ledger_entry
    WHERE billable AND amount_pico <> 0
        AND occurred_at >= $1::text::timestamptz AND occurred_at < $2::text::timestamptz
) e
FULL JOIN (
    SELECT entry_id, amount_pico FROM billing_outbox
    WHERE occurred_at >= $1::text::timestamptz AND occurred_at < $2::text::timestamptz
) o USING (entry_id)
WHERE e.amount_pico IS DISTINCT FROM o.amount_pico;

-- verify_period
-- Entries of a month whose period is not the UTC month of their admission (I12).
SELECT count(*) FROM ledger_entry
WHERE occurred_at >= $1::text::timestamptz AND occurred_at < $2::text::timestamptz
    AND period <> to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM');

-- verify_amount
-- Entries of a month whose amount is not tokens times the rates of their price book; a class of tokens that has no rate
-- costs what its text costs.
WITH rate AS MATERIALIZED (
    -- numeric, so that no forged number of tokens can overflow.
    SELECT book_id, model,
        COALESCE(input_text, 0) AS input_text, COALESCE(input_cached, input_text, 0) AS input_cached,
        COALESCE(input_audio, input_text, 0) AS input_audio, COALESCE(output_text, 0) AS output_text,
        COALESCE(output_reasoning, output_text, 0) AS output_reasoning,
        COALESCE(output_audio, output_text, 0) AS output_audio
    FROM (
        SELECT book_id, model,
            max(micro_per_mtok) FILTER (WHERE token_class = 'input_text')::numeric AS input_text,
            max(micro_per_mtok) FILTER (WHERE token_class = 'input_cached')::numeric AS input_cached,
            max(micro_per_mtok) FILTER (WHERE token_class = 'input_audio')::numeric AS input_audio,
            max(micro_per_mtok) FILTER (WHERE token_class = 'output_text')::numeric AS output_text,
            max(micro_per_mtok) FILTER (WHERE token_class = 'output_reasoning')::numeric AS output_reasoning,
            max(micro_per_mtok) FILTER (WHERE token_class = 'output_audio')::numeric AS output_audio
        FROM price_rate GROUP BY 1, 2
    ) own
)
SELECT count(*) FROM ledger_entry e LEFT JOIN rate r USING (book_id, model)
WHERE e.kind = 'usage'
    AND e.occurred_at >= $1::text::timestamptz AND e.occurred_at < $2::text::timestamptz
    AND e.amount_pico IS DISTINCT FROM e.input_text_tokens * r.input_text + e.input_cached_tokens * r.input_cached
        + e.input_audio_tokens * r.input_audio + e.output_text_tokens * r.output_text
        + e.output_reasoning_tokens * r.output_reasoning + e.output_audio_tokens * r.output_audio;

-- verify_default_partition
-- Entries that no monthly partition was ready for.
SELECT count(*) FROM ledger_entry_default;

-- verify_months
-- The months that have a partition, and those of entries that have none. What belongs to no month is looked at between them.
SELECT DISTINCT month FROM (
    SELECT replace(substring(relid::text from '^ledger_entry_([0-9]{4}_[0-9]{2})$'), '_', '-') AS month
    FROM pg_partition_tree('ledger_entry') WHERE isleaf
    UNION ALL
    SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM') FROM ledger_entry_default
) m
WHERE month ~ '^[0-9]{4}-[0-9]{2}$' AND month < '9999' ORDER BY 1;

-- ensure_partitions
-- Makes the partitions of this month and the months after it.
SELECT ensure_ledger_partitions(now(), $1);

-- delete_closed_intents
-- Clears closed requests whose entries have long been written, a page at a time.
DELETE FROM request_intent WHERE request_id IN (
    SELECT request_id FROM request_intent
    WHERE state <> 'open' AND closed_at < now() - make_interval(days => $1) LIMIT $2);
