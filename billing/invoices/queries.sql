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
WHERE i.asked_at <= EXCLUDED.asked_at;

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
