-- insert
-- Keep one thing that was done.
INSERT INTO audit_event (audit_id, happened_at, actor, action, source, account_id, object_id, reason, before, after)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10::jsonb);

-- list_events
-- What was done since a moment, newest first, to one account and by one action or subject where they are named.
SELECT audit_id, happened_at, actor, action, source, account_id, object_id, reason, before::text AS before, after::text AS after
FROM audit_event
WHERE happened_at >= COALESCE($3::timestamptz, '-infinity') AND ($1::uuid IS NULL OR account_id = $1)
    AND ($2::text IS NULL OR action = $2 OR split_part(action, ':', 1) = $2)
ORDER BY happened_at DESC, audit_id DESC LIMIT $4;
