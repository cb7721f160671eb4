-- retire_price
-- A price that another one of the same lookup key replaces keeps its row: subscriptions and invoices are known by it.
UPDATE stripe_price SET lookup_key = 'replaced:' || price_id WHERE lookup_key = $2 AND price_id <> $1;

-- save_price
-- A price that was found or made at Stripe.
INSERT INTO stripe_price (price_id, lookup_key, plan_id, currency, kind, unit_amount_decimal, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (price_id) DO UPDATE SET lookup_key = EXCLUDED.lookup_key;

-- find_price
-- The price of a lookup key.
SELECT price_id, lookup_key, plan_id, currency, kind, unit_amount_decimal FROM stripe_price WHERE lookup_key = $1;

-- find_prices
-- Those of some prices that are ours.
SELECT price_id, lookup_key, plan_id, currency, kind, unit_amount_decimal FROM stripe_price WHERE price_id = ANY ($1::text[]);

-- insert_session
-- A Checkout session that was opened.
INSERT INTO checkout_session (session_id, account_id, purpose, plan_id, amount_minor, currency, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- open_sessions
-- The sessions of an account that may still be paid, for one purpose.
SELECT session_id FROM checkout_session WHERE account_id = $1 AND state = 'open' AND purpose = $2;

-- end_session
-- A session was paid, or nobody can pay it any more; what is complete stays complete.
UPDATE checkout_session SET state = $2 WHERE session_id = $1 AND state = 'open';

-- find_session
-- What a session was opened for.
SELECT session_id, account_id, purpose, plan_id, amount_minor, currency, state FROM checkout_session WHERE session_id = $1;

-- moment
-- When Stripe is asked, by the one clock that all processes have.
SELECT clock_timestamp();

-- save_subscription
-- A subscription as Stripe told it; an older answer never replaces a newer one. A moment that has not come yet is of
-- another clock and says nothing.
INSERT INTO stripe_subscription AS s (
    subscription_id, account_id, customer_id, status, plan_id, flat_item_id, metered_item_id, started_at, period_start,
    period_end, cancel_at, ended_at, owed_since, held_plan_id, held_until, flat_price_id, held_price_id, asked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (subscription_id) DO UPDATE SET
    status = EXCLUDED.status, plan_id = EXCLUDED.plan_id, flat_item_id = EXCLUDED.flat_item_id,
    metered_item_id = EXCLUDED.metered_item_id, period_start = EXCLUDED.period_start, period_end = EXCLUDED.period_end,
    cancel_at = EXCLUDED.cancel_at, ended_at = EXCLUDED.ended_at, owed_since = EXCLUDED.owed_since,
    held_plan_id = EXCLUDED.held_plan_id, held_until = EXCLUDED.held_until, flat_price_id = EXCLUDED.flat_price_id,
    held_price_id = EXCLUDED.held_price_id, asked_at = EXCLUDED.asked_at
WHERE s.asked_at <= EXCLUDED.asked_at OR s.asked_at > clock_timestamp();

-- find_subscription
-- Whose a subscription is.
SELECT account_id FROM stripe_subscription WHERE subscription_id = $1;

-- subscriptions_of
-- All subscriptions of an account, oldest first.
SELECT subscription_id, account_id, customer_id, status, plan_id, flat_item_id, metered_item_id, started_at, period_start,
    period_end, cancel_at, ended_at, owed_since, held_plan_id, held_until, flat_price_id, held_price_id, asked_at
FROM stripe_subscription WHERE account_id = $1 ORDER BY started_at, subscription_id;

-- subscriptions_page
-- A page of subscriptions that have not ended, in the order of their ids.
SELECT subscription_id FROM stripe_subscription
WHERE subscription_id > $1 AND status NOT IN ('canceled', 'incomplete_expired')
ORDER BY subscription_id LIMIT $2;

-- save_dispute
-- A dispute as Stripe told it; an older answer never replaces a newer one.
INSERT INTO stripe_dispute AS d (
    dispute_id, account_id, charge_id, amount_minor, currency, reason, status, created_at, due_by, asked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (dispute_id) DO UPDATE SET
    status = EXCLUDED.status, amount_minor = EXCLUDED.amount_minor, due_by = EXCLUDED.due_by, asked_at = EXCLUDED.asked_at
WHERE d.asked_at <= EXCLUDED.asked_at OR d.asked_at > clock_timestamp();

-- disputes_of
-- All disputes of an account.
SELECT dispute_id, account_id, charge_id, amount_minor, currency, reason, status, created_at, due_by, asked_at
FROM stripe_dispute WHERE account_id = $1 ORDER BY created_at, dispute_id;

-- lock_account
-- The account, held until the transaction ends, so that its entitlement is applied by one at a time.
SELECT status FROM account WHERE account_id = $1 FOR NO KEY UPDATE;

-- find_entitlement
-- What was last applied to an account.
SELECT plan_id, status, notice, notice_at, review_at FROM account_entitlement WHERE account_id = $1;

-- save_entitlement
-- What is applied to an account.
INSERT INTO account_entitlement (account_id, plan_id, status, notice, notice_at, review_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (account_id) DO UPDATE SET
    plan_id = EXCLUDED.plan_id, status = EXCLUDED.status, notice = EXCLUDED.notice, notice_at = EXCLUDED.notice_at,
    review_at = EXCLUDED.review_at, changed_at = EXCLUDED.changed_at;

-- due_reviews
-- Accounts whose entitlement changes by time alone.
SELECT account_id FROM account_entitlement WHERE review_at <= $1 ORDER BY review_at LIMIT $2;
