-- standing
-- Where an account stands in a month: what it has spent and used, and how much of that can be given back.
SELECT a.account_id, a.currency, a.plan_id, COALESCE(t.billable_pico, 0) AS spent_pico,
    p.billing = 'metered' OR COALESCE(t.billable_pico, 0) <> 0 AS pays_by_use,
    COALESCE(t.quota_tokens, 0)::bigint AS used_tokens,
    LEAST(COALESCE(m.used_tokens, t.quota_tokens, 0), COALESCE(d.used_tokens, m.used_tokens, t.quota_tokens, 0))::bigint
        AS returnable_tokens
FROM account a
JOIN plan p USING (plan_id)
LEFT JOIN account_period_total t ON t.account_id = a.account_id AND t.period = $2 AND t.currency = a.currency
LEFT JOIN quota_counter m ON m.account_id = a.account_id AND m.subject_id = a.account_id AND m.period = $2
LEFT JOIN quota_counter d ON d.account_id = a.account_id AND d.subject_id = a.account_id AND d.period = $3
WHERE a.account_id = $1;

-- write
-- One adjustment in the current month, with counters, read models and outbox. No key and no model used anything, so the
-- account stands for the key; Redis reads the limits anew, because the fence has moved.
WITH entry AS (
    INSERT INTO ledger_entry (
        entry_id, request_id, kind, seq, occurred_at, settled_at, account_id, model, endpoint, plan_id, period,
        input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens, output_reasoning_tokens,
        output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable, usage_source, end_reason, duration_ms,
        reason, actor)
    VALUES ($1, $1, 'adjustment', 0, $2, $2, $3, 'adjustment', 'operator', $4, $5, $6::bigint, 0, 0, 0, 0, 0, $6, $7, $8,
        $9::bigint, $10, 'estimated', 'completed', 0, $11, $12)
),
fenced AS (
    UPDATE quota_gate SET fence = fence + 1 WHERE account_id = $3 AND $6 <> 0
),
counters AS (
    UPDATE quota_counter SET used_tokens = used_tokens + $6
    WHERE account_id = $3 AND subject_id = $3 AND period IN ($5, $13) AND $6 <> 0
),
outbox AS (
    INSERT INTO billing_outbox (entry_id, account_id, currency, occurred_at, amount_pico)
    SELECT $1, $3, $7, $2, $9 WHERE $10 AND $9 <> 0
),
hourly AS (
    INSERT INTO usage_hourly AS h (
        account_id, hour, key_id, model, end_reason, currency, requests, input_tokens, input_cached_tokens,
        output_tokens, output_reasoning_tokens, amount_pico)
    VALUES ($3, date_trunc('hour', $2::timestamptz, 'UTC'), $3, 'adjustment', 'completed', $7, 0, $6, 0, 0, 0, $9)
    ON CONFLICT (account_id, hour, key_id, model, end_reason, currency) DO UPDATE SET
        input_tokens = h.input_tokens + EXCLUDED.input_tokens, amount_pico = h.amount_pico + EXCLUDED.amount_pico
)
INSERT INTO account_period_total AS t (
    account_id, period, currency, requests, input_tokens, output_tokens, quota_tokens, amount_pico, billable_pico)
VALUES ($3, $5, $7, 0, $6, 0, $6, $9, CASE WHEN $10 THEN $9 ELSE 0 END)
ON CONFLICT (account_id, period, currency) DO UPDATE SET
    input_tokens = t.input_tokens + EXCLUDED.input_tokens, quota_tokens = t.quota_tokens + EXCLUDED.quota_tokens,
    amount_pico = t.amount_pico + EXCLUDED.amount_pico, billable_pico = t.billable_pico + EXCLUDED.billable_pico;
