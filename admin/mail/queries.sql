-- insert_mail
-- A letter to be sent.
INSERT INTO mail_outbox (mail_id, address, subject, body, created_at, due_at) VALUES ($1, $2, $3, $4, $5, $5);

-- take_due
-- A few letters whose time has come, put off until later in case that sending them fails.
UPDATE mail_outbox SET attempts = attempts + 1, due_at = $1::timestamptz + make_interval(mins => 1 << LEAST(attempts, 6))
WHERE mail_id IN (
    SELECT mail_id FROM mail_outbox WHERE sent_at IS NULL AND gave_up_at IS NULL AND due_at <= $1
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING mail_id, address, subject, body, created_at, attempts;

-- mark_sent
-- A letter is gone; what it said is forgotten, because it held a link.
UPDATE mail_outbox SET sent_at = $2, body = '' WHERE mail_id = $1;

-- give_up
-- A letter cannot be delivered.
UPDATE mail_outbox SET gave_up_at = $2, body = '' WHERE mail_id = $1;

-- list_latest
-- The latest letters, for the page of `nusagate dev`.
SELECT mail_id, address, subject, body, created_at, attempts FROM mail_outbox ORDER BY created_at DESC LIMIT $1;

-- clear
-- Forget letters of long ago.
DELETE FROM mail_outbox WHERE created_at < $1;
