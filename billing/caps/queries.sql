-- save_cap
-- What an account's owner wants to spend at most.
INSERT INTO spend_cap (account_id, monthly_tokens, monthly_micro, changed_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (account_id) DO UPDATE SET
    monthly_tokens = EXCLUDED.monthly_tokens, monthly_micro = EXCLUDED.monthly_micro, changed_at = EXCLUDED.changed_at;

-- delete_cap
-- An account that is not capped any more.
WITH uncapped AS (DELETE FROM spend_cap WHERE account_id = $1 RETURNING account_id),
unguarded AS (
    DELETE FROM spend_guard g
    WHERE g.account_id = $1 AND NOT EXISTS (SELECT FROM credit_account b WHERE b.owner_id = $1)
)
SELECT account_id FROM uncapped;

-- close_guard
-- Let an account that was never guarded use nothing, until it is known how much it may use.
INSERT INTO spend_guard (account_id, period, period_tokens, other_tokens, changed_at) VALUES ($1, $2, 0, 0, $3)
ON CONFLICT (account_id) DO NOTHING;

-- rates_max
-- The highest price of any model in each currency, under every book that holds in some time.
SELECT b.currency, max(r.micro_per_mtok) AS rate_max
FROM price_book b JOIN price_rate r USING (book_id)
WHERE b.published_at IS NOT NULL AND b.effective_from < $2 AND (b.effective_to IS NULL OR b.effective_to > $1)
GROUP BY b.currency;

-- spending
-- A page of guarded accounts, or one: what they used and spent in a month as of one moment, and the limit they have.
SELECT g.account_id, c.account_id IS NOT NULL AS is_capped,
    CASE WHEN NOT is_subscribed(g.account_id) THEN credit_left(g.account_id, $5::text[]) END AS credit_pico,
    a.currency, a.email, p.language, w.percents, c.monthly_tokens, c.monthly_micro,
    COALESCE(q.used_tokens, 0) AS used_tokens, COALESCE(t.billable_pico, 0) AS billable_pico,
    g.period, g.period_tokens, g.other_tokens
FROM spend_guard g
LEFT JOIN spend_cap c USING (account_id)
JOIN account a USING (account_id)
LEFT JOIN person p USING (account_id)
LEFT JOIN alert_choice w USING (account_id)
LEFT JOIN quota_counter q ON q.account_id = g.account_id AND q.subject_id = g.account_id AND q.period = $1
LEFT JOIN account_period_total t ON t.account_id = g.account_id AND t.period = $1 AND t.currency = a.currency
WHERE g.account_id > $2 AND ($3::uuid IS NULL OR g.account_id = $3)
ORDER BY g.account_id LIMIT $4;

-- save_guard
-- The limit of a guarded account.
UPDATE spend_guard SET period = $2, period_tokens = $3, other_tokens = $4, changed_at = $5 WHERE account_id = $1;

-- note_alerts
-- The alerts of thresholds that were not sent this month yet.
INSERT INTO spend_alert (account_id, period, subject, percent, sent_at)
SELECT $1, $2, $3, t.percent, $5 FROM unnest($4::integer[]) AS t(percent)
ON CONFLICT DO NOTHING
RETURNING percent;

-- find_choice
-- At which percents an account's owner wants mail.
SELECT percents FROM alert_choice WHERE account_id = $1;

-- save_choice
-- What an account's owner chose.
INSERT INTO alert_choice (account_id, percents, changed_at) VALUES ($1, $2, $3)
ON CONFLICT (account_id) DO UPDATE SET percents = EXCLUDED.percents, changed_at = EXCLUDED.changed_at;

-- plan_use
-- A page of the accounts that have used a share of their month's tokens at which mail is wanted and was not sent yet;
-- a little less than the share ($4 tokens) is looked at, too.
SELECT a.account_id, a.email, p.language, w.percents, q.used_tokens, l.limit_tokens
FROM account a
JOIN plan USING (plan_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN a.limits ? 'monthly_tokens' THEN (a.limits ->> 'monthly_tokens')::bigint
        ELSE plan.monthly_tokens END AS limit_tokens) l
JOIN quota_counter q ON q.account_id = a.account_id AND q.subject_id = a.account_id AND q.period = $1
LEFT JOIN person p ON p.account_id = a.account_id
LEFT JOIN alert_choice w ON w.account_id = a.account_id
WHERE a.account_id > $2 AND a.status = 'active' AND q.used_tokens > 0 AND EXISTS (
    SELECT FROM unnest(COALESCE(w.percents, $5::integer[])) AS t(percent)
    WHERE (q.used_tokens + $4::bigint) * 100 >= l.limit_tokens * t.percent AND NOT EXISTS (
        SELECT FROM spend_alert s WHERE s.account_id = a.account_id AND s.period = $1 AND s.subject = 'plan'
            AND s.percent = t.percent))
ORDER BY a.account_id LIMIT $3;

-- post_mail
-- A letter to an account's owner, sent if and only if the transaction commits.
INSERT INTO mail_outbox (mail_id, address, subject, body, created_at, due_at) VALUES ($1, $2, $3, $4, $5, $5);
