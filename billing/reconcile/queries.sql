-- suspicious
-- Customers with batches that only a comparison can resolve, or with a difference that was seen before.
SELECT account_id, currency, customer_id, min(window_start) AS start FROM (
    SELECT account_id, currency, customer_id, window_start FROM stripe_batch WHERE state = 'unproven'
    UNION ALL
    SELECT account_id, currency, customer_id, window_start FROM reconcile_finding
    WHERE resolved_at IS NULL AND source = 'summary'
) s
GROUP BY 1, 2, 3 ORDER BY 4, 1 LIMIT $1;

-- sample
-- Customers with accepted batches whose turn it is: one part in $3 of all accounts a day, so that everybody is compared
-- in $3 days; 1 takes all. Whoever waited longest comes first.
SELECT b.account_id, b.currency, b.customer_id, min(b.window_start) AS start
FROM stripe_batch b LEFT JOIN reconcile_turn t USING (account_id)
WHERE b.state = 'accepted' AND (hashtext(b.account_id::text) & 65535) % $3::integer = $2::integer % $3
    AND (t.compared_at IS NULL OR $3 = 1 OR t.compared_at < $4)
GROUP BY 1, 2, 3 ORDER BY min(t.compared_at) NULLS FIRST, 1 LIMIT $1;

-- open_hours
-- The hours of a customer with batches to be proved, or with a difference that was seen before.
SELECT DISTINCT window_start FROM (
    SELECT window_start FROM stripe_batch
    WHERE account_id = $1 AND currency = $2 AND customer_id = $3 AND state IN ('accepted', 'unproven')
    UNION ALL
    SELECT window_start FROM reconcile_finding
    WHERE account_id = $1 AND currency = $2 AND customer_id = $3 AND resolved_at IS NULL AND source = 'summary'
) h ORDER BY 1;

-- lock_place
-- Keep everybody else from the batches of a place.
SELECT batch_id FROM stripe_batch
WHERE account_id = $1 AND currency = $2 AND customer_id = $3 AND window_start >= $4 AND window_start < $5
    AND event_at >= $6 AND event_at < $5
ORDER BY batch_id FOR UPDATE;

-- books
-- Our side of a place: what Stripe accepted (and what it counts too much and was made good by credit, which stays in its
-- sums), what it may have, and when that last changed.
SELECT (COALESCE(sum(value) FILTER (WHERE state IN ('accepted', 'confirmed')), 0) + (
        SELECT COALESCE(sum(c.units), 0) FROM stripe_correction c
        WHERE c.account_id = $1 AND c.currency = $2 AND c.customer_id = $3 AND c.window_start >= $4 AND c.window_start < $5
            AND c.way = 'credit' AND c.state = 'done' AND $7 IN ('invoice', c.source)))::bigint AS accepted,
    COALESCE(bool_or(state = 'sending' OR (state = 'waiting' AND first_attempt_at IS NOT NULL)), false) AS busy,
    max(GREATEST(last_attempt_at, accepted_at)) AS changed_at,
    COALESCE(json_agg(json_build_array(batch_id, value, event_at) ORDER BY batch_id) FILTER (WHERE state = 'unproven'), '[]')
        AS doubtful
FROM stripe_batch
WHERE account_id = $1 AND currency = $2 AND customer_id = $3 AND window_start >= $4 AND window_start < $5
    AND event_at >= $6 AND event_at < $5;

-- confirm
-- Stripe's own sum contains these.
UPDATE stripe_batch SET state = 'confirmed', confirmed_at = $7
WHERE account_id = $1 AND currency = $2 AND customer_id = $3 AND window_start >= $4 AND window_start < $5
    AND event_at >= $6 AND event_at < $5 AND state = 'accepted';

-- note_finding
-- A difference: a new one, or one that was seen before; one that has changed is new. Answers since when it is the same.
INSERT INTO reconcile_finding AS f (
    finding_id, account_id, currency, customer_id, source, kind, window_start, expected, found, first_seen_at, last_seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
ON CONFLICT (account_id, currency, customer_id, source, window_start) WHERE resolved_at IS NULL DO UPDATE SET
    kind = EXCLUDED.kind, expected = EXCLUDED.expected, found = EXCLUDED.found, last_seen_at = EXCLUDED.last_seen_at,
    first_seen_at = CASE
        WHEN (f.kind, f.expected, f.found) = (EXCLUDED.kind, EXCLUDED.expected, EXCLUDED.found) THEN f.first_seen_at
        ELSE EXCLUDED.first_seen_at END
RETURNING first_seen_at;

-- resolve_finding
-- The difference of a place is gone, and why.
UPDATE reconcile_finding SET resolved_at = $6, resolution = $7
WHERE account_id = $1 AND currency = $2 AND customer_id = $3 AND source = $4 AND window_start = $5 AND resolved_at IS NULL;

-- note_turn
-- When an account was last compared.
INSERT INTO reconcile_turn (account_id, compared_at) VALUES ($1, $2)
ON CONFLICT (account_id) DO UPDATE SET compared_at = EXCLUDED.compared_at;

-- customer_account
-- Whose customer this is, or was: batches remember customers that were replaced.
SELECT account_id FROM stripe_customer WHERE customer_id = $1;

-- usage_prices
-- The prices that bill usage.
SELECT price_id FROM stripe_price WHERE kind = 'metered';

-- list_findings
-- Differences, newest first; only open ones if asked.
SELECT finding_id, account_id, currency, customer_id, source, kind, window_start, expected, found, first_seen_at,
    last_seen_at, resolved_at, resolution
FROM reconcile_finding WHERE resolved_at IS NULL OR NOT $2::boolean
ORDER BY last_seen_at DESC LIMIT $1;

-- count_findings
-- How many differences are open, by kind.
SELECT kind, count(*) AS findings FROM reconcile_finding WHERE resolved_at IS NULL GROUP BY kind;
