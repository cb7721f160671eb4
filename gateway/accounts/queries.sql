-- insert_account
-- A new account; nothing is written where the address is taken.
INSERT INTO account (account_id, email, plan_id, currency, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (email) DO NOTHING
RETURNING account_id;

-- find_account
-- One account with the limits of its plan.
SELECT a.account_id, a.email, a.plan_id, a.currency, a.status, a.limits AS overrides, a.created_at,
       p.monthly_tokens, p.daily_tokens, p.requests_per_minute, p.tokens_per_minute, p.concurrency
FROM account a JOIN plan p USING (plan_id)
WHERE a.account_id = $1;

-- list_accounts
-- A page of accounts with the limits of their plans, oldest first.
SELECT a.account_id, a.email, a.plan_id, a.currency, a.status, a.limits AS overrides, a.created_at,
       p.monthly_tokens, p.daily_tokens, p.requests_per_minute, p.tokens_per_minute, p.concurrency
FROM account a JOIN plan p USING (plan_id)
WHERE $1::uuid IS NULL OR a.account_id > $1
ORDER BY a.account_id
LIMIT $2;

-- set_plan
-- Move an account to another plan.
UPDATE account SET plan_id = $2 WHERE account_id = $1 RETURNING account_id;

-- set_status
-- Let an account's keys work, or not.
UPDATE account SET status = $2 WHERE account_id = $1 RETURNING account_id;

-- set_limits
-- Set some limits for this account alone and give others back to the plan, in one step.
UPDATE account SET limits = (limits || $2::jsonb) - $3::text[] WHERE account_id = $1 RETURNING account_id;
