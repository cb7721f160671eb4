-- list_plans
-- All plans with their prices, in the order in which they are shown.
SELECT p.plan_id, p.name, p.billing, p.monthly_tokens, p.daily_tokens, p.requests_per_minute,
       p.tokens_per_minute, p.concurrency, p.on_disconnect, p.position,
       array_agg(c.currency ORDER BY c.currency) FILTER (WHERE c.currency IS NOT NULL) AS currencies,
       array_agg(c.monthly_amount_micro ORDER BY c.currency) FILTER (WHERE c.currency IS NOT NULL) AS amounts
FROM plan p LEFT JOIN plan_price c USING (plan_id)
WHERE $1::text IS NULL OR p.plan_id = $1
GROUP BY p.plan_id
ORDER BY p.position, p.plan_id;

-- upsert_plan
-- Write a plan; a row that is already so stays untouched, so that nobody is told of a change that is none.
INSERT INTO plan AS p (plan_id, name, billing, monthly_tokens, daily_tokens, requests_per_minute,
                       tokens_per_minute, concurrency, on_disconnect, position)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (plan_id) DO UPDATE SET
    name = EXCLUDED.name, billing = EXCLUDED.billing, monthly_tokens = EXCLUDED.monthly_tokens,
    daily_tokens = EXCLUDED.daily_tokens, requests_per_minute = EXCLUDED.requests_per_minute,
    tokens_per_minute = EXCLUDED.tokens_per_minute, concurrency = EXCLUDED.concurrency,
    on_disconnect = EXCLUDED.on_disconnect, position = EXCLUDED.position
WHERE p IS DISTINCT FROM EXCLUDED;

-- remove_other_prices
-- Forget the prices of a plan in currencies that it is no longer sold in.
DELETE FROM plan_price WHERE plan_id = $1 AND currency <> ALL ($2::text[]);

-- upsert_prices
-- Write what a plan costs a month, in micro-units of each currency.
INSERT INTO plan_price (plan_id, currency, monthly_amount_micro)
SELECT $1, currency, amount FROM unnest($2::text[], $3::bigint[]) AS price(currency, amount)
ON CONFLICT (plan_id, currency) DO UPDATE SET monthly_amount_micro = EXCLUDED.monthly_amount_micro;
