-- find_customer
-- Who an account is at Stripe.
SELECT account_id, customer_id, generation, state, parked_reason, changed_at FROM stripe_customer WHERE account_id = $1;

-- find_by_customer
-- Whose a customer of Stripe's is.
SELECT account_id, customer_id, generation, state, parked_reason, changed_at FROM stripe_customer WHERE customer_id = $1;

-- save_customer
-- A customer of an account; one of an older generation never replaces a newer one.
INSERT INTO stripe_customer AS c (account_id, customer_id, generation, created_at, changed_at)
VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (account_id) DO UPDATE SET
    customer_id = EXCLUDED.customer_id, generation = EXCLUDED.generation, state = 'active', parked_reason = NULL,
    changed_at = EXCLUDED.changed_at
WHERE c.generation < EXCLUDED.generation;

-- park_customer
-- Stop sending for a customer that Stripe does not know any more.
UPDATE stripe_customer SET state = 'parked', parked_reason = $2, changed_at = $3
WHERE customer_id = $1 AND state = 'active'
RETURNING account_id;
