-- open_ours
-- Our side of transfers in a currency.
INSERT INTO credit_account (credit_account_id, kind, currency) VALUES ($1, $2, $3)
ON CONFLICT (kind, currency) WHERE owner_id IS NULL DO NOTHING;

-- open_balance
-- An account's balance.
INSERT INTO credit_account (credit_account_id, owner_id, kind, currency) VALUES ($1, $2, 'balance', $3)
ON CONFLICT (owner_id) WHERE owner_id IS NOT NULL DO NOTHING
RETURNING credit_account_id;

-- find_balance
-- Where an account's balance is kept.
SELECT credit_account_id, currency FROM credit_account WHERE owner_id = $1;

-- find_ours
-- Where our side is kept.
SELECT credit_account_id FROM credit_account WHERE owner_id IS NULL AND kind = $1 AND currency = $2;

-- insert_entry
-- One side of a transfer; a transfer that happened before does not happen again.
INSERT INTO credit_entry (transfer_key, credit_account_id, amount_pico, reason, actor, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
RETURNING transfer_key;

-- latest_entries
-- The latest entries of an account's balance.
SELECT transfer_key, amount_pico, reason, actor, created_at FROM credit_entry
WHERE credit_account_id = $1 ORDER BY created_at DESC, transfer_key LIMIT $2;

-- is_posted
-- Whether a transfer has happened.
SELECT EXISTS (SELECT FROM credit_entry WHERE transfer_key = $1);

-- begin_month
-- A month of use that nobody has looked at yet: with what was used before there was credit, or with nothing.
INSERT INTO credit_usage (account_id, period, seen_pico, posted_at)
SELECT $1, $2, CASE WHEN $3::boolean THEN COALESCE((
    SELECT t.billable_pico FROM account_period_total t JOIN account a USING (account_id, currency)
    WHERE t.account_id = $1 AND t.period = $2), 0) ELSE 0 END, $4
ON CONFLICT (account_id, period) DO NOTHING;

-- months_of_use
-- What an account used in some months, and how much of it the journal knows; held until the transaction ends.
SELECT u.period, COALESCE(t.billable_pico, 0) AS billable_pico, u.seen_pico, u.pending_pico, u.drawn_pico, u.posted_at
FROM credit_usage u
JOIN account a USING (account_id)
LEFT JOIN account_period_total t ON t.account_id = u.account_id AND t.period = u.period AND t.currency = a.currency
WHERE u.account_id = $1 AND u.period = ANY ($2::text[]) ORDER BY u.period
FOR NO KEY UPDATE OF u;

-- save_month
-- How much of a month's usage the journal knows.
UPDATE credit_usage SET seen_pico = $3, pending_pico = $4, drawn_pico = $5, posted_at = $6
WHERE account_id = $1 AND period = $2;

-- left
-- What an account has left as of this moment; null without credit.
SELECT credit_left($1, $2::text[]);

-- balances_page
-- A page of the accounts that have credit, in the order of their ids.
SELECT owner_id FROM credit_account WHERE owner_id > $1 ORDER BY owner_id LIMIT $2;

-- is_subscribed
-- Whether a subscription pays for what an account uses.
SELECT is_subscribed($1);

-- is_shared
-- Whether a subscription by use began or ended inside a time, so that credit pays for a part of it.
SELECT EXISTS (
    SELECT FROM stripe_subscription WHERE account_id = $1 AND metered_item_id IS NOT NULL
        AND ((started_at > $2 AND started_at < $3) OR (ended_at > $2 AND ended_at < $3)));

-- prepaid_in
-- What credit pays for of some time: all that is paid by use, without what Stripe bills, which is what was admitted
-- while there was a subscription by use, and without what was settled before there was credit.
SELECT COALESCE(sum(e.amount_pico), 0) FROM ledger_entry e
JOIN account a USING (account_id, currency)
WHERE e.account_id = $1 AND e.occurred_at >= $2 AND e.occurred_at < $3 AND e.billable
    AND e.settled_at >= (
        SELECT min(c.created_at) FROM credit_entry c JOIN credit_account b USING (credit_account_id) WHERE b.owner_id = $1)
    AND NOT EXISTS (
        SELECT FROM stripe_subscription s
        WHERE s.account_id = $1 AND s.metered_item_id IS NOT NULL AND s.status NOT IN ('incomplete', 'incomplete_expired')
            AND e.occurred_at >= s.started_at AND (s.ended_at IS NULL OR e.occurred_at < s.ended_at));

-- drawn_in
-- What of a month's usage was paid from credit.
SELECT drawn_pico + pending_pico FROM credit_usage WHERE account_id = $1 AND period = $2;

-- verify_credit
-- Transfers that do not sum to zero, and balances below zero.
SELECT (SELECT count(*) FROM (SELECT FROM credit_entry GROUP BY transfer_key HAVING sum(amount_pico) <> 0) t)
    + (SELECT count(*) FROM (
        SELECT FROM credit_entry e JOIN credit_account a USING (credit_account_id) WHERE a.owner_id IS NOT NULL
        GROUP BY e.credit_account_id HAVING sum(e.amount_pico) < 0) b);
