-- The portal: people and how they enter it, and mail as rows of the transaction that causes it.

-- Somebody who may enter the portal. One person, one account.
CREATE TABLE person (
    person_id           uuid PRIMARY KEY,
    account_id          uuid NOT NULL UNIQUE REFERENCES account,
    email               text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) <= 254),
    password_hash       text NOT NULL,
    language            text CHECK (language IN ('id', 'en')),
    created_at          timestamptz NOT NULL,
    password_changed_at timestamptz NOT NULL,
    closed_at           timestamptz,
    -- The secret of the second factor follows from this and from the installation's own secret of this version.
    totp_nonce          bytea CHECK (length(totp_nonce) = 20),
    totp_version        integer,
    totp_since          timestamptz,
    -- No code counts twice: the time step of the last one that was accepted.
    totp_last_step      bigint NOT NULL DEFAULT 0
);

CREATE TABLE recovery_code (
    person_id uuid NOT NULL REFERENCES person,
    digest    bytea NOT NULL CHECK (length(digest) = 32),
    used_at   timestamptz,
    PRIMARY KEY (person_id, digest)
);

-- Somebody who asked for an account and has not followed the link of the mail yet. A known address has rows here too,
-- so that nobody can tell the difference.
CREATE TABLE sign_up (
    sign_up_id     uuid PRIMARY KEY,
    link_digest    bytea NOT NULL UNIQUE CHECK (length(link_digest) = 32),
    browser_digest bytea NOT NULL CHECK (length(browser_digest) = 32),
    mailbox_digest bytea NOT NULL CHECK (length(mailbox_digest) = 32),
    email          text NOT NULL,
    network        text NOT NULL,
    password_hash  text NOT NULL,
    language       text NOT NULL CHECK (language IN ('id', 'en')),
    created_at     timestamptz NOT NULL,
    mailed_at      timestamptz NOT NULL,
    mails          integer NOT NULL DEFAULT 1,
    expires_at     timestamptz NOT NULL,
    used_at        timestamptz
);

-- Serves the look-up of what a browser asked for.
CREATE INDEX sign_up_browser ON sign_up (browser_digest, created_at);

-- Serves the limit of sign-ups of one network.
CREATE INDEX sign_up_network ON sign_up (network, created_at);

-- Serves the limit of sign-ups for one mailbox.
CREATE INDEX sign_up_mailbox ON sign_up (mailbox_digest, created_at);

-- Serves the deletion of old rows.
CREATE INDEX sign_up_created ON sign_up (created_at);

CREATE TABLE portal_session (
    session_id   uuid PRIMARY KEY,
    token_digest bytea NOT NULL UNIQUE CHECK (length(token_digest) = 32),
    person_id    uuid NOT NULL REFERENCES person,
    stage        text NOT NULL CHECK (stage IN ('second_factor', 'open')),
    network      text NOT NULL,
    agent        text NOT NULL CHECK (length(agent) <= 200),
    created_at   timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL,
    -- When the person last proved who they are; keys and money ask for a fresh proof.
    confirmed_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz
);

-- Serves the list of a person's sessions and the networks they are known from.
CREATE INDEX portal_session_person ON portal_session (person_id, created_at);

-- Serves the deletion of old rows.
CREATE INDEX portal_session_expiry ON portal_session (expires_at);

-- What slows down guessing: an address, a network or a person, each as a keyed digest.
CREATE TABLE guess_delay (
    subject        bytea PRIMARY KEY CHECK (length(subject) = 32),
    failures       integer NOT NULL CHECK (failures >= 0),
    last_failed_at timestamptz NOT NULL
);

-- Serves the deletion of old rows.
CREATE INDEX guess_delay_age ON guess_delay (last_failed_at);

CREATE TABLE password_reset (
    link_digest bytea PRIMARY KEY CHECK (length(link_digest) = 32),
    person_id   uuid NOT NULL REFERENCES person,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);

-- Serves the limit of resets and their end when one was used.
CREATE INDEX password_reset_person ON password_reset (person_id, created_at);

-- Serves the deletion of old rows.
CREATE INDEX password_reset_expiry ON password_reset (expires_at);

-- Serves the budget of the free plan.
CREATE INDEX account_plan ON account (plan_id) WHERE status = 'active';

-- Mail is a row of the transaction that causes it. Its text goes when it was sent, because it holds a link.
CREATE TABLE mail_outbox (
    mail_id    uuid PRIMARY KEY,
    address    text NOT NULL,
    subject    text NOT NULL,
    body       text NOT NULL,
    created_at timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    sent_at    timestamptz,
    gave_up_at timestamptz
);

-- Serves the sending of what is due.
CREATE INDEX mail_outbox_due ON mail_outbox (due_at) WHERE sent_at IS NULL AND gave_up_at IS NULL;

-- Serves the page of mail in `nusagate dev`, and the deletion of old rows.
CREATE INDEX mail_outbox_created ON mail_outbox (created_at);
