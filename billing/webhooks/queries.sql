-- insert_event
-- Keep an event; one that came before changes nothing.
INSERT INTO webhook_event (
    event_id, form, type, subject_kind, subject_id, created_at, received_at, payload, state, due_at, ended_at)
VALUES ($1, $2, $3, $4::text, $5, $6, $7::timestamptz, $8,
    CASE WHEN $4::text IS NULL THEN 'ignored' ELSE 'waiting' END, $7::timestamptz,
    CASE WHEN $4::text IS NULL THEN $7::timestamptz END)
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id;

-- claim
-- Take events that are due, what somebody bought before all others; each is put off, in case that whoever took it dies.
-- What nobody has tried is due whenever it came: by the clock of whoever took it in.
UPDATE webhook_event SET attempts = attempts + 1, due_at = $2
WHERE event_id IN (
    SELECT event_id FROM webhook_event WHERE state = 'waiting' AND (due_at <= $1 OR attempts = 0)
    ORDER BY subject_kind <> 'checkout', due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING event_id, type, subject_kind, subject_id, attempts;

-- finish
-- Events whose work is done.
UPDATE webhook_event SET state = 'done', outcome = $2, ended_at = $3
WHERE event_id = ANY ($1::text[]) AND state = 'waiting';

-- postpone
-- An event that could not be worked off now, and why.
UPDATE webhook_event SET due_at = $2, outcome = $3 WHERE event_id = $1 AND state = 'waiting';

-- give_up
-- An event that somebody must look at.
UPDATE webhook_event SET state = 'failed', outcome = $2, ended_at = $3 WHERE event_id = $1 AND state = 'waiting';

-- count_waiting
-- How many events wait.
SELECT count(*) FROM webhook_event WHERE state = 'waiting';

-- list_failed
-- The events that were given up, oldest first.
SELECT event_id, type, subject_id, received_at, attempts, outcome FROM webhook_event
WHERE state = 'failed' ORDER BY received_at LIMIT $1;

-- retry_failed
-- Let an event that was given up be worked off again.
UPDATE webhook_event SET state = 'waiting', attempts = 0, due_at = $2, ended_at = NULL
WHERE event_id = $1 AND state = 'failed'
RETURNING event_id;

-- clear
-- Forget a page of events of long ago that were worked off.
DELETE FROM webhook_event WHERE event_id IN (
    SELECT event_id FROM webhook_event WHERE received_at < $1 AND state IN ('done', 'ignored')
    ORDER BY received_at LIMIT $2);
