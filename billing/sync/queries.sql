-- lock_due_accounts
-- A page of accounts with usage to freeze, locked so that no two workers freeze one account at the same time.
SELECT c.account_id FROM stripe_customer c
WHERE c.account_id > $1 AND c.state = 'active' AND EXISTS (
    SELECT FROM billing_outbox o
    WHERE o.account_id = c.account_id AND o.batch_id IS NULL AND o.occurred_at < $2)
ORDER BY c.account_id LIMIT $3
FOR NO KEY UPDATE OF c SKIP LOCKED;

-- freeze
-- Make batches of the outbox rows of locked accounts: one an account, currency and UTC hour that is over and has no
-- open request. What is below Stripe's unit is carried, so the sum of a period is never off by a whole unit. An hour in
-- which a subscription by use began or ended is cut there: what is outside of it is on no invoice, because credit paid
-- for it.
WITH open_requests AS (
    SELECT account_id, date_trunc('hour', min(admitted_at), 'UTC') AS first_hour
    FROM request_intent WHERE state = 'open' AND account_id = ANY ($1::uuid[]) AND admitted_at < $2
    GROUP BY account_id
),
unit AS (
    SELECT * FROM unnest($4::text[], $5::numeric[], $6::text[]) AS u(currency, unit_pico, event_name)
),
cuts AS (
    SELECT s.account_id, date_trunc('hour', t.turned_at, 'UTC') AS window_start, array_agg(t.turned_at) AS turns
    FROM stripe_subscription s CROSS JOIN LATERAL (VALUES (s.started_at), (s.ended_at)) AS t(turned_at)
    WHERE s.account_id = ANY ($1::uuid[]) AND s.metered_item_id IS NOT NULL AND t.turned_at IS NOT NULL GROUP BY 1, 2
),
due AS (
    -- Account by account, oldest first, so that the limit cuts one hour in two and no more.
    SELECT o.entry_id, a.account_id, u.currency, o.occurred_at, o.amount_pico,
        date_trunc('hour', o.occurred_at, 'UTC') AS window_start
    FROM unnest($1::uuid[]) AS a(account_id)
    CROSS JOIN unit u
    LEFT JOIN open_requests r ON r.account_id = a.account_id
    CROSS JOIN LATERAL (
        SELECT * FROM billing_outbox o
        WHERE o.account_id = a.account_id AND o.currency = u.currency AND o.batch_id IS NULL
            AND o.occurred_at < LEAST($2, r.first_hour)
        ORDER BY o.occurred_at LIMIT $3
    ) o
    LIMIT $3
),
parted AS (
    SELECT d.*, (SELECT count(*) FROM unnest(c.turns) AS t(turned_at) WHERE d.occurred_at >= t.turned_at) AS part
    FROM due d LEFT JOIN cuts c USING (account_id, window_start)
),
hours AS (
    SELECT account_id, currency, window_start, part, to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM') AS period,
        count(*)::integer AS entries, sum(amount_pico) AS amount_pico,
        date_trunc('second', min(occurred_at)) AS event_at
    FROM parted GROUP BY account_id, currency, window_start, part
),
running AS (
    SELECT h.*, u.event_name, COALESCE(c.frozen_units, 0) AS units_before_all,
        COALESCE(c.cum_pico, 0) + sum(h.amount_pico) OVER earlier AS cum_pico,
        floor((COALESCE(c.cum_pico, 0) + sum(h.amount_pico) OVER earlier) / u.unit_pico)::bigint AS units
    FROM hours h
    JOIN unit u USING (currency)
    LEFT JOIN stripe_carry c USING (account_id, currency, period)
    WINDOW earlier AS (PARTITION BY h.account_id, h.currency, h.period ORDER BY h.window_start, h.part)
),
made AS MATERIALIZED (
    SELECT r.*, gen_random_uuid() AS batch_id, s.customer_id,
        r.units - lag(r.units, 1, r.units_before_all) OVER (
            PARTITION BY r.account_id, r.currency, r.period ORDER BY r.window_start, r.part) AS value
    FROM running r JOIN stripe_customer s USING (account_id)
),
batches AS (
    INSERT INTO stripe_batch (
        batch_id, account_id, currency, period, window_start, entries, amount_pico, value, event_name, event_at,
        customer_id, identifier, idempotency_key, payload_sha256, state, next_attempt_at, frozen_at)
    SELECT batch_id, account_id, currency, period, window_start, entries, amount_pico, value, event_name, event_at,
        customer_id, stripe_identifier(batch_id, 1), 'me:' || stripe_identifier(batch_id, 1),
        stripe_payload_sha256(event_name, stripe_identifier(batch_id, 1), event_at, customer_id, value),
        CASE value WHEN 0 THEN 'empty' ELSE 'waiting' END, $7, $7
    FROM made
),
carried AS (
    INSERT INTO stripe_carry AS c (account_id, currency, period, cum_pico, frozen_units)
    SELECT DISTINCT ON (account_id, currency, period) account_id, currency, period, cum_pico, units
    FROM made ORDER BY account_id, currency, period, window_start DESC, part DESC
    ON CONFLICT (account_id, currency, period) DO UPDATE SET
        cum_pico = EXCLUDED.cum_pico, frozen_units = EXCLUDED.frozen_units
),
marked AS (
    UPDATE billing_outbox o SET batch_id = m.batch_id
    FROM parted d JOIN made m USING (account_id, currency, window_start, part)
    WHERE o.entry_id = d.entry_id
    RETURNING 1
)
SELECT (SELECT count(*) FROM made WHERE value <> 0) AS batches, (SELECT count(*) FROM made WHERE value = 0) AS empty,
    (SELECT count(*) FROM marked) AS entries;

-- end_leases
-- Give back what a worker leased that died or took too long; whether it was sent stays unknown.
UPDATE stripe_batch SET state = 'waiting', next_attempt_at = $1 WHERE state = 'sending' AND lease_until <= $1;

-- readdress
-- Batches that were frozen for a customer whom a new one has replaced, and that Stripe certainly does not have.
WITH stale AS (
    SELECT b.batch_id, b.generation, b.identifier, b.customer_id AS customer_before, c.customer_id
    FROM stripe_batch b JOIN stripe_customer c USING (account_id)
    WHERE b.state = 'waiting' AND b.first_attempt_at IS NULL AND c.state = 'active' AND c.customer_id <> b.customer_id
    ORDER BY b.batch_id LIMIT $2
    FOR UPDATE OF b SKIP LOCKED
),
noted AS (
    INSERT INTO stripe_batch_decision (
        batch_id, decided_at, generation, identifier, customer_id, state_from, state_to, reason, actor)
    SELECT batch_id, $1, generation, identifier, customer_before, 'waiting', 'waiting', 'the account has a new customer', 'sync'
    FROM stale
)
UPDATE stripe_batch b SET
    generation = s.generation + 1, customer_id = s.customer_id, attempts = 0, next_attempt_at = $1,
    identifier = stripe_identifier(b.batch_id, s.generation + 1),
    idempotency_key = 'me:' || stripe_identifier(b.batch_id, s.generation + 1),
    payload_sha256 = stripe_payload_sha256(
        b.event_name, stripe_identifier(b.batch_id, s.generation + 1), b.event_at, s.customer_id, b.value)
FROM stale s WHERE b.batch_id = s.batch_id;

-- doubt_stale
-- Batches of a replaced customer that Stripe may have: only reconciling can tell.
UPDATE stripe_batch b SET state = 'unproven'
FROM stripe_customer c
WHERE c.account_id = b.account_id AND c.state = 'active' AND c.customer_id <> b.customer_id
    AND b.state = 'waiting' AND b.first_attempt_at IS NOT NULL;

-- claim
-- Lease what is due, of accounts that nothing is being sent for, and note the attempt before it is made.
WITH due AS (
    SELECT b.batch_id, b.first_attempt_at
    FROM stripe_batch b JOIN stripe_customer c USING (account_id)
    WHERE b.state = 'waiting' AND b.next_attempt_at <= $1 AND c.state = 'active' AND c.customer_id = b.customer_id
        AND b.account_id <> ALL ($2::uuid[])
    ORDER BY b.next_attempt_at, b.account_id, b.window_start LIMIT $3
    FOR UPDATE OF b SKIP LOCKED
)
UPDATE stripe_batch b SET
    state = 'sending', attempts = b.attempts + 1, last_attempt_at = $1, lease_until = $4,
    first_attempt_at = COALESCE(b.first_attempt_at, $1)
FROM due d WHERE b.batch_id = d.batch_id
RETURNING b.batch_id, b.account_id, b.event_name, b.event_at, b.customer_id, b.value, b.generation,
    b.identifier, b.idempotency_key, b.payload_sha256, b.attempts, b.last_attempt_at AS leased_at, b.lease_until,
    d.first_attempt_at AS unsure_since;

-- record
-- Write down what attempts came to. That Stripe has an event is true whoever hears of it; anything else may be said
-- only by the worker that made the last attempt.
UPDATE stripe_batch b SET
    state = v.state, next_attempt_at = v.next_attempt_at, first_attempt_at = v.first_attempt_at,
    last_error = v.last_error, last_status = v.last_status, last_request_id = v.last_request_id, lease_until = NULL,
    accepted_at = CASE v.state WHEN 'accepted' THEN $2 ELSE b.accepted_at END
FROM json_to_recordset($1::json) AS v(
    batch_id uuid, generation integer, attempts integer, state text, next_attempt_at timestamptz,
    first_attempt_at timestamptz, last_error text, last_status integer, last_request_id text)
WHERE b.batch_id = v.batch_id AND b.generation = v.generation
    AND ((b.state = 'sending' AND b.attempts = v.attempts)
        OR (v.state = 'accepted' AND b.state IN ('waiting', 'sending', 'unproven', 'dead')))
RETURNING b.batch_id, b.account_id, b.state, b.last_error;

-- park
-- Stop sending for an account whose customer Stripe does not know, unless it has another one by now.
UPDATE stripe_customer SET state = 'parked', parked_reason = $3, changed_at = $4
WHERE account_id = $1 AND customer_id = $2 AND state = 'active';

-- find_batch
-- One batch, for a decision about it.
SELECT batch_id, account_id, currency, period, window_start, entries, amount_pico, value, event_at, customer_id, generation,
    identifier, state, attempts, first_attempt_at, next_attempt_at, last_error, last_status, last_request_id,
    frozen_at, accepted_at, confirmed_at
FROM stripe_batch WHERE batch_id = $1 FOR UPDATE;

-- find_identifier
-- The batch whose present generation has an identifier.
SELECT batch_id, account_id, customer_id, state, generation FROM stripe_batch WHERE identifier = $1 FOR UPDATE;

-- decide
-- Move a batch on somebody's decision, and keep what it was and why.
WITH noted AS (
    INSERT INTO stripe_batch_decision (
        batch_id, decided_at, generation, identifier, customer_id, state_from, state_to, reason, actor)
    SELECT batch_id, $3, generation, identifier, customer_id, state, $2, $4, $5 FROM stripe_batch WHERE batch_id = $1
)
UPDATE stripe_batch SET
    state = $2, last_error = COALESCE($6, last_error),
    confirmed_at = CASE $2 WHEN 'confirmed' THEN $3 ELSE confirmed_at END,
    accepted_at = CASE $2 WHEN 'confirmed' THEN COALESCE(accepted_at, $3) ELSE accepted_at END,
    first_attempt_at = CASE WHEN $2 IN ('confirmed', 'dead', 'empty') THEN NULL
        ELSE COALESCE(first_attempt_at, last_attempt_at, $3) END
WHERE batch_id = $1;

-- reissue
-- Say a batch again under a new identifier, to the customer that the account has now, and keep what is given up and why.
WITH noted AS (
    INSERT INTO stripe_batch_decision (
        batch_id, decided_at, generation, identifier, customer_id, state_from, state_to, reason, actor)
    SELECT batch_id, $2, generation, identifier, customer_id, state, 'waiting', $3, $4 FROM stripe_batch WHERE batch_id = $1
)
UPDATE stripe_batch b SET
    state = 'waiting', generation = b.generation + 1, customer_id = c.customer_id, attempts = 0, next_attempt_at = $2,
    first_attempt_at = NULL, lease_until = NULL, accepted_at = NULL, confirmed_at = NULL,
    identifier = stripe_identifier(b.batch_id, b.generation + 1),
    idempotency_key = 'me:' || stripe_identifier(b.batch_id, b.generation + 1),
    payload_sha256 = stripe_payload_sha256(
        b.event_name, stripe_identifier(b.batch_id, b.generation + 1), b.event_at, c.customer_id, b.value)
FROM stripe_customer c WHERE b.batch_id = $1 AND c.account_id = b.account_id;

-- count_states
-- How many batches are on their way, by state.
SELECT 'waiting' AS state, count(*) AS batches FROM stripe_batch WHERE state = 'waiting'
UNION ALL SELECT 'sending', count(*) FROM stripe_batch WHERE state = 'sending'
UNION ALL SELECT 'accepted', count(*) FROM stripe_batch WHERE state = 'accepted'
UNION ALL SELECT 'unproven', count(*) FROM stripe_batch WHERE state = 'unproven'
UNION ALL SELECT 'dead', count(*) FROM stripe_batch WHERE state = 'dead';

-- backlog
-- What no batch holds yet: how much, the oldest of it, and how much of it has no customer at Stripe.
SELECT count(*) AS entries, min(o.occurred_at) AS oldest_at,
    count(*) FILTER (WHERE c.account_id IS NULL) AS entries_without_customer,
    count(DISTINCT o.account_id) FILTER (WHERE c.account_id IS NULL) AS accounts_without_customer
FROM billing_outbox o LEFT JOIN stripe_customer c USING (account_id)
WHERE o.batch_id IS NULL;

-- oldest_unaccepted
-- The oldest usage that is in a batch and that Stripe has not accepted.
SELECT min(window_start) FROM stripe_batch WHERE state IN ('waiting', 'sending', 'unproven', 'dead');

-- parked
-- Accounts whose customer Stripe does not know.
SELECT account_id, customer_id, parked_reason, changed_at FROM stripe_customer
WHERE state = 'parked' ORDER BY changed_at LIMIT $1;

-- count_parked
-- How many accounts are parked.
SELECT count(*) FROM stripe_customer WHERE state = 'parked';

-- list_troubled
-- Batches that somebody should look at, oldest first.
SELECT batch_id, account_id, currency, period, window_start, entries, amount_pico, value, event_at, customer_id, generation,
    identifier, state, attempts, first_attempt_at, next_attempt_at, last_error, last_status, last_request_id,
    frozen_at, accepted_at, confirmed_at
FROM stripe_batch WHERE state IN ('unproven', 'dead') ORDER BY window_start LIMIT $1;

-- count_errors
-- What those that wait were last told, by error.
SELECT last_error, count(*) AS batches FROM stripe_batch
WHERE state = 'waiting' AND last_error IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1;

-- verify_rows
-- Batches of a month that do not hold exactly the outbox rows they were made of, and rows whose batch does not exist.
SELECT count(*) FROM (
    SELECT batch_id, count(*) AS entries, sum(amount_pico) AS amount_pico FROM billing_outbox
    WHERE batch_id IS NOT NULL
        AND occurred_at >= $1::text::timestamptz AND occurred_at < $2::text::timestamptz
    GROUP BY batch_id
) o
FULL JOIN (
    SELECT batch_id, entries, amount_pico FROM stripe_batch
    WHERE window_start >= $1::text::timestamptz AND window_start < $2::text::timestamptz
) b USING (batch_id)
WHERE b.entries IS DISTINCT FROM o.entries OR b.amount_pico IS DISTINCT FROM o.amount_pico;

-- verify_units
-- Accounts whose batches and carry of a month do not add up to the outbox rows: sum of values times the unit, plus less
-- than one unit.
WITH unit AS (SELECT * FROM unnest($3::text[], $4::numeric[]) AS u(currency, unit_pico))
SELECT count(*) FROM (
    SELECT account_id, currency, period, sum(value) AS units, sum(amount_pico) AS amount_pico FROM stripe_batch
    WHERE window_start >= $1::text::timestamptz AND window_start < $2::text::timestamptz
    GROUP BY 1, 2, 3
) b
FULL JOIN (
    SELECT account_id, currency, period, cum_pico, frozen_units FROM stripe_carry
    WHERE period COLLATE "C" >= left($1, 7) AND period COLLATE "C" < left($2, 7)
) c USING (account_id, currency, period)
LEFT JOIN unit u USING (currency)
WHERE b.units IS DISTINCT FROM c.frozen_units OR b.amount_pico IS DISTINCT FROM c.cum_pico
    OR NOT COALESCE(c.cum_pico - c.frozen_units * u.unit_pico BETWEEN 0 AND u.unit_pico - 1, false);

-- verify_windows
-- Batches with a row of a month that is outside their hour, of another account, or in another currency.
SELECT count(*) FROM billing_outbox o JOIN stripe_batch b USING (batch_id)
WHERE o.occurred_at >= $1::text::timestamptz AND o.occurred_at < $2::text::timestamptz
    AND (o.account_id <> b.account_id OR o.currency <> b.currency
        OR date_trunc('hour', o.occurred_at, 'UTC') <> b.window_start
        OR to_char(b.window_start AT TIME ZONE 'UTC', 'YYYY-MM') <> b.period
        OR date_trunc('hour', b.event_at, 'UTC') <> b.window_start);

-- verify_payloads
-- Batches of a month whose payload is not what was frozen.
SELECT count(*) FROM stripe_batch
WHERE window_start >= $1::text::timestamptz AND window_start < $2::text::timestamptz
    AND (payload_sha256 <> stripe_payload_sha256(event_name, identifier, event_at, customer_id, value)
        OR identifier <> stripe_identifier(batch_id, generation) OR idempotency_key <> 'me:' || identifier);

-- list_old
-- Dead letters that Stripe certainly does not have and would not take any more, oldest first, and what the account paid
-- for that month from credit.
SELECT b.batch_id, b.account_id, b.currency, b.period, b.window_start, b.entries, b.amount_pico, b.value, b.customer_id,
    COALESCE(u.drawn_pico, 0) AS drawn_pico
FROM stripe_batch b LEFT JOIN credit_usage u ON u.account_id = b.account_id AND u.period = b.period
WHERE b.state = 'dead' AND b.first_attempt_at IS NULL AND b.event_at <= $1
    AND ($2::uuid IS NULL OR b.account_id = $2)
ORDER BY b.window_start, b.batch_id LIMIT $3;

-- lock_old
-- The same, of those that were named, for whoever writes them off.
SELECT b.batch_id, b.account_id, b.currency, b.period, b.window_start, b.entries, b.amount_pico, b.value, b.customer_id,
    COALESCE((SELECT u.drawn_pico FROM credit_usage u WHERE u.account_id = b.account_id AND u.period = b.period), 0)
    AS drawn_pico
FROM stripe_batch b
WHERE b.batch_id = ANY ($2::uuid[]) AND b.state = 'dead' AND b.first_attempt_at IS NULL AND b.event_at <= $1
ORDER BY b.batch_id FOR UPDATE;

-- count_without_customer
-- Usage of long ago that never came into a batch, because its account is nobody at Stripe.
SELECT o.account_id, o.currency, count(*) AS entries, min(o.occurred_at) AS oldest_at, sum(o.amount_pico) AS amount_pico
FROM billing_outbox o LEFT JOIN stripe_customer c ON c.account_id = o.account_id AND c.state = 'active'
WHERE o.batch_id IS NULL AND o.occurred_at <= $1 AND c.account_id IS NULL
GROUP BY 1, 2 ORDER BY 4, 1 LIMIT $2;

-- write_off
-- Take back in the current month what the entries of batches cost, one for one. None is billable: Stripe never had them.
WITH given_up AS MATERIALIZED (
    SELECT gen_random_uuid() AS writeoff_id, row_number() OVER (PARTITION BY e.request_id ORDER BY e.entry_id) - 1 AS number,
        e.*
    FROM stripe_batch b
    JOIN ledger_entry e ON e.account_id = b.account_id
        AND e.occurred_at >= b.window_start AND e.occurred_at < b.window_start + interval '1 hour'
    JOIN billing_outbox o ON o.entry_id = e.entry_id AND o.batch_id = b.batch_id
    WHERE b.batch_id = ANY ($1::uuid[])
),
entries AS (
    INSERT INTO ledger_entry (
        entry_id, request_id, kind, seq, occurred_at, settled_at, account_id, key_id, model, endpoint, upstream, end_user,
        plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
        output_reasoning_tokens, output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable, usage_source,
        end_reason, duration_ms, reverses_entry_id, reason, actor)
    SELECT writeoff_id, request_id, 'writeoff', number, $2, $2, account_id, key_id, model, endpoint, upstream, end_user,
        plan_id, $3, 0, 0, 0, 0, 0, 0, 0, currency, book_id, -amount_pico, false, usage_source, end_reason, 0, entry_id, $4, $5
    FROM given_up
),
totals AS (
    INSERT INTO account_period_total AS t (
        account_id, period, currency, requests, input_tokens, output_tokens, quota_tokens, amount_pico, billable_pico)
    SELECT account_id, $3, currency, 0, 0, 0, 0, -sum(amount_pico), 0 FROM given_up GROUP BY 1, 3 ORDER BY 1, 3
    ON CONFLICT (account_id, period, currency) DO UPDATE SET amount_pico = t.amount_pico + EXCLUDED.amount_pico
),
hourly AS (
    INSERT INTO usage_hourly AS h (
        account_id, hour, key_id, model, end_reason, currency, requests, input_tokens, input_cached_tokens,
        output_tokens, output_reasoning_tokens, amount_pico)
    SELECT account_id, date_trunc('hour', $2::timestamptz, 'UTC'), key_id, model, end_reason, currency, 0, 0, 0, 0, 0,
        -sum(amount_pico)
    FROM given_up GROUP BY 1, 3, 4, 5, 6 ORDER BY 1, 3, 4, 5, 6
    ON CONFLICT (account_id, hour, key_id, model, end_reason, currency) DO UPDATE SET
        amount_pico = h.amount_pico + EXCLUDED.amount_pico
),
users AS (
    INSERT INTO usage_user_daily AS u (
        account_id, day, end_user, currency, requests, input_tokens, output_tokens, amount_pico)
    SELECT account_id, ($2::timestamptz AT TIME ZONE 'UTC')::date, end_user, currency, 0, 0, 0, -sum(amount_pico)
    FROM given_up WHERE end_user IS NOT NULL GROUP BY 1, 3, 4 ORDER BY 1, 3, 4
    ON CONFLICT (account_id, day, end_user, currency) DO UPDATE SET amount_pico = u.amount_pico + EXCLUDED.amount_pico
)
SELECT count(*) FROM given_up;
