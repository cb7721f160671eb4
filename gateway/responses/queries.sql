-- find_response
-- A response of an account, as it was answered.
SELECT response::text AS response
FROM stored_response
WHERE response_id = $1 AND account_id = $2 AND expires_at > now();

-- find_input_items
-- The items that a response of an account was made from.
SELECT input_items::text AS input_items
FROM stored_response
WHERE response_id = $1 AND account_id = $2 AND expires_at > now();

-- delete_response
-- Forgets a response of an account.
DELETE FROM stored_response
WHERE response_id = $1 AND account_id = $2 AND expires_at > now()
RETURNING response_id;

-- delete_responses_of
-- Forgets all responses of an account that is closed; it reads all that have not expired, and that is rare enough.
DELETE FROM stored_response WHERE account_id = $1 AND expires_at > now();

-- conversation
-- The turns that lead to a response of an account, oldest first; it stops past $3 turns or $4 bytes.
WITH RECURSIVE turn AS (
    SELECT s.response_id, s.previous_response_id, 1 AS depth,
           s.input_items::text AS input_items, (s.response -> 'output')::text AS output,
           (octet_length(s.input_items::text) + octet_length((s.response -> 'output')::text))::bigint AS bytes
    FROM stored_response AS s
    WHERE s.response_id = $1 AND s.account_id = $2 AND s.expires_at > now()
    UNION ALL
    SELECT s.response_id, s.previous_response_id, turn.depth + 1,
           s.input_items::text, (s.response -> 'output')::text,
           turn.bytes + octet_length(s.input_items::text) + octet_length((s.response -> 'output')::text)
    FROM turn
    JOIN stored_response AS s ON s.response_id = turn.previous_response_id
    WHERE s.account_id = $2 AND s.expires_at > now() AND turn.depth <= $3 AND turn.bytes <= $4
)
SELECT response_id, previous_response_id, input_items, output, bytes
FROM turn
ORDER BY depth DESC;

-- delete_expired_responses
-- Forgets up to $1 responses whose time is over, passing over those that somebody else is deleting.
DELETE FROM stored_response
WHERE response_id IN (
    SELECT response_id FROM stored_response
    WHERE expires_at <= now()
    ORDER BY expires_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
);
