-- lock_finding
-- One difference, for one decision about it at a time.
SELECT finding_id, account_id, currency, customer_id, source, kind, window_start, expected, found, first_seen_at,
    last_seen_at, resolved_at, resolution
FROM reconcile_finding WHERE finding_id = $1 FOR UPDATE;

-- last_correction
-- What was tried last for a difference.
SELECT correction_id, finding_id, account_id, currency, customer_id, source, window_start, units, way, identifier, event_at,
    credit_minor, idempotency_key, reason, actor, created_at, state, first_attempt_at, last_attempt_at, last_error,
    entry_id, ended_at
FROM stripe_correction WHERE finding_id = $1 ORDER BY created_at DESC, correction_id DESC LIMIT 1;

-- surroundings
-- What decides how a surplus of an hour or a month is taken back. An event that may be the surplus is an earlier
-- generation of a batch of the hour with just its value, given up less than a day ago and not tried before.
SELECT (
    SELECT d.identifier FROM stripe_batch b JOIN stripe_batch_decision d ON d.batch_id = b.batch_id
    WHERE b.account_id = $1 AND b.currency = $2 AND b.window_start = $3 AND b.value = $5
        AND d.customer_id = $4 AND d.generation < b.generation AND d.decided_at > $6
        AND NOT EXISTS (SELECT FROM stripe_correction c WHERE c.finding_id = $7 AND c.identifier = d.identifier)
    ORDER BY d.decided_at DESC LIMIT 1
) AS cancellable,
EXISTS (
    SELECT FROM stripe_invoice i CROSS JOIN jsonb_to_recordset(i.lines) AS l(price_id text, period_start timestamptz, period_end timestamptz)
    JOIN stripe_price p ON p.price_id = l.price_id AND p.kind = 'metered'
    WHERE i.account_id = $1 AND i.currency = $2 AND i.status IN ('open', 'paid', 'uncollectible', 'void')
        AND date_trunc('hour', l.period_start, 'UTC') <= $3 AND l.period_end > $3
) AS has_final_invoice,
EXISTS (
    SELECT FROM stripe_invoice i CROSS JOIN jsonb_to_recordset(i.lines) AS l(price_id text, period_start timestamptz, period_end timestamptz)
    JOIN stripe_price p ON p.price_id = l.price_id AND p.kind = 'metered'
    WHERE i.account_id = $1 AND i.currency = $2 AND i.status = 'draft'
        AND date_trunc('hour', l.period_start, 'UTC') <= $3 AND l.period_end > $3
) AS has_draft_invoice,
EXISTS (
    SELECT FROM reconcile_finding f
    WHERE f.account_id = $1 AND f.currency = $2 AND f.customer_id = $4 AND f.source = 'summary' AND f.resolved_at IS NULL
        AND f.kind = 'surplus' AND f.window_start >= $3 AND f.window_start < $3::timestamptz + interval '1 month'
) AS hours_differ,
(SELECT COALESCE(sum(b.value), 0) FROM stripe_batch b
    WHERE b.account_id = $1 AND b.currency = $2 AND b.customer_id = $4 AND b.window_start >= $8 AND b.window_start < $9
        AND b.state IN ('accepted', 'confirmed'))
+ (SELECT COALESCE(sum(c.units), 0) FROM stripe_correction c
    WHERE c.account_id = $1 AND c.currency = $2 AND c.window_start >= $8 AND c.window_start < $9
        AND c.way = 'credit' AND c.state = 'done') AS month_units;

-- is_batch
-- Whether an identifier is what a batch is called now.
SELECT EXISTS (SELECT FROM stripe_batch WHERE identifier = $1);

-- insert
-- Freeze what a correction says to Stripe.
INSERT INTO stripe_correction (
    correction_id, finding_id, account_id, currency, customer_id, source, window_start, units, way, identifier, event_at,
    credit_minor, idempotency_key, reason, actor, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- begin
-- Note an attempt before it is made.
UPDATE stripe_correction SET first_attempt_at = COALESCE(first_attempt_at, $2), last_attempt_at = $2
WHERE correction_id = $1 AND state = 'waiting';

-- record
-- What an attempt came to; nothing if somebody else has ended it.
UPDATE stripe_correction SET
    state = $2, last_error = $3, entry_id = $4, ended_at = CASE WHEN $2 = 'waiting' THEN NULL ELSE $5::timestamptz END,
    first_attempt_at = CASE WHEN $6 THEN first_attempt_at END
WHERE correction_id = $1 AND state = 'waiting' RETURNING correction_id;
