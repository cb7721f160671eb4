-- claim_idempotency_key
-- Claims a key for a request, or tells who has it and how far that request is. A key whose request was released
-- served nobody and is free again; who sees it so and does not get it lost it to another claim. So is one whose request
-- was not admitted within five minutes, longer than any may wait for that: its gateway died, or could not give it up.
WITH mine AS (
    INSERT INTO idempotency_key AS k (account_id, key, request_sha256, request_id, created_at, expires_at)
    VALUES ($1, $2, $3, $4, now(), now() + interval '24 hours')
    ON CONFLICT (account_id, key) DO UPDATE
        SET request_sha256 = $3, request_id = $4, created_at = now(), expires_at = now() + interval '24 hours', body = NULL
        WHERE k.expires_at <= now()
            OR EXISTS (SELECT FROM request_intent i WHERE i.request_id = k.request_id AND i.state = 'released')
            OR (k.created_at < now() - interval '5 minutes'
                AND NOT EXISTS (SELECT FROM request_intent i WHERE i.request_id = k.request_id))
    RETURNING request_id
)
SELECT $4::uuid AS request_id, $3::bytea AS request_sha256, true AS open, NULL::bytea AS body FROM mine
UNION ALL
SELECT k.request_id, k.request_sha256, i.state IS DISTINCT FROM 'settled' AS open, k.body
FROM idempotency_key k LEFT JOIN request_intent i ON i.request_id = k.request_id
WHERE k.account_id = $1 AND k.key = $2 AND NOT EXISTS (SELECT FROM mine);

-- release_idempotency_key
-- Frees a key whose request was not admitted, so that it may be tried again.
DELETE FROM idempotency_key k
WHERE k.account_id = $1 AND k.key = $2 AND k.request_id = $3
    AND NOT EXISTS (SELECT FROM request_intent i WHERE i.request_id = $3 AND i.state IN ('open', 'settled'));

-- delete_expired_idempotency_keys
-- Clears keys that may be used again, a page at a time.
DELETE FROM idempotency_key WHERE (account_id, key) IN (
    SELECT account_id, key FROM idempotency_key WHERE expires_at <= now() LIMIT $1);
