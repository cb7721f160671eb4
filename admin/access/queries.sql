-- count_attempt
-- Count an attempt on a subject where its wait is over; nothing is returned where it is not.
INSERT INTO guess_delay AS g (subject, failures, last_failed_at) VALUES ($1, 1, $2)
ON CONFLICT (subject) DO UPDATE
    SET failures = CASE WHEN g.last_failed_at < $2 - $5::interval THEN 1 ELSE g.failures + 1 END, last_failed_at = $2
    WHERE g.failures < $3::integer
       OR g.last_failed_at + make_interval(secs => LEAST($4::integer, 1::bigint << LEAST(g.failures - $3::integer, 30))) <= $2
RETURNING failures;

-- find_attempts
-- How often a subject was guessed at, and when last.
SELECT failures, last_failed_at FROM guess_delay WHERE subject = $1;

-- forgive_attempt
-- Take one attempt back.
UPDATE guess_delay SET failures = GREATEST(failures - 1, 0) WHERE subject = $1;

-- forget_attempts
-- Count a subject from nothing.
DELETE FROM guess_delay WHERE subject = $1;

-- find_person_by_email
-- Somebody by address, with what they are recognised by.
SELECT person_id, account_id, email, language, created_at, password_changed_at, totp_since, password_hash, totp_nonce,
       totp_version, totp_last_step, closed_at
FROM person WHERE email = $1;

-- lock_person
-- Somebody by id, with what they are recognised by, held until the transaction ends.
SELECT person_id, account_id, email, language, created_at, password_changed_at, totp_since, password_hash, totp_nonce,
       totp_version, totp_last_step, closed_at
FROM person WHERE person_id = $1 FOR UPDATE;

-- is_known_network
-- Whether somebody has been inside from a network before.
SELECT EXISTS (SELECT FROM portal_session WHERE person_id = $1 AND network = $2 AND stage = 'open');

-- set_password
-- Keep another password.
UPDATE person SET password_hash = $2, password_changed_at = $3 WHERE person_id = $1;

-- rehash_password
-- Keep the same password under newer parameters, if it has not been changed meanwhile.
UPDATE person SET password_hash = $3 WHERE person_id = $1 AND password_hash = $2;

-- set_language
-- Remember the language of somebody.
UPDATE person SET language = $2 WHERE person_id = $1;

-- close_person
-- Let somebody never enter again.
UPDATE person SET closed_at = $2 WHERE person_id = $1 AND closed_at IS NULL;

-- forget_locks
-- Keep nothing that somebody was recognised by.
UPDATE person SET password_hash = '', language = NULL, totp_nonce = NULL, totp_version = NULL, totp_since = NULL
WHERE person_id = $1;

-- delete_sessions
-- Forget the browsers of somebody.
DELETE FROM portal_session WHERE person_id = $1;

-- delete_resets
-- Forget the reset links of somebody.
DELETE FROM password_reset WHERE person_id = $1;

-- keep_trace
-- Of a sign-up, keep no more than that its mailbox had an account. No mails: it still holds its share of this month.
UPDATE sign_up SET email = '', network = '', created_at = $2, mails = $3
WHERE sign_up_id = (SELECT sign_up_id FROM sign_up
                    WHERE mailbox_digest = ANY ($1::bytea[]) AND used_at IS NOT NULL AND mails > 0
                    ORDER BY created_at DESC LIMIT 1)
RETURNING sign_up_id;

-- insert_trace
-- The same for somebody whose sign-up is not there.
INSERT INTO sign_up (sign_up_id, link_digest, browser_digest, mailbox_digest, email, network, password_hash, language,
                     created_at, mailed_at, mails, expires_at, used_at)
VALUES ($1, $2, $3, $4, '', '', '', 'en', $5, $5, $6, $5, $5);

-- find_account_of
-- The account that an operator made for an address before its owner came.
SELECT account_id FROM account WHERE email = $1 AND status = 'active';

-- sum_promised_tokens
-- What the accounts of a plan may use in a month: each the plan's tokens or its own, where an operator set some (none, where
-- he set no limit), and the share of those that were closed since the month began.
SELECT COALESCE(sum(CASE WHEN limits ? 'monthly_tokens' THEN COALESCE((limits ->> 'monthly_tokens')::bigint, 0)
                         ELSE $2::bigint END), 0)
       + $2::bigint * (SELECT count(*) FROM sign_up WHERE created_at >= $3 AND mails = 0)
FROM account WHERE plan_id = $1 AND status = 'active';

-- hold_sign_ups
-- One sign-up is finished at a time.
SELECT pg_advisory_xact_lock(hashtext('admin.access'), hashtext('sign_up'));

-- insert_person
-- Somebody new; nothing is written where the address or the account has somebody already.
INSERT INTO person (person_id, account_id, email, password_hash, language, created_at, password_changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
ON CONFLICT DO NOTHING
RETURNING person_id;

-- count_sign_ups_of_network
-- How many accounts a network has asked for since a moment.
SELECT count(*) FROM sign_up WHERE network = $1 AND created_at > $2;

-- count_sign_ups_before
-- How many accounts were asked for with a mailbox within a time before a sign-up, in any spelling and under any of our keys.
SELECT count(*) FROM sign_up s JOIN sign_up own ON own.sign_up_id = $1
WHERE s.mailbox_digest = ANY ($2::bytea[]) AND s.created_at > own.created_at - $3::interval
  AND (s.created_at, s.sign_up_id) < (own.created_at, own.sign_up_id);

-- count_accounts_of_mailbox
-- How many accounts a mailbox has or had, in any spelling and under any of our keys.
SELECT count(*) FROM sign_up WHERE mailbox_digest = ANY ($1::bytea[]) AND used_at IS NOT NULL;

-- insert_sign_up
-- Somebody asks for an account.
INSERT INTO sign_up (sign_up_id, link_digest, browser_digest, mailbox_digest, email, network, password_hash, language,
                     created_at, mailed_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10);

-- lock_sign_up_of_link
-- What a link of a mail belongs to, held until the transaction ends.
SELECT sign_up_id, browser_digest, email, password_hash, language, mailed_at, mails, expires_at, used_at
FROM sign_up WHERE link_digest = $1 FOR UPDATE;

-- lock_sign_up_of_browser
-- What a browser asked for last, held until the transaction ends.
SELECT sign_up_id, browser_digest, email, password_hash, language, mailed_at, mails, expires_at, used_at
FROM sign_up WHERE browser_digest = $1 ORDER BY created_at DESC LIMIT 1 FOR UPDATE;

-- renew_sign_up
-- Mail another link in place of the one before.
UPDATE sign_up SET link_digest = $2, mailed_at = $3, mails = mails + 1 WHERE sign_up_id = $1;

-- use_sign_up
-- A link was followed; the password is the person's now.
UPDATE sign_up SET used_at = $2, password_hash = '' WHERE sign_up_id = $1;

-- insert_session
-- Somebody enters with a browser.
INSERT INTO portal_session (session_id, token_digest, person_id, stage, network, agent, created_at, seen_at, confirmed_at,
                            expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $7, $8);

-- find_session
-- Whose browser a request comes from; no row where the session is over.
SELECT s.session_id, s.stage, s.network, s.agent, s.created_at AS session_created_at, s.seen_at, s.confirmed_at,
       p.person_id, p.account_id, p.email, p.language, p.created_at, p.password_changed_at, p.totp_since
FROM portal_session s JOIN person p USING (person_id)
WHERE s.token_digest = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND s.seen_at > $3 AND p.closed_at IS NULL;

-- list_sessions
-- The browsers that somebody is inside with, the latest first.
SELECT s.session_id, s.stage, s.network, s.agent, s.created_at AS session_created_at, s.seen_at, s.confirmed_at,
       p.person_id, p.account_id, p.email, p.language, p.created_at, p.password_changed_at, p.totp_since
FROM portal_session s JOIN person p USING (person_id)
WHERE s.person_id = $1 AND s.stage = 'open' AND s.ended_at IS NULL AND s.expires_at > $2 AND s.seen_at > $3
ORDER BY s.seen_at DESC LIMIT 100;

-- touch_session
-- A session was used.
UPDATE portal_session SET seen_at = $2 WHERE session_id = $1;

-- confirm_session
-- Somebody has just proved again who they are.
UPDATE portal_session SET confirmed_at = $2 WHERE session_id = $1;

-- end_session
-- End one session of somebody.
UPDATE portal_session SET ended_at = $3 WHERE session_id = $1 AND person_id = $2 AND ended_at IS NULL RETURNING session_id;

-- end_sessions
-- End all sessions of somebody but one, or all of them.
UPDATE portal_session SET ended_at = $3
WHERE person_id = $1 AND ($2::uuid IS NULL OR session_id <> $2) AND ended_at IS NULL;

-- count_resets
-- How many reset links somebody has asked for since a moment.
SELECT count(*) FROM password_reset WHERE person_id = $1 AND created_at > $2;

-- insert_reset
-- A link that sets a new password.
INSERT INTO password_reset (link_digest, person_id, created_at, expires_at) VALUES ($1, $2, $3, $4);

-- find_reset
-- Whose link it is, if it can still be used.
SELECT person_id FROM password_reset WHERE link_digest = $1 AND used_at IS NULL AND expires_at > $2;

-- use_resets
-- A link was used, and with it every other one of the same person.
UPDATE password_reset SET used_at = $2 WHERE person_id = $1 AND used_at IS NULL;

-- begin_second_factor
-- Prepare a second factor; it counts when its first code was right.
UPDATE person SET totp_nonce = $2, totp_version = $3, totp_since = NULL, totp_last_step = 0 WHERE person_id = $1;

-- set_second_factor
-- From now on the second factor is asked for.
UPDATE person SET totp_since = $2, totp_last_step = $3 WHERE person_id = $1;

-- remove_second_factor
-- The second factor is not asked for any more.
UPDATE person SET totp_nonce = NULL, totp_version = NULL, totp_since = NULL, totp_last_step = 0 WHERE person_id = $1;

-- use_step
-- The code of a time step was used.
UPDATE person SET totp_last_step = $2 WHERE person_id = $1;

-- delete_recovery_codes
-- Forget the recovery codes of somebody.
DELETE FROM recovery_code WHERE person_id = $1;

-- insert_recovery_codes
-- New recovery codes.
INSERT INTO recovery_code (person_id, digest) SELECT $1, unnest($2::bytea[]);

-- use_recovery_code
-- Use a recovery code, once.
UPDATE recovery_code SET used_at = $3 WHERE person_id = $1 AND digest = ANY ($2::bytea[]) AND used_at IS NULL RETURNING digest;

-- count_recovery_codes
-- How many recovery codes somebody has left.
SELECT count(*) FROM recovery_code WHERE person_id = $1 AND used_at IS NULL;

-- clear_sign_ups
-- Forget who asked for an account long ago and did not follow the link.
DELETE FROM sign_up WHERE created_at < $1 AND used_at IS NULL;

-- clear_used_sign_ups
-- Of those who did, keep no more than that their mailbox has its account.
UPDATE sign_up SET email = '', network = '' WHERE created_at < $1 AND email <> '';

-- clear_sessions
-- Forget sessions that ended long ago.
DELETE FROM portal_session WHERE expires_at < $1;

-- clear_resets
-- Forget reset links that ended long ago.
DELETE FROM password_reset WHERE expires_at < $1;

-- clear_attempts
-- Forget guesses of long ago.
DELETE FROM guess_delay WHERE last_failed_at < $1;
