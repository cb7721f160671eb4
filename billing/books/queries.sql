-- find_draft
-- A draft of a price book with its rates, in the shape of a book.
SELECT b.book_id, b.currency, b.version, b.effective_from, b.effective_to, (
    SELECT json_object_agg(m.model, m.rates) FROM (
        SELECT model, json_object_agg(token_class, micro_per_mtok) AS rates
        FROM price_rate WHERE book_id = b.book_id GROUP BY model
    ) m
) AS models
FROM price_book b WHERE b.book_id = $1 AND b.published_at IS NULL;

-- delete_draft_rates
-- Forget the rates of a draft; a published book refuses.
DELETE FROM price_rate WHERE book_id = $1;

-- delete_draft
-- Forget a draft.
DELETE FROM price_book WHERE book_id = $1 AND published_at IS NULL;

-- pays_in
-- Whether any account pays in a currency.
SELECT account_id FROM account WHERE currency = $1 ORDER BY account_id LIMIT 1;

-- usage_by_model_since
-- What each model was used for since a moment, by accounts of a currency, for the preview of new prices.
SELECT model, count(DISTINCT account_id) AS accounts, sum(requests)::bigint AS requests,
    sum(input_tokens - input_cached_tokens)::bigint AS input_text, sum(input_cached_tokens)::bigint AS input_cached,
    sum(output_tokens - output_reasoning_tokens)::bigint AS output_text,
    sum(output_reasoning_tokens)::bigint AS output_reasoning, sum(amount_pico) AS amount_pico
FROM usage_hourly
WHERE account_id IN (SELECT account_id FROM account WHERE currency = $1) AND currency = $1 AND hour >= $2
GROUP BY model ORDER BY model;

-- repriced
-- What repricing a month comes to, by account, and how much of what it gives back is more than the current month ($5) has
-- to pay so far, unless it goes back to credit; nothing is written.
SELECT r.account_id, count(*) AS entries, sum(r.amount_now) AS amount_before, sum(r.amount_new) AS amount_after,
    CASE WHEN NOT is_subscribed(r.account_id) AND EXISTS (SELECT FROM credit_account c WHERE c.owner_id = r.account_id) THEN 0
        ELSE GREATEST(0, COALESCE(sum(r.amount_now - r.amount_new) FILTER (WHERE e.billable), 0) - COALESCE((
            SELECT t.billable_pico FROM account_period_total t
            WHERE t.account_id = r.account_id AND t.period = $5 AND t.currency = max(e.currency)), 0))
        END AS beyond_bill
FROM repriced_entries($1, $2, $3, $4) r
JOIN ledger_entry e ON e.entry_id = r.entry_id AND e.occurred_at = r.occurred_at AND e.account_id = r.account_id
WHERE r.amount_now <> r.amount_new GROUP BY r.account_id ORDER BY r.account_id;

-- repriced_without_rate
-- Models of a month's usage that the book does not price.
SELECT DISTINCT model FROM repriced_entries($1, $2, $3, $4) WHERE amount_new IS NULL ORDER BY model;

-- lock_gates
-- Keep the settlements of these accounts out, in the order in which they lock themselves.
SELECT account_id FROM quota_gate WHERE account_id = ANY ($1::uuid[]) ORDER BY account_id FOR UPDATE;

-- correct
-- Reverse what entries cost and book what they should, in the current month, with read models and outbox.
WITH corrected AS MATERIALIZED (
    SELECT gen_random_uuid() AS correction_id, c.kind_of, c.book, c.pico, r.corrections,
        e.entry_id, e.request_id, e.account_id, e.key_id, e.model, e.endpoint, e.upstream, e.end_user, e.plan_id, e.currency,
        e.billable, e.usage_source, e.end_reason
    FROM repriced_entries($1, $2, $3, $4) r
    JOIN ledger_entry e ON e.entry_id = r.entry_id AND e.occurred_at = r.occurred_at AND e.account_id = r.account_id
    CROSS JOIN LATERAL (VALUES ('reversal', e.book_id, -r.amount_now), ('adjustment', $1, r.amount_new))
        AS c(kind_of, book, pico)
    WHERE r.amount_now <> r.amount_new AND c.pico <> 0
),
entries AS (
    INSERT INTO ledger_entry (
        entry_id, request_id, kind, seq, occurred_at, settled_at, account_id, key_id, model, endpoint, upstream, end_user,
        plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
        output_reasoning_tokens, output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable, usage_source,
        end_reason, duration_ms, reverses_entry_id, reason, actor)
    SELECT correction_id, request_id, kind_of, corrections, $5, $5, account_id, key_id, model, endpoint, upstream, end_user,
        plan_id, $6, 0, 0, 0, 0, 0, 0, 0, currency, book, pico, billable, usage_source, end_reason, 0, entry_id, $7, $8
    FROM corrected
),
outbox AS (
    INSERT INTO billing_outbox (entry_id, account_id, currency, occurred_at, amount_pico)
    SELECT correction_id, account_id, currency, $5, pico FROM corrected WHERE billable
),
totals AS (
    INSERT INTO account_period_total AS t (
        account_id, period, currency, requests, input_tokens, output_tokens, quota_tokens, amount_pico, billable_pico)
    SELECT account_id, $6, currency, 0, 0, 0, 0, sum(pico), COALESCE(sum(pico) FILTER (WHERE billable), 0)
    FROM corrected GROUP BY 1, 3 ORDER BY 1, 3
    ON CONFLICT (account_id, period, currency) DO UPDATE SET
        amount_pico = t.amount_pico + EXCLUDED.amount_pico, billable_pico = t.billable_pico + EXCLUDED.billable_pico
),
hourly AS (
    INSERT INTO usage_hourly AS h (
        account_id, hour, key_id, model, end_reason, currency, requests, input_tokens, input_cached_tokens,
        output_tokens, output_reasoning_tokens, amount_pico)
    SELECT account_id, date_trunc('hour', $5::timestamptz, 'UTC'), key_id, model, end_reason, currency, 0, 0, 0, 0, 0, sum(pico)
    FROM corrected GROUP BY 1, 3, 4, 5, 6 ORDER BY 1, 3, 4, 5, 6
    ON CONFLICT (account_id, hour, key_id, model, end_reason, currency) DO UPDATE SET
        amount_pico = h.amount_pico + EXCLUDED.amount_pico
),
users AS (
    INSERT INTO usage_user_daily AS u (
        account_id, day, end_user, currency, requests, input_tokens, output_tokens, amount_pico)
    SELECT account_id, ($5::timestamptz AT TIME ZONE 'UTC')::date, end_user, currency, 0, 0, 0, sum(pico)
    FROM corrected WHERE end_user IS NOT NULL GROUP BY 1, 3, 4 ORDER BY 1, 3, 4
    ON CONFLICT (account_id, day, end_user, currency) DO UPDATE SET amount_pico = u.amount_pico + EXCLUDED.amount_pico
)
SELECT count(*) FROM corrected;
