-- find_key
-- The working key that one of these digests belongs to, with all that admission needs of its account and plan.
SELECT k.key_id, k.name, k.prefix, k.last4, k.digest, k.pepper_version, k.created_at, k.expires_at,
       k.monthly_tokens AS key_monthly_tokens, k.models, k.endpoints, k.ip_ranges,
       a.account_id, a.status, a.currency, a.limits AS overrides,
       p.plan_id, p.billing, p.on_disconnect, p.monthly_tokens, p.daily_tokens, p.requests_per_minute,
       p.tokens_per_minute, p.concurrency, g.period AS guard_period, g.period_tokens, g.other_tokens
FROM api_key k JOIN account a USING (account_id) JOIN plan p USING (plan_id) LEFT JOIN spend_guard g USING (account_id)
WHERE k.digest = ANY ($1::bytea[]) AND k.revoked_at IS NULL;

-- account_terms
-- What says how many tokens an account may use in a month.
SELECT a.limits AS overrides, p.billing, p.monthly_tokens, p.daily_tokens, p.requests_per_minute, p.tokens_per_minute,
       p.concurrency, g.period AS guard_period, g.period_tokens, g.other_tokens
FROM account a JOIN plan p USING (plan_id) LEFT JOIN spend_guard g USING (account_id)
WHERE a.account_id = $1;

-- store_digest
-- Keep a key under the newest pepper, if nobody else has done so meanwhile.
UPDATE api_key SET digest = $3, pepper_version = $4 WHERE key_id = $1 AND digest = $2;

-- count_keys
-- How many keys of an account are not revoked.
SELECT count(*) FROM api_key WHERE account_id = $1 AND revoked_at IS NULL;

-- insert_key
-- A new key.
INSERT INTO api_key (key_id, account_id, name, prefix, last4, digest, pepper_version, monthly_tokens,
                     models, endpoints, ip_ranges, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- renew_key
-- A key whose text its owner computes: made, or given the text of a later time; never one that was stopped or replaced.
INSERT INTO api_key AS k (key_id, account_id, name, prefix, last4, digest, pepper_version, monthly_tokens,
                          models, endpoints, ip_ranges, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (key_id) DO UPDATE
SET prefix = excluded.prefix, last4 = excluded.last4, digest = excluded.digest,
    pepper_version = excluded.pepper_version, expires_at = excluded.expires_at
WHERE k.account_id = excluded.account_id AND k.revoked_at IS NULL AND k.replaced_by IS NULL
  AND k.expires_at < excluded.expires_at;

-- list_keys
-- The newest keys of an account, revoked ones too.
SELECT key_id, account_id, name, prefix, last4, monthly_tokens, models, endpoints, ip_ranges, created_at,
       expires_at, revoked_at, replaced_by, last_used_at, last_used_model
FROM api_key WHERE account_id = $1
ORDER BY created_at DESC, key_id DESC
LIMIT $2;

-- lock_key
-- One key, of one account where it is named, held until the transaction ends.
SELECT key_id, account_id, name, prefix, last4, monthly_tokens, models, endpoints, ip_ranges, created_at,
       expires_at, revoked_at, replaced_by, last_used_at, last_used_model
FROM api_key WHERE key_id = $1 AND ($2::uuid IS NULL OR account_id = $2)
FOR UPDATE;

-- revoke_key
-- Stop a key, of one account where it is named; one that is stopped stays as it was.
UPDATE api_key SET revoked_at = COALESCE(revoked_at, $3)
WHERE key_id = $1 AND ($2::uuid IS NULL OR account_id = $2)
RETURNING key_id, account_id, name, prefix, last4, monthly_tokens, models, endpoints, ip_ranges, created_at,
          expires_at, revoked_at, replaced_by, last_used_at, last_used_model;

-- replace_key
-- Let a key end, because another one took its place.
UPDATE api_key SET replaced_by = $2, expires_at = $3, revoked_at = $4 WHERE key_id = $1;

-- lock_used
-- Hold keys in the order of their ids, so that two gateways that mark the same ones cannot deadlock.
SELECT key_id FROM api_key WHERE key_id = ANY ($1::uuid[]) ORDER BY key_id FOR NO KEY UPDATE;

-- mark_used
-- When keys were last used, and for which model; never back to an earlier use.
UPDATE api_key k SET last_used_at = u.used_at, last_used_model = u.model
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS u(key_id, model, used_at)
WHERE k.key_id = u.key_id AND (k.last_used_at IS NULL OR k.last_used_at < u.used_at);

-- ping
-- Ask whether the connection is alive.
SELECT 1;
