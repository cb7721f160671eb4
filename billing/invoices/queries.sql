-- save_invoice
-- An invoice as Stripe told it; an older answer never replaces a newer one.
INSERT INTO stripe_invoice AS i (
    invoice_id, account_id, customer_id, subscription_id, number, status, billing_reason, currency, period_start,
    period_end, total, amount_due, amount_paid, amount_remaining, attempt_count, next_attempt_at, created_at,
    finalized_at, paid_at, hosted_url, pdf_url, lines, asked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22::jsonb, $23)
ON CONFLICT (invoice_id) DO UPDATE SET
    number = EXCLUDED.number, status = EXCLUDED.status, total = EXCLUDED.total, amount_due = EXCLUDED.amount_due,
    amount_paid = EXCLUDED.amount_paid, amount_remaining = EXCLUDED.amount_remaining,
    attempt_count = EXCLUDED.attempt_count, next_attempt_at = EXCLUDED.next_attempt_at,
    finalized_at = EXCLUDED.finalized_at, paid_at = EXCLUDED.paid_at, hosted_url = EXCLUDED.hosted_url,
    pdf_url = EXCLUDED.pdf_url, lines = EXCLUDED.lines, asked_at = EXCLUDED.asked_at
WHERE i.asked_at <= EXCLUDED.asked_at OR i.asked_at > clock_timestamp();

-- delete_invoice
-- Forget a draft that was deleted at Stripe.
DELETE FROM stripe_invoice WHERE invoice_id = $1 RETURNING account_id;

-- list_invoices
-- An account's invoices, or everybody's, newest first; of one status where it is named.
SELECT invoice_id, account_id, customer_id, subscription_id, number, status, billing_reason, currency, period_start,
    period_end, total, amount_due, amount_paid, amount_remaining, attempt_count, next_attempt_at, created_at,
    finalized_at, paid_at, hosted_url, pdf_url, lines, asked_at
FROM stripe_invoice
WHERE ($1::uuid IS NULL OR account_id = $1) AND ($2::text IS NULL OR status = $2)
ORDER BY created_at DESC, invoice_id DESC LIMIT $3;

-- invoices_between
-- An account's invoices of some time, oldest first.
SELECT invoice_id, account_id, customer_id, subscription_id, number, status, billing_reason, currency, period_start,
    period_end, total, amount_due, amount_paid, amount_remaining, attempt_count, next_attempt_at, created_at,
    finalized_at, paid_at, hosted_url, pdf_url, lines, asked_at
FROM stripe_invoice WHERE account_id = $1 AND created_at >= $2 AND created_at < $3 ORDER BY created_at, invoice_id;

-- find_invoice
-- One invoice of an account.
SELECT invoice_id, account_id, customer_id, subscription_id, number, status, billing_reason, currency, period_start,
    period_end, total, amount_due, amount_paid, amount_remaining, attempt_count, next_attempt_at, created_at,
    finalized_at, paid_at, hosted_url, pdf_url, lines, asked_at
FROM stripe_invoice WHERE invoice_id = $1 AND account_id = $2;

-- months_of
-- The months in which an account used anything, newest first.
SELECT DISTINCT period FROM account_period_total WHERE account_id = $1 ORDER BY period DESC LIMIT $2;

-- metered_prices
-- Those of some prices that bill usage.
SELECT price_id FROM stripe_price WHERE price_id = ANY ($1::text[]) AND kind = 'metered';

-- statement_usage
-- What an account used in a month, by model and by what decided the price.
SELECT currency, billable, book_id, model, count(*) AS requests,
    sum(input_text_tokens)::bigint AS input_text, sum(input_cached_tokens)::bigint AS input_cached,
    sum(input_audio_tokens)::bigint AS input_audio, sum(output_text_tokens)::bigint AS output_text,
    sum(output_reasoning_tokens)::bigint AS output_reasoning, sum(output_audio_tokens)::bigint AS output_audio,
    sum(amount_pico) AS amount_pico
FROM ledger_entry
WHERE account_id = $1 AND occurred_at >= $2 AND occurred_at < $3 AND kind = 'usage'
GROUP BY currency, billable, book_id, model ORDER BY model, book_id;

-- statement_corrections
-- What was put right in a month, by why.
SELECT currency, kind, COALESCE(reason, '') AS reason, model, count(*) AS entries, sum(amount_pico) AS amount_pico
FROM ledger_entry
WHERE account_id = $1 AND occurred_at >= $2 AND occurred_at < $3 AND kind <> 'usage' AND billable
GROUP BY currency, kind, reason, model ORDER BY kind, reason, model;

-- written_off_in
-- What of a month's usage was written off because it came too late for Stripe, in Stripe's units.
SELECT COALESCE(sum(value), 0)::bigint FROM stripe_batch
WHERE account_id = $1 AND currency = $2 AND window_start >= $3 AND window_start < $4 AND state = 'empty';

-- credited_in
-- What of a month's invoices was made good by credit, in minor units.
SELECT COALESCE(sum(credit_minor), 0)::bigint FROM stripe_correction
WHERE account_id = $1 AND currency = $2 AND window_start >= $3 AND window_start < $4 AND way = 'credit' AND state = 'done';

-- find_period
-- How far a month is.
SELECT period, state, changed_at, closed_at, entries, totals_sha256 FROM billing_period WHERE period = $1;

-- list_periods
-- How far months are, newest first.
SELECT period, state, changed_at, closed_at, entries, totals_sha256 FROM billing_period ORDER BY period DESC LIMIT $1;

-- lock_period
-- A month that is about to move on, for one at a time.
SELECT state FROM billing_period WHERE period = $1 FOR UPDATE;

-- open_period
-- A month that nobody has looked at yet.
INSERT INTO billing_period (period, state, changed_at) VALUES ($1, 'open', $2) ON CONFLICT (period) DO NOTHING;

-- move_period
-- A month that moves on without being closed.
UPDATE billing_period SET state = $2, changed_at = $3 WHERE period = $1;

-- close_period
-- A month that is history, and what it came to.
UPDATE billing_period SET state = 'closed', changed_at = $2, closed_at = $2, entries = $3, totals_sha256 = $4
WHERE period = $1;

-- first_period
-- The first month that anything was used in.
SELECT min(period) FROM account_period_total;

-- count_open_requests
-- Requests of a month that have not ended.
SELECT count(*) FROM request_intent WHERE state = 'open' AND period = $1;

-- count_unbatched
-- Usage of a month that waits to be carried to Stripe.
SELECT count(*) FROM billing_outbox o JOIN stripe_customer c USING (account_id)
WHERE o.batch_id IS NULL AND o.occurred_at >= $1 AND o.occurred_at < $2;

-- count_unconfirmed
-- Batches of a month that Stripe's sums have not proved.
SELECT count(*) FROM stripe_batch
WHERE window_start >= $1 AND window_start < $2 AND state NOT IN ('confirmed', 'empty');

-- count_findings
-- Differences in a month that nobody has resolved.
SELECT count(*) FROM reconcile_finding WHERE resolved_at IS NULL AND window_start >= $1 AND window_start < $2;

-- accept_findings
-- Differences on an account's invoices of a month that an operator has accepted, with the month.
UPDATE reconcile_finding SET resolved_at = $4, resolution = 'accepted'
WHERE account_id = $1 AND window_start >= $2 AND window_start < $3 AND source = 'invoice' AND resolved_at IS NULL;

-- count_drafts
-- Invoices with usage of a month that are not final.
SELECT count(*) FROM stripe_invoice i
WHERE i.status = 'draft' AND i.created_at >= $1 AND EXISTS (
    SELECT FROM jsonb_to_recordset(i.lines) AS l(period_start timestamptz)
    WHERE l.period_start >= $1 AND l.period_start < $2);

-- billed_usage
-- What each account's usage of a month came to, what of it was paid from credit, what was written off in Stripe's units,
-- and what its final invoices bill for it in minor units.
SELECT c.account_id, c.currency, c.cum_pico, COALESCE(u.drawn_pico, 0) AS drawn_pico, COALESCE((
    SELECT sum(b.value) FROM stripe_batch b
    WHERE b.account_id = c.account_id AND b.currency = c.currency AND b.window_start >= $2 AND b.window_start < $3
        AND b.state = 'empty'), 0)::bigint AS written_off_units, COALESCE((
    SELECT sum(l.amount_minor)
    FROM stripe_invoice i
    CROSS JOIN jsonb_to_recordset(i.lines) AS l(price_id text, amount_minor bigint, period_start timestamptz)
    JOIN stripe_price p ON p.price_id = l.price_id AND p.kind = 'metered'
    WHERE i.account_id = c.account_id AND i.created_at >= $2 AND i.currency = c.currency
        AND i.status IN ('open', 'paid', 'uncollectible') AND l.period_start >= $2 AND l.period_start < $3), 0)::bigint
    - COALESCE((
    SELECT sum(k.credit_minor) FROM stripe_correction k
    WHERE k.account_id = c.account_id AND k.currency = c.currency AND k.window_start >= $2 AND k.window_start < $3
        AND k.way = 'credit' AND k.state = 'done'), 0)::bigint AS billed_minor
FROM stripe_carry c LEFT JOIN credit_usage u USING (account_id, period)
WHERE c.period = $1 ORDER BY c.account_id, c.currency;

-- period_totals
-- What a month comes to, account by account.
SELECT account_id, currency, requests, input_tokens, output_tokens, quota_tokens, amount_pico
FROM account_period_total WHERE period = $1 ORDER BY account_id, currency;

-- count_entries
-- How many entries a month has.
SELECT count(*) FROM ledger_entry WHERE period = $1 AND occurred_at >= $2 AND occurred_at < $3;
