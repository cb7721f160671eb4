-- The whole schema, for reading. The migrations build exactly this; a test compares the two.
-- Tokens are exact integers. Money is pico-currency (10^-12). Times are UTC.

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- ------------------------------------------------------------------ plans and prices

CREATE TABLE plan (
    plan_id             text PRIMARY KEY CHECK (plan_id ~ '^[a-z][a-z0-9_-]{0,31}$'),
    name                text NOT NULL,
    billing             text NOT NULL CHECK (billing IN ('free', 'flat', 'metered')),
    monthly_tokens      bigint CHECK (monthly_tokens >= 0),
    daily_tokens        bigint CHECK (daily_tokens >= 0),
    requests_per_minute bigint CHECK (requests_per_minute BETWEEN 0 AND 60000000),
    tokens_per_minute   bigint CHECK (tokens_per_minute BETWEEN 0 AND 60000000),
    concurrency         bigint CHECK (concurrency >= 0),
    on_disconnect       text NOT NULL CHECK (on_disconnect IN ('drain', 'cancel')),
    position            integer NOT NULL
);

CREATE TABLE plan_price (
    plan_id              text NOT NULL REFERENCES plan,
    currency             text NOT NULL CHECK (currency IN ('idr', 'usd')),
    monthly_amount_micro bigint NOT NULL CHECK (monthly_amount_micro >= 0),
    PRIMARY KEY (plan_id, currency)
);

CREATE TABLE price_book (
    book_id        text PRIMARY KEY,
    currency       text NOT NULL CHECK (currency IN ('idr', 'usd')),
    version        integer NOT NULL CHECK (version >= 1),
    effective_from timestamptz NOT NULL,
    effective_to   timestamptz CHECK (effective_to > effective_from),
    published_at   timestamptz,
    published_by   text,
    content_sha256 text NOT NULL,
    UNIQUE (currency, version),
    -- Two published books of one currency never hold at the same moment.
    EXCLUDE USING gist (currency WITH =, tstzrange(effective_from, effective_to) WITH &&)
        WHERE (published_at IS NOT NULL)
);

CREATE TABLE price_rate (
    book_id        text NOT NULL REFERENCES price_book,
    model          text NOT NULL,
    token_class    text NOT NULL CHECK (token_class IN (
        'input_text', 'input_cached', 'input_audio', 'output_text', 'output_reasoning', 'output_audio')),
    -- The bound keeps the amount of the largest possible request inside a bigint.
    micro_per_mtok bigint NOT NULL CHECK (micro_per_mtok BETWEEN 0 AND 60000000000),
    PRIMARY KEY (book_id, model, token_class)
);

-- ------------------------------------------------------------------ accounts and keys

CREATE TABLE account (
    account_id uuid PRIMARY KEY,
    email      text NOT NULL CHECK (email = lower(email) AND length(email) <= 254),
    plan_id    text NOT NULL REFERENCES plan,
    currency   text NOT NULL CHECK (currency IN ('idr', 'usd')),
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'payment_required')),
    -- What was set for this account alone: a limit's name to a number, or to null for "no limit".
    limits     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(limits) = 'object'),
    created_at timestamptz NOT NULL,
    UNIQUE (email)
);

CREATE TABLE api_key (
    key_id          uuid PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES account,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    prefix          text NOT NULL,
    last4           text NOT NULL CHECK (length(last4) = 4),
    digest          bytea NOT NULL CHECK (length(digest) = 32),
    pepper_version  integer NOT NULL,
    monthly_tokens  bigint CHECK (monthly_tokens >= 0),
    models          text[],
    endpoints       text[],
    ip_ranges       cidr[],
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    revoked_at      timestamptz,
    replaced_by     uuid REFERENCES api_key,
    last_used_at    timestamptz,
    last_used_model text,
    -- Serves the look-up of a presented key.
    UNIQUE (digest)
);

-- Serves the list of an account's keys.
CREATE INDEX api_key_account ON api_key (account_id, created_at);

-- ------------------------------------------------------------------ limits

-- One row an account: the lock under which an account's admissions happen, its minute limits and
-- the number of its requests in flight. A tat is a GCRA "theoretical arrival time" in microseconds.
CREATE TABLE quota_gate (
    account_id      uuid PRIMARY KEY REFERENCES account,
    requests_tat_us bigint NOT NULL DEFAULT 0,
    tokens_tat_us   bigint NOT NULL DEFAULT 0,
    in_flight       bigint NOT NULL DEFAULT 0,
    -- Moves on whenever what Redis knows of the account is no longer everything: what was decided by an older
    -- number is not recorded.
    fence           bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- What a subject (an account or a key) has used and holds in a period ('2026-11' or '2026-11-23').
-- The period is part of the key, so a reset is the absence of a row, never a job.
CREATE TABLE quota_counter (
    account_id  uuid NOT NULL REFERENCES account,
    subject_id  uuid NOT NULL,
    period      text NOT NULL,
    used_tokens bigint NOT NULL DEFAULT 0 CHECK (used_tokens >= 0),
    held_tokens bigint NOT NULL DEFAULT 0 CHECK (held_tokens >= 0),
    PRIMARY KEY (account_id, subject_id, period)
) WITH (fillfactor = 50);

-- One row a request, committed before anything is sent upstream. It ends settled (one ledger entry)
-- or released (nothing was served), exactly once, whatever dies.
CREATE TABLE request_intent (
    request_id         uuid PRIMARY KEY,
    account_id         uuid NOT NULL,
    key_id             uuid NOT NULL,
    model              text NOT NULL,
    endpoint           text NOT NULL,
    stream             boolean NOT NULL,
    end_user           text,
    plan_id            text NOT NULL,
    billable           boolean NOT NULL,
    currency           text NOT NULL,
    book_id            text NOT NULL,
    admitted_at        timestamptz NOT NULL,
    period             text NOT NULL,
    day                text NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    reserved_tokens    bigint NOT NULL,
    -- The minute limit that the reservation was taken from, so that what is not used can be given back.
    tokens_per_minute  bigint,
    deadline           timestamptz NOT NULL,
    heartbeat_at       timestamptz NOT NULL,
    upstream           text,
    delivered_bytes    bigint NOT NULL DEFAULT 0,
    state              text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'settled', 'released')),
    end_reason         text,
    closed_at          timestamptz
);

-- Serves the reading of what an account holds, the sweep for abandoned requests, and the proof that nothing is held
-- when idle.
CREATE INDEX request_intent_open ON request_intent (account_id) WHERE state = 'open';

-- Serves the clearing of old closed rows.
CREATE INDEX request_intent_closed ON request_intent (closed_at) WHERE state <> 'open';

-- ------------------------------------------------------------------ the ledger

CREATE TABLE ledger_entry (
    entry_id                uuid NOT NULL,
    request_id              uuid NOT NULL,
    kind                    text NOT NULL CHECK (kind IN ('usage', 'reversal', 'adjustment', 'writeoff')),
    seq                     integer NOT NULL DEFAULT 0,
    occurred_at             timestamptz NOT NULL,
    settled_at              timestamptz NOT NULL,
    account_id              uuid NOT NULL,
    key_id                  uuid,
    model                   text NOT NULL,
    endpoint                text NOT NULL,
    upstream                text,
    end_user                text,
    plan_id                 text NOT NULL,
    period                  text NOT NULL,
    input_text_tokens       bigint NOT NULL,
    input_cached_tokens     bigint NOT NULL,
    input_audio_tokens      bigint NOT NULL,
    output_text_tokens      bigint NOT NULL,
    output_reasoning_tokens bigint NOT NULL,
    output_audio_tokens     bigint NOT NULL,
    quota_tokens            bigint NOT NULL,
    currency                text NOT NULL,
    book_id                 text NOT NULL,
    amount_pico             bigint NOT NULL,
    billable                boolean NOT NULL,
    usage_source            text NOT NULL CHECK (usage_source IN ('upstream', 'partial', 'estimated')),
    usage_flaw              text,
    end_reason              text NOT NULL,
    raw_usage               jsonb,
    duration_ms             integer NOT NULL,
    first_byte_ms           integer,
    reverses_entry_id       uuid,
    reason                  text,
    actor                   text,
    -- occurred_at is the intent's admitted_at, so a retry computes the same key.
    UNIQUE (request_id, kind, seq, occurred_at)
) PARTITION BY RANGE (occurred_at);

-- Serves exports, statements and recent requests of one account.
CREATE INDEX ledger_entry_account ON ledger_entry (account_id, occurred_at);

-- Nothing is lost when no partition was made in time: it lands here.
CREATE TABLE ledger_entry_default PARTITION OF ledger_entry DEFAULT;

-- Read models, advanced in the settling transaction, rebuildable from the entries.
CREATE TABLE account_period_total (
    account_id    uuid NOT NULL,
    period        text NOT NULL,
    currency      text NOT NULL,
    requests      bigint NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    quota_tokens  bigint NOT NULL,
    amount_pico   numeric(38, 0) NOT NULL,
    PRIMARY KEY (account_id, period, currency)
) WITH (fillfactor = 50);

CREATE TABLE usage_hourly (
    account_id              uuid NOT NULL,
    hour                    timestamptz NOT NULL,
    key_id                  uuid NOT NULL,
    model                   text NOT NULL,
    end_reason              text NOT NULL,
    currency                text NOT NULL,
    requests                bigint NOT NULL,
    input_tokens            bigint NOT NULL,
    input_cached_tokens     bigint NOT NULL,
    output_tokens           bigint NOT NULL,
    output_reasoning_tokens bigint NOT NULL,
    amount_pico             numeric(38, 0) NOT NULL,
    -- Leads with the account and the hour, as every usage view asks.
    PRIMARY KEY (account_id, hour, key_id, model, end_reason, currency)
) WITH (fillfactor = 70);

-- Hours of days that are over, summed. A day is here when the worker has closed it: all of it, for everybody.
CREATE TABLE usage_daily (
    account_id              uuid NOT NULL,
    day                     date NOT NULL,
    key_id                  uuid NOT NULL,
    model                   text NOT NULL,
    end_reason              text NOT NULL,
    currency                text NOT NULL,
    requests                bigint NOT NULL,
    input_tokens            bigint NOT NULL,
    input_cached_tokens     bigint NOT NULL,
    output_tokens           bigint NOT NULL,
    output_reasoning_tokens bigint NOT NULL,
    amount_pico             numeric(38, 0) NOT NULL,
    -- Leads with the account and the day, as every usage view asks.
    PRIMARY KEY (account_id, day, key_id, model, end_reason, currency)
);

-- The last UTC day that is closed, with all before it; no row while none is. Without it every view reads hours, so
-- deleting it is always safe, and the worker begins again.
CREATE TABLE usage_closed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_day date NOT NULL
);

-- Usage of an account in the hours that begin in [p_start, p_end): whole days that are closed as one row a day, the rest as
-- one row an hour. The watermark is read in the same snapshot as what it speaks of.
CREATE FUNCTION usage_between(p_account_id uuid, p_start timestamptz, p_end timestamptz) RETURNS TABLE (
    moment        timestamptz,
    key_id        uuid,
    model         text,
    end_reason    text,
    currency      text,
    requests      bigint,
    input_tokens  bigint,
    output_tokens bigint,
    amount_pico   numeric
) LANGUAGE sql STABLE AS $$
    SELECT u.* FROM (
        -- From the first midnight in the range to the last one that closed days reach: nothing where they do not meet.
        SELECT f.midnight AS first, GREATEST(f.midnight, LEAST(date_trunc('day', p_end, 'UTC'), COALESCE(
            (SELECT (c.last_day + 1)::timestamp AT TIME ZONE 'UTC' FROM usage_closed c), '-infinity'))) AS last
        FROM (SELECT date_trunc('day', p_start + interval '1 day' - interval '1 microsecond', 'UTC') AS midnight) f
    ) w
    CROSS JOIN LATERAL (
        SELECT d.day::timestamp AT TIME ZONE 'UTC', d.key_id, d.model, d.end_reason, d.currency, d.requests,
            d.input_tokens, d.output_tokens, d.amount_pico
        FROM usage_daily d
        WHERE d.account_id = p_account_id
            AND d.day >= (w.first AT TIME ZONE 'UTC')::date AND d.day < (w.last AT TIME ZONE 'UTC')::date
        UNION ALL
        SELECT h.hour, h.key_id, h.model, h.end_reason, h.currency, h.requests, h.input_tokens, h.output_tokens, h.amount_pico
        FROM usage_hourly h WHERE h.account_id = p_account_id AND h.hour >= p_start AND h.hour < LEAST(w.first, p_end)
        UNION ALL
        SELECT h.hour, h.key_id, h.model, h.end_reason, h.currency, h.requests, h.input_tokens, h.output_tokens, h.amount_pico
        FROM usage_hourly h WHERE h.account_id = p_account_id AND h.hour >= w.last AND h.hour < p_end
    ) u
$$;

CREATE TABLE usage_user_daily (
    account_id    uuid NOT NULL,
    day           date NOT NULL,
    end_user      text NOT NULL,
    currency      text NOT NULL,
    requests      bigint NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    amount_pico   numeric(38, 0) NOT NULL,
    PRIMARY KEY (account_id, day, end_user, currency)
);

-- Requests that were refused before a model was called, counted beside the way of a request.
CREATE TABLE refusal_hourly (
    account_id uuid NOT NULL,
    hour       timestamptz NOT NULL,
    key_id     uuid NOT NULL,
    reason     text NOT NULL CHECK (length(reason) <= 50),
    requests   bigint NOT NULL CHECK (requests > 0),
    -- Leads with the account and the hour, as every usage view asks.
    PRIMARY KEY (account_id, hour, key_id, reason)
) WITH (fillfactor = 70);

-- Serves the clearing of old counts.
CREATE INDEX refusal_hourly_hour ON refusal_hourly (hour);

-- What billing must carry to Stripe: written in the settling transaction, consumed by "not yet in a batch".
CREATE TABLE billing_outbox (
    entry_id    uuid PRIMARY KEY,
    account_id  uuid NOT NULL,
    currency    text NOT NULL,
    occurred_at timestamptz NOT NULL,
    amount_pico bigint NOT NULL,
    batch_id    uuid
);

-- Serves the freezing of a batch.
CREATE INDEX billing_outbox_unbatched ON billing_outbox (account_id, currency, occurred_at) WHERE batch_id IS NULL;

-- ------------------------------------------------------------------ state of the Responses API

CREATE TABLE stored_response (
    response_id          text PRIMARY KEY,
    account_id           uuid NOT NULL,
    created_at           timestamptz NOT NULL,
    expires_at           timestamptz NOT NULL,
    previous_response_id text,
    model                text NOT NULL,
    -- json, not jsonb: what is kept is returned as it was written.
    input_items          json NOT NULL,
    response             json NOT NULL
);

-- Serves the deletion of expired rows.
CREATE INDEX stored_response_expiry ON stored_response (expires_at);

CREATE TABLE idempotency_key (
    account_id     uuid NOT NULL,
    key            text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_sha256 bytea NOT NULL,
    request_id     uuid NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    body           bytea,
    PRIMARY KEY (account_id, key)
);

-- Serves the deletion of expired rows.
CREATE INDEX idempotency_key_expiry ON idempotency_key (expires_at);

-- ------------------------------------------------------------------ people, sessions and mail

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

-- ------------------------------------------------------------------ guards

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON ledger_entry_default
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A published book is history: only its end may be set, once, when a newer one follows.
CREATE FUNCTION guard_price_book() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.published_at IS NULL THEN
        RETURN COALESCE(NEW, OLD);
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.effective_to IS NULL
       AND to_jsonb(NEW) - 'effective_to' = to_jsonb(OLD) - 'effective_to' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'price book % is published and cannot change', OLD.book_id USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER price_book_immutable BEFORE UPDATE OR DELETE ON price_book
    FOR EACH ROW EXECUTE FUNCTION guard_price_book();

CREATE FUNCTION guard_price_rate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM price_book
        WHERE book_id IN (NEW.book_id, OLD.book_id) AND published_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'the price book of this rate is published and cannot change'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN COALESCE(NEW, OLD);
END
$$;

CREATE TRIGGER price_rate_immutable BEFORE INSERT OR UPDATE OR DELETE ON price_rate
    FOR EACH ROW EXECUTE FUNCTION guard_price_rate();

-- Whatever changes a key, an account or a plan tells every gateway in the same transaction.
CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('nusagate_changed', TG_TABLE_NAME || ':' || (to_jsonb(NEW) ->> TG_ARGV[0]));
    RETURN NULL;
END
$$;

CREATE TRIGGER api_key_changed
    AFTER UPDATE OF account_id, name, digest, monthly_tokens, models, endpoints, ip_ranges, expires_at, revoked_at
    ON api_key FOR EACH ROW EXECUTE FUNCTION announce_change('key_id');
CREATE TRIGGER account_changed AFTER UPDATE ON account
    FOR EACH ROW EXECUTE FUNCTION announce_change('account_id');
CREATE TRIGGER plan_changed AFTER UPDATE ON plan
    FOR EACH ROW EXECUTE FUNCTION announce_change('plan_id');

-- Every account has its gate from its first moment.
CREATE FUNCTION open_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO quota_gate (account_id) VALUES (NEW.account_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER account_gate AFTER INSERT ON account FOR EACH ROW EXECUTE FUNCTION open_gate();

-- Makes the ledger's partitions for the month of a moment and the months after it.
CREATE FUNCTION ensure_ledger_partitions(p_from timestamptz, p_months integer) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    v_month timestamp;
    v_name  text;
BEGIN
    FOR i IN 0 .. p_months - 1 LOOP
        v_month := date_trunc('month', p_from AT TIME ZONE 'UTC') + make_interval(months => i);
        v_name := 'ledger_entry_' || to_char(v_month, 'YYYY_MM');
        CONTINUE WHEN to_regclass(v_name) IS NOT NULL;
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF ledger_entry FOR VALUES FROM (%L) TO (%L)',
            v_name, v_month AT TIME ZONE 'UTC', (v_month + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format(
            'CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', v_name);
        RETURN NEXT v_name;
    END LOOP;
END
$$;

-- ------------------------------------------------------------------ admission

-- Division of integers, rounded up; null where the divisor is null or zero.
CREATE FUNCTION ceil_div(p_dividend bigint, p_divisor bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT (p_dividend + p_divisor - 1) / NULLIF(p_divisor, 0) $$;

-- How far ahead of now a bucket may be that holds one minute's units, in microseconds; null where there is no limit.
-- Room for what rounding adds to each unit, and never for one more unit: see gateway/quota/gcra.py.
CREATE FUNCTION minute_most(p_limit bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT LEAST((60000000 * (p_limit + 1) - 1) / NULLIF(p_limit, 0), 60000000 + NULLIF(p_limit, 0)) $$;

-- One counter, all zeros when the subject has used nothing in the period yet.
CREATE FUNCTION quota_read(p_account_id uuid, p_subject_id uuid, p_period text) RETURNS quota_counter
LANGUAGE plpgsql AS $$
DECLARE
    v_counter quota_counter;
BEGIN
    SELECT * INTO v_counter FROM quota_counter c
        WHERE c.account_id = p_account_id AND c.subject_id = p_subject_id AND c.period = p_period;
    IF NOT FOUND THEN
        v_counter := ROW(p_account_id, p_subject_id, p_period, 0, 0);
    END IF;
    RETURN v_counter;
END
$$;

-- Reserves for a batch of requests, each all or nothing, under the lock of its account's gate.
-- Decides in a loop, writes in sets. The period is that of p_now (the database's clock when null).
-- Repeating a request id returns the reservation that exists.
CREATE FUNCTION reserve_v1(p_requests jsonb, p_now timestamptz) RETURNS TABLE (
    request_id         uuid,
    refused_by         text,
    granted_output     bigint,
    admitted_at        timestamptz,
    period             text,
    book_id            text,
    month_used         bigint,
    month_held         bigint,
    scope_used         bigint,
    scope_held         bigint,
    retry_after_us     bigint,
    requests_remaining bigint,
    requests_reset_us  bigint,
    tokens_remaining   bigint,
    tokens_reset_us    bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r                 record;
    v_now             timestamptz;
    v_now_us          bigint;
    v_period          text;
    v_day             text;
    v_book            text;
    v_gate            quota_gate;
    v_month           quota_counter;
    v_daily           quota_counter;
    v_key             quota_counter;
    v_intent          request_intent;
    v_intents         request_intent[] := '{}';
    v_gates           quota_gate[] := '{}';
    v_scope           text;
    v_room            bigint;
    v_scope_room      bigint;
    v_grant           bigint;
    v_requests_tat    bigint;
    v_requests_most   bigint;
    v_tokens_tat      bigint;
    v_tokens_most     bigint;
    c_minute_us       CONSTANT bigint := 60000000;
BEGIN
    FOR r IN
        SELECT * FROM jsonb_to_recordset(p_requests) AS q(
            request_id uuid, account_id uuid, key_id uuid, model text, endpoint text, stream boolean,
            end_user text, plan_id text, billable boolean, currency text, input_tokens bigint,
            output_tokens bigint, output_min bigint, choices bigint, deadline_s bigint,
            month_limit bigint, day_limit bigint, key_limit bigint,
            requests_per_minute bigint, tokens_per_minute bigint, concurrency bigint)
        ORDER BY q.account_id, q.key_id, q.request_id
    LOOP
        IF v_gate.account_id IS DISTINCT FROM r.account_id THEN
            IF v_gate.account_id IS NOT NULL THEN
                v_gates := v_gates || v_gate;
            END IF;
            SELECT * INTO STRICT v_gate FROM quota_gate g WHERE g.account_id = r.account_id FOR UPDATE;
            -- Read after the lock, so that admissions of an account are in the order of their times.
            v_now := COALESCE(p_now, clock_timestamp());
            v_now_us := (extract(epoch FROM v_now) * 1000000)::bigint;
            v_period := to_char(v_now AT TIME ZONE 'UTC', 'YYYY-MM');
            v_day := to_char(v_now AT TIME ZONE 'UTC', 'YYYY-MM-DD');
            v_month := quota_read(r.account_id, r.account_id, v_period);
            v_daily := quota_read(r.account_id, r.account_id, v_day);
            v_key := NULL;
            v_book := (
                SELECT b.book_id FROM price_book b
                WHERE b.currency = r.currency AND b.published_at IS NOT NULL
                  AND b.effective_from <= v_now AND (b.effective_to IS NULL OR v_now < b.effective_to));
        END IF;
        IF v_key.subject_id IS DISTINCT FROM r.key_id THEN
            v_key := quota_read(r.account_id, r.key_id, v_period);
        END IF;

        -- How much room is left, and which limit leaves the least.
        v_scope := NULL;
        v_room := NULL;
        IF r.month_limit IS NOT NULL THEN
            v_scope := 'month';
            v_room := r.month_limit - v_month.used_tokens - v_month.held_tokens;
        END IF;
        v_scope_room := r.key_limit - v_key.used_tokens - v_key.held_tokens;
        IF v_scope_room < v_room OR (v_room IS NULL AND v_scope_room IS NOT NULL) THEN
            v_scope := 'key_month';
            v_room := v_scope_room;
        END IF;
        v_scope_room := r.day_limit - v_daily.used_tokens - v_daily.held_tokens;
        IF v_scope_room < v_room OR (v_room IS NULL AND v_scope_room IS NOT NULL) THEN
            v_scope := 'tokens_per_day';
            v_room := v_scope_room;
        END IF;
        -- A request larger than a whole minute's tokens could never be admitted, so it is clamped to them.
        IF r.tokens_per_minute < v_room OR (v_room IS NULL AND r.tokens_per_minute IS NOT NULL) THEN
            v_scope := 'tokens_per_minute';
            v_room := r.tokens_per_minute;
        END IF;
        v_grant := LEAST(r.output_tokens, floor((v_room - r.input_tokens)::numeric / r.choices)::bigint);

        -- GCRA: a unit moves the arrival time one minute / limit ahead, at most one minute's units ahead of now.
        v_requests_tat := GREATEST(v_gate.requests_tat_us, v_now_us) + ceil_div(c_minute_us, r.requests_per_minute);
        v_requests_most := minute_most(r.requests_per_minute);
        v_tokens_tat := GREATEST(v_gate.tokens_tat_us, v_now_us)
            + ceil_div(c_minute_us * (r.input_tokens + r.choices * GREATEST(v_grant, 0)), r.tokens_per_minute);
        v_tokens_most := minute_most(r.tokens_per_minute);

        request_id := r.request_id;
        refused_by := NULL;
        retry_after_us := 0;
        SELECT * INTO v_intent FROM request_intent i WHERE i.request_id = r.request_id;
        IF FOUND THEN
            v_grant := v_intent.output_tokens;
        ELSIF v_book IS NULL OR NOT EXISTS (
            SELECT FROM price_rate p WHERE p.book_id = v_book AND p.model = r.model) THEN
            refused_by := 'price';
        ELSIF v_grant < LEAST(r.output_min, r.output_tokens) THEN
            refused_by := v_scope;
            retry_after_us := 60000000;
        ELSIF r.concurrency <= v_gate.in_flight THEN
            refused_by := 'concurrency';
            retry_after_us := 1000000;
        ELSIF r.requests_per_minute = 0 THEN
            refused_by := 'requests_per_minute';
            retry_after_us := 60000000;
        ELSIF v_requests_tat - v_now_us > v_requests_most THEN
            refused_by := 'requests_per_minute';
            retry_after_us := v_requests_tat - v_now_us - v_requests_most;
        ELSIF v_tokens_tat - v_now_us > v_tokens_most THEN
            refused_by := 'tokens_per_minute';
            retry_after_us := v_tokens_tat - v_now_us - v_tokens_most;
        ELSE
            v_intent := NULL;
            v_intent.request_id := r.request_id;
            v_intent.account_id := r.account_id;
            v_intent.key_id := r.key_id;
            v_intent.model := r.model;
            v_intent.endpoint := r.endpoint;
            v_intent.stream := r.stream;
            v_intent.end_user := r.end_user;
            v_intent.plan_id := r.plan_id;
            v_intent.billable := r.billable;
            v_intent.currency := r.currency;
            v_intent.book_id := v_book;
            v_intent.admitted_at := v_now;
            v_intent.period := v_period;
            v_intent.day := v_day;
            v_intent.input_tokens := r.input_tokens;
            v_intent.output_tokens := v_grant;
            v_intent.reserved_tokens := r.input_tokens + r.choices * v_grant;
            v_intent.tokens_per_minute := r.tokens_per_minute;
            v_intent.deadline := v_now + make_interval(secs => r.deadline_s);
            v_intent.heartbeat_at := v_now;
            v_intent.delivered_bytes := 0;
            v_intent.state := 'open';
            v_intents := v_intents || v_intent;
            v_gate.in_flight := v_gate.in_flight + 1;
            v_gate.fence := v_gate.fence + 1;
            v_gate.requests_tat_us := COALESCE(v_requests_tat, v_gate.requests_tat_us);
            v_gate.tokens_tat_us := COALESCE(v_tokens_tat, v_gate.tokens_tat_us);
            v_month.held_tokens := v_month.held_tokens + v_intent.reserved_tokens;
            v_daily.held_tokens := v_daily.held_tokens + v_intent.reserved_tokens;
            v_key.held_tokens := v_key.held_tokens + v_intent.reserved_tokens;
        END IF;

        granted_output := v_grant;
        admitted_at := COALESCE(v_intent.admitted_at, v_now);
        period := COALESCE(v_intent.period, v_period);
        book_id := COALESCE(v_intent.book_id, v_book);
        month_used := v_month.used_tokens;
        month_held := v_month.held_tokens;
        scope_used := CASE refused_by WHEN 'key_month' THEN v_key.used_tokens
            WHEN 'tokens_per_day' THEN v_daily.used_tokens ELSE v_month.used_tokens END;
        scope_held := CASE refused_by WHEN 'key_month' THEN v_key.held_tokens
            WHEN 'tokens_per_day' THEN v_daily.held_tokens ELSE v_month.held_tokens END;
        requests_reset_us := GREATEST(v_gate.requests_tat_us - v_now_us, 0);
        requests_remaining := GREATEST(v_requests_most - requests_reset_us, 0) * r.requests_per_minute / c_minute_us;
        tokens_reset_us := GREATEST(v_gate.tokens_tat_us - v_now_us, 0);
        tokens_remaining := GREATEST(v_tokens_most - tokens_reset_us, 0) * r.tokens_per_minute / c_minute_us;
        RETURN NEXT;
    END LOOP;

    IF cardinality(v_intents) = 0 THEN
        RETURN;
    END IF;
    v_gates := v_gates || v_gate;
    INSERT INTO request_intent SELECT * FROM unnest(v_intents);
    INSERT INTO quota_counter AS c (account_id, subject_id, period, held_tokens)
        SELECT i.account_id, s.subject_id, s.period, sum(i.reserved_tokens)
        FROM unnest(v_intents) AS i
        CROSS JOIN LATERAL (VALUES (i.account_id, i.period), (i.account_id, i.day), (i.key_id, i.period)) AS s(subject_id, period)
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT ON CONSTRAINT quota_counter_pkey DO UPDATE SET held_tokens = c.held_tokens + EXCLUDED.held_tokens;
    UPDATE quota_gate g
        SET in_flight = n.in_flight, requests_tat_us = n.requests_tat_us, tokens_tat_us = n.tokens_tat_us,
            fence = n.fence
        FROM unnest(v_gates) AS n WHERE g.account_id = n.account_id;
END
$$;

-- Records a batch of requests that Redis admitted, as reserve_v1 would have written them. The fence proves that Redis
-- knew everything; the limits that count tokens or requests at once are guarded here again, whatever Redis said. Where
-- either does not hold for one request, nothing of its account is written, and it is answered 'stale'.
CREATE FUNCTION record_v1(
    p_requests jsonb, p_granted_outputs bigint[], p_admitted_at timestamptz[], p_fences bigint[]
) RETURNS TABLE (
    request_id     uuid,
    outcome        text,
    granted_output bigint,
    admitted_at    timestamptz,
    period         text,
    book_id        text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c_minute_us CONSTANT bigint := 60000000;
BEGIN
    -- A statement of its own, so that the next one sees all that was written under the locks before.
    PERFORM FROM quota_gate g
    WHERE g.account_id IN (SELECT q.account_id FROM jsonb_to_recordset(p_requests) AS q(account_id uuid))
    ORDER BY g.account_id FOR UPDATE;

    RETURN QUERY
    WITH wanted AS (
        SELECT q.*,
            to_char(q.admitted_at AT TIME ZONE 'UTC', 'YYYY-MM') AS period,
            to_char(q.admitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
            (extract(epoch FROM q.admitted_at) * 1000000)::bigint AS admitted_us,
            q.input_tokens + q.choices * q.granted_output AS reserved_tokens
        FROM ROWS FROM (
            jsonb_to_recordset(p_requests) AS (
                request_id uuid, account_id uuid, key_id uuid, model text, endpoint text, stream boolean,
                end_user text, plan_id text, billable boolean, currency text, input_tokens bigint,
                choices bigint, deadline_s bigint, month_limit bigint, day_limit bigint, key_limit bigint,
                requests_per_minute bigint, tokens_per_minute bigint, concurrency bigint),
            unnest(p_granted_outputs, p_admitted_at, p_fences)
        ) AS q(
            request_id, account_id, key_id, model, endpoint, stream, end_user, plan_id, billable, currency, input_tokens,
            choices, deadline_s, month_limit, day_limit, key_limit, requests_per_minute, tokens_per_minute, concurrency,
            granted_output, admitted_at, fence)
    ),
    compared AS (
        SELECT w.*, r.book_id,
            g.fence <> w.fence
            OR g.in_flight + count(*) OVER (PARTITION BY w.account_id) > w.concurrency
            OR COALESCE(m.used_tokens + m.held_tokens, 0)
                + sum(w.reserved_tokens) OVER (PARTITION BY w.account_id, w.period) > w.month_limit
            OR COALESCE(d.used_tokens + d.held_tokens, 0)
                + sum(w.reserved_tokens) OVER (PARTITION BY w.account_id, w.day) > w.day_limit
            OR COALESCE(k.used_tokens + k.held_tokens, 0)
                + sum(w.reserved_tokens) OVER (PARTITION BY w.account_id, w.key_id, w.period) > w.key_limit
            AS is_beyond
        FROM wanted w
        JOIN quota_gate g ON g.account_id = w.account_id
        LEFT JOIN quota_counter m
            ON m.account_id = w.account_id AND m.subject_id = w.account_id AND m.period = w.period
        LEFT JOIN quota_counter d
            ON d.account_id = w.account_id AND d.subject_id = w.account_id AND d.period = w.day
        LEFT JOIN quota_counter k
            ON k.account_id = w.account_id AND k.subject_id = w.key_id AND k.period = w.period
        LEFT JOIN LATERAL (
            SELECT b.book_id FROM price_book b JOIN price_rate p ON p.book_id = b.book_id AND p.model = w.model
            WHERE b.currency = w.currency AND b.published_at IS NOT NULL
              AND b.effective_from <= w.admitted_at AND (b.effective_to IS NULL OR w.admitted_at < b.effective_to)
            LIMIT 1
        ) AS r ON true
    ),
    judged AS (
        SELECT c.*, i.output_tokens AS known_output, i.admitted_at AS known_at, i.period AS known_period,
            i.book_id AS known_book,
            CASE WHEN i.state = 'open' THEN 'repeated'
                WHEN i.state IS NOT NULL THEN 'ended'
                WHEN bool_or(c.is_beyond) OVER (PARTITION BY c.account_id) THEN 'stale'
                WHEN c.book_id IS NULL THEN 'price'
                ELSE 'recorded' END AS outcome
        FROM compared c LEFT JOIN request_intent i ON i.request_id = c.request_id
    ),
    written AS (
        INSERT INTO request_intent (
            request_id, account_id, key_id, model, endpoint, stream, end_user, plan_id, billable, currency, book_id,
            admitted_at, period, day, input_tokens, output_tokens, reserved_tokens, tokens_per_minute, deadline,
            heartbeat_at)
        SELECT j.request_id, j.account_id, j.key_id, j.model, j.endpoint, j.stream, j.end_user, j.plan_id, j.billable,
            j.currency, j.book_id, j.admitted_at, j.period, j.day, j.input_tokens, j.granted_output,
            j.reserved_tokens, j.tokens_per_minute, j.admitted_at + make_interval(secs => j.deadline_s),
            clock_timestamp()
        FROM judged j WHERE j.outcome = 'recorded'
    ),
    counted AS (
        INSERT INTO quota_counter AS q (account_id, subject_id, period, held_tokens)
        SELECT j.account_id, s.subject_id, s.period, sum(j.reserved_tokens)
        FROM judged j
        CROSS JOIN LATERAL (
            VALUES (j.account_id, j.period), (j.account_id, j.day), (j.key_id, j.period)
        ) AS s(subject_id, period)
        WHERE j.outcome = 'recorded'
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT ON CONSTRAINT quota_counter_pkey DO UPDATE SET held_tokens = q.held_tokens + EXCLUDED.held_tokens
    ),
    costs AS (
        SELECT j.account_id, j.admitted_us, j.request_id,
            ceil_div(c_minute_us, j.requests_per_minute) AS requests_us,
            ceil_div(c_minute_us * j.reserved_tokens, j.tokens_per_minute) AS tokens_us
        FROM judged j WHERE j.outcome = 'recorded'
    ),
    steps AS (
        -- GCRA for a batch: an arrival time is at least an admission's moment, its cost and the costs after it.
        SELECT c.account_id, c.requests_us, c.tokens_us,
            CASE WHEN c.requests_us IS NOT NULL THEN c.admitted_us + sum(c.requests_us) OVER later END AS requests_tat_us,
            CASE WHEN c.tokens_us IS NOT NULL THEN c.admitted_us + sum(c.tokens_us) OVER later END AS tokens_tat_us
        FROM costs c
        WINDOW later AS (PARTITION BY c.account_id ORDER BY c.admitted_us DESC, c.request_id DESC)
    ),
    passed AS (
        UPDATE quota_gate g
        SET in_flight = g.in_flight + n.requests,
            requests_tat_us = GREATEST(g.requests_tat_us + n.requests_us, n.requests_tat_us),
            tokens_tat_us = GREATEST(g.tokens_tat_us + n.tokens_us, n.tokens_tat_us)
        FROM (
            SELECT s.account_id, count(*) AS requests,
                COALESCE(sum(s.requests_us), 0) AS requests_us, max(s.requests_tat_us) AS requests_tat_us,
                COALESCE(sum(s.tokens_us), 0) AS tokens_us, max(s.tokens_tat_us) AS tokens_tat_us
            FROM steps s GROUP BY s.account_id
        ) AS n
        WHERE g.account_id = n.account_id
    )
    SELECT j.request_id, j.outcome, COALESCE(j.known_output, j.granted_output), COALESCE(j.known_at, j.admitted_at),
        COALESCE(j.known_period, j.period), COALESCE(j.known_book, j.book_id)
    FROM judged j;
END
$$;

-- Moves the fences of accounts on, and returns all that their limits follow from, as of one moment: nothing that was
-- admitted under an older fence can be recorded after it.
CREATE FUNCTION fence_v1(p_account_ids uuid[]) RETURNS TABLE (
    account_id      uuid,
    fence           bigint,
    requests_tat_us bigint,
    tokens_tat_us   bigint,
    counters        jsonb,
    holds           jsonb
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- Requests of the day before may still be in flight, and Redis' clock may be a little behind.
    v_day text := to_char((clock_timestamp() - interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD');
BEGIN
    -- A statement of its own, so that the next one sees all that was written under the locks before.
    PERFORM FROM quota_gate g WHERE g.account_id = ANY (p_account_ids) ORDER BY g.account_id FOR UPDATE;

    RETURN QUERY
    UPDATE quota_gate g SET fence = g.fence + 1 WHERE g.account_id = ANY (p_account_ids)
    RETURNING g.account_id, g.fence, g.requests_tat_us, g.tokens_tat_us,
        (SELECT jsonb_agg(jsonb_build_object('subject_id', c.subject_id, 'period', c.period,
                'used_tokens', c.used_tokens, 'held_tokens', c.held_tokens))
            FROM quota_counter c
            WHERE c.account_id = g.account_id
              AND c.period COLLATE "C" >= left(v_day, CASE length(c.period) WHEN 7 THEN 7 ELSE 10 END)),
        (SELECT jsonb_agg(jsonb_build_object('request_id', i.request_id, 'key_id', i.key_id, 'period', i.period,
                'day', i.day, 'granted_output', i.output_tokens, 'reserved_tokens', i.reserved_tokens,
                'admitted_at', i.admitted_at, 'tokens_per_minute', i.tokens_per_minute))
            FROM request_intent i WHERE i.account_id = g.account_id AND i.state = 'open');
END
$$;

-- ------------------------------------------------------------------ carrying the ledger to Stripe

-- Who an account is at Stripe. A customer that was deleted there is replaced by the next generation.
CREATE TABLE stripe_customer (
    account_id    uuid PRIMARY KEY,
    customer_id   text NOT NULL CHECK (length(customer_id) BETWEEN 1 AND 255),
    generation    integer NOT NULL DEFAULT 1 CHECK (generation >= 1),
    -- Nothing is sent for a parked account: Stripe does not know its customer any more.
    state         text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'parked')),
    parked_reason text,
    created_at    timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL,
    -- Serves the way from an event of Stripe's to the account.
    UNIQUE (customer_id)
);

-- Serves the list of parked accounts.
CREATE INDEX stripe_customer_parked ON stripe_customer (changed_at) WHERE state = 'parked';

-- All that has been frozen of an account in a subscription period (a UTC month): what is below Stripe's unit
-- is carried, cum_pico less frozen_units.
CREATE TABLE stripe_carry (
    account_id   uuid NOT NULL,
    currency     text NOT NULL CHECK (currency IN ('idr', 'usd')),
    period       text NOT NULL,
    cum_pico     numeric(38, 0) NOT NULL,
    frozen_units bigint NOT NULL,
    PRIMARY KEY (account_id, currency, period)
);

-- One meter event: the outbox rows of an account in one UTC hour, or those that came late to it. What it says to
-- Stripe is frozen before it is sent; a new generation says it again under a new identifier.
CREATE TABLE stripe_batch (
    batch_id         uuid PRIMARY KEY,
    account_id       uuid NOT NULL,
    currency         text NOT NULL CHECK (currency IN ('idr', 'usd')),
    period           text NOT NULL,
    window_start     timestamptz NOT NULL,
    entries          integer NOT NULL CHECK (entries > 0),
    amount_pico      numeric(38, 0) NOT NULL,
    -- Micro-dollars or milli-rupiah; negative where corrections outweigh usage.
    value            bigint NOT NULL,
    event_name       text NOT NULL,
    event_at         timestamptz NOT NULL,
    customer_id      text NOT NULL,
    generation       integer NOT NULL DEFAULT 1 CHECK (generation >= 1),
    identifier       text NOT NULL CHECK (length(identifier) <= 100),
    idempotency_key  text NOT NULL CHECK (length(idempotency_key) <= 255),
    payload_sha256   bytea NOT NULL CHECK (length(payload_sha256) = 32),
    state            text NOT NULL CHECK (
        state IN ('empty', 'waiting', 'sending', 'accepted', 'confirmed', 'unproven', 'dead')),
    attempts         integer NOT NULL DEFAULT 0,
    -- When the first attempt began whose effect is not known; an answer that proves "nothing happened" clears it.
    first_attempt_at timestamptz,
    last_attempt_at  timestamptz,
    next_attempt_at  timestamptz NOT NULL,
    lease_until      timestamptz,
    last_error       text,
    last_status      integer,
    last_request_id  text,
    frozen_at        timestamptz NOT NULL,
    accepted_at      timestamptz,
    confirmed_at     timestamptz,
    UNIQUE (identifier)
);

-- Serves the claiming of what is due.
CREATE INDEX stripe_batch_due ON stripe_batch (next_attempt_at) WHERE state = 'waiting';

-- Serves the finding of leases whose worker died.
CREATE INDEX stripe_batch_leased ON stripe_batch (lease_until) WHERE state = 'sending';

-- Serves reconciling: what is to be proved, hour by hour.
CREATE INDEX stripe_batch_unproved ON stripe_batch (account_id, currency, window_start)
    WHERE state IN ('accepted', 'unproven');

-- Serves the comparison of one hour or one period with Stripe.
CREATE INDEX stripe_batch_window ON stripe_batch (account_id, currency, window_start);

-- Serves what an operator asks: the oldest that is not at Stripe, and what is in trouble.
CREATE INDEX stripe_batch_open ON stripe_batch (window_start)
    WHERE state IN ('waiting', 'sending', 'unproven', 'dead');

-- What somebody decided about a batch: which generation was given up, why, and by whom.
CREATE TABLE stripe_batch_decision (
    batch_id    uuid NOT NULL,
    decided_at  timestamptz NOT NULL,
    generation  integer NOT NULL,
    identifier  text NOT NULL,
    customer_id text NOT NULL,
    state_from  text NOT NULL,
    state_to    text NOT NULL,
    reason      text NOT NULL,
    actor       text NOT NULL
);

-- Serves the history of one batch.
CREATE INDEX stripe_batch_decision_batch ON stripe_batch_decision (batch_id, decided_at);

-- Where Stripe and the ledger differed: of an hour in a meter's summary, or of a month on an invoice.
CREATE TABLE reconcile_finding (
    finding_id    uuid PRIMARY KEY,
    account_id    uuid NOT NULL,
    currency      text NOT NULL,
    customer_id   text NOT NULL,
    source        text NOT NULL CHECK (source IN ('summary', 'invoice')),
    kind          text NOT NULL CHECK (kind IN ('missing', 'surplus', 'unclear')),
    window_start  timestamptz NOT NULL,
    expected      bigint NOT NULL,
    found         bigint NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    resolved_at   timestamptz,
    resolution    text
);

-- Serves the look whether a difference was seen before; there is one open finding of a kind of place.
CREATE UNIQUE INDEX reconcile_finding_open
    ON reconcile_finding (account_id, currency, customer_id, source, window_start) WHERE resolved_at IS NULL;

-- Serves the list of findings, newest first.
CREATE INDEX reconcile_finding_seen ON reconcile_finding (last_seen_at);

-- When an account was last compared with Stripe, so that everybody has a turn.
CREATE TABLE reconcile_turn (
    account_id  uuid PRIMARY KEY,
    compared_at timestamptz NOT NULL
);

-- How one generation of a batch is called at Stripe; its meter events are unique by it for 24 hours at least.
CREATE FUNCTION stripe_identifier(p_batch_id uuid, p_generation integer) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT 'ng1:' || replace(p_batch_id::text, '-', '') || ':' || p_generation $$;

-- The digest of what a batch says: event name, identifier, Unix second, customer and value, one a line.
CREATE FUNCTION stripe_payload_sha256(
    p_event_name text, p_identifier text, p_event_at timestamptz, p_customer_id text, p_value bigint
) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(
        p_event_name || E'\n' || p_identifier || E'\n' || extract(epoch FROM p_event_at)::bigint || E'\n'
            || p_customer_id || E'\n' || p_value, 'UTF8'))
$$;

CREATE TRIGGER stripe_batch_decision_append_only BEFORE UPDATE OR DELETE ON stripe_batch_decision
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- What a batch says to Stripe never changes within a generation, and a batch is never deleted.
CREATE FUNCTION guard_stripe_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a batch is never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.batch_id, NEW.account_id, NEW.currency, NEW.period, NEW.window_start, NEW.entries, NEW.amount_pico,
            NEW.value, NEW.event_name, NEW.event_at)
        IS DISTINCT FROM (OLD.batch_id, OLD.account_id, OLD.currency, OLD.period, OLD.window_start, OLD.entries,
            OLD.amount_pico, OLD.value, OLD.event_name, OLD.event_at)
        OR NEW.generation < OLD.generation
        OR (NEW.generation = OLD.generation
            AND (NEW.customer_id, NEW.identifier, NEW.idempotency_key, NEW.payload_sha256)
                IS DISTINCT FROM (OLD.customer_id, OLD.identifier, OLD.idempotency_key, OLD.payload_sha256)) THEN
        RAISE EXCEPTION 'what batch % says to Stripe is frozen', OLD.batch_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER stripe_batch_frozen BEFORE UPDATE OR DELETE ON stripe_batch
    FOR EACH ROW EXECUTE FUNCTION guard_stripe_batch();

-- What the usage of a month costs now, corrections included, and what it would cost by another price book of its
-- currency; null where that book does not know the model. All models and accounts where none is named.
CREATE FUNCTION repriced_entries(p_book_id text, p_period text, p_model text, p_account_id uuid) RETURNS TABLE (
    entry_id    uuid,
    occurred_at timestamptz,
    account_id  uuid,
    model       text,
    corrections integer,
    amount_now  bigint,
    amount_new  bigint
) LANGUAGE sql STABLE AS $$
    WITH rate AS MATERIALIZED (
        SELECT b.model, c.class, COALESCE(own.micro_per_mtok, base.micro_per_mtok) AS micro_per_mtok
        FROM (SELECT DISTINCT r.model FROM price_rate r WHERE r.book_id = p_book_id) b
        CROSS JOIN (VALUES ('input_text', 'input_text'), ('input_cached', 'input_text'), ('input_audio', 'input_text'),
            ('output_text', 'output_text'), ('output_reasoning', 'output_text'), ('output_audio', 'output_text')
        ) AS c(class, base_class)
        LEFT JOIN price_rate own ON own.book_id = p_book_id AND own.model = b.model AND own.token_class = c.class
        LEFT JOIN price_rate base ON base.book_id = p_book_id AND base.model = b.model AND base.token_class = c.base_class
    ),
    rates AS MATERIALIZED (
        SELECT rate.model,
            max(rate.micro_per_mtok) FILTER (WHERE rate.class = 'input_text') AS input_text,
            max(rate.micro_per_mtok) FILTER (WHERE rate.class = 'input_cached') AS input_cached,
            max(rate.micro_per_mtok) FILTER (WHERE rate.class = 'input_audio') AS input_audio,
            max(rate.micro_per_mtok) FILTER (WHERE rate.class = 'output_text') AS output_text,
            max(rate.micro_per_mtok) FILTER (WHERE rate.class = 'output_reasoning') AS output_reasoning,
            max(rate.micro_per_mtok) FILTER (WHERE rate.class = 'output_audio') AS output_audio
        FROM rate GROUP BY rate.model
    )
    SELECT e.entry_id, e.occurred_at, e.account_id, e.model, c.corrections, (e.amount_pico + c.amount_pico)::bigint,
        e.input_text_tokens * r.input_text + e.input_cached_tokens * r.input_cached
            + e.input_audio_tokens * r.input_audio + e.output_text_tokens * r.output_text
            + e.output_reasoning_tokens * r.output_reasoning + e.output_audio_tokens * r.output_audio
    FROM ledger_entry e
    LEFT JOIN rates r ON r.model = e.model
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS corrections, COALESCE(sum(k.amount_pico), 0) AS amount_pico FROM ledger_entry k
        WHERE k.request_id = e.request_id AND k.kind <> 'usage' AND k.reverses_entry_id = e.entry_id
    ) c
    WHERE e.kind = 'usage' AND e.period = p_period
        AND e.occurred_at >= (p_period || '-01')::timestamp AT TIME ZONE 'UTC'
        AND e.occurred_at < ((p_period || '-01')::timestamp + interval '1 month') AT TIME ZONE 'UTC'
        AND e.currency = (SELECT b.currency FROM price_book b WHERE b.book_id = p_book_id)
        AND (p_model IS NULL OR e.model = p_model) AND (p_account_id IS NULL OR e.account_id = p_account_id)
$$;

-- ------------------------------------------------------------------ what accounts buy: plans, subscriptions, invoices

-- The prices that `nusagate stripe setup` made: what a plan costs in a currency. A price never changes at Stripe, so
-- another amount is another row, and who bought at the old one is still known by it.
CREATE TABLE stripe_price (
    price_id            text PRIMARY KEY,
    lookup_key          text NOT NULL UNIQUE,
    plan_id             text NOT NULL,
    currency            text NOT NULL CHECK (currency IN ('idr', 'usd')),
    kind                text NOT NULL CHECK (kind IN ('flat', 'metered')),
    -- Minor units for a month, or for one unit of the meter; decimal text, as Stripe writes it.
    unit_amount_decimal text NOT NULL,
    created_at          timestamptz NOT NULL
);

-- Checkout sessions, so that an account has one open at most and a payment is known by what it was for.
CREATE TABLE checkout_session (
    session_id   text PRIMARY KEY,
    account_id   uuid NOT NULL,
    purpose      text NOT NULL CHECK (purpose IN ('plan', 'credit')),
    plan_id      text,
    amount_minor bigint CHECK (amount_minor > 0),
    currency     text NOT NULL CHECK (currency IN ('idr', 'usd')),
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'expired')),
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    CHECK ((purpose = 'plan') = (plan_id IS NOT NULL)),
    CHECK ((purpose = 'credit') = (amount_minor IS NOT NULL))
);

-- Serves the closing of an account's other sessions when one is opened.
CREATE INDEX checkout_session_open ON checkout_session (account_id) WHERE state = 'open';

-- Subscriptions as Stripe last told them; every row can be fetched again.
CREATE TABLE stripe_subscription (
    subscription_id text PRIMARY KEY,
    account_id      uuid NOT NULL,
    customer_id     text NOT NULL,
    status          text NOT NULL,
    -- The plan of its prices; null where none of them is ours.
    plan_id         text,
    flat_item_id    text,
    metered_item_id text,
    started_at      timestamptz NOT NULL,
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    cancel_at       timestamptz,
    ended_at        timestamptz,
    -- When the oldest invoice was finalized that could not be collected.
    owed_since      timestamptz,
    -- A dearer plan that is paid until a moment, although the next invoice is for plan_id.
    held_plan_id    text,
    held_until      timestamptz,
    -- When Stripe was asked; an older answer never replaces a newer one.
    asked_at        timestamptz NOT NULL
);

-- Serves the entitlement of an account.
CREATE INDEX stripe_subscription_account ON stripe_subscription (account_id);

-- What subscriptions and payments entitle an account to, as it was last applied.
CREATE TABLE account_entitlement (
    account_id uuid PRIMARY KEY,
    plan_id    text NOT NULL,
    status     text NOT NULL CHECK (status IN ('active', 'payment_required')),
    notice     text,
    notice_at  timestamptz,
    -- When time alone changes it.
    review_at  timestamptz,
    changed_at timestamptz NOT NULL
);

-- Serves the review of what time has changed.
CREATE INDEX account_entitlement_review ON account_entitlement (review_at) WHERE review_at IS NOT NULL;

-- Payments that a bank questions.
CREATE TABLE stripe_dispute (
    dispute_id   text PRIMARY KEY,
    account_id   uuid NOT NULL,
    charge_id    text NOT NULL,
    amount_minor bigint NOT NULL,
    currency     text NOT NULL,
    reason       text NOT NULL,
    status       text NOT NULL,
    created_at   timestamptz NOT NULL,
    due_by       timestamptz,
    asked_at     timestamptz NOT NULL
);

-- Serves the entitlement of an account.
CREATE INDEX stripe_dispute_account ON stripe_dispute (account_id);

-- Every event that Stripe sent and signed, once; the work it asks for is done from here.
CREATE TABLE webhook_event (
    event_id     text PRIMARY KEY CHECK (length(event_id) <= 255),
    form         text NOT NULL CHECK (form IN ('snapshot', 'thin')),
    type         text NOT NULL CHECK (length(type) <= 255),
    -- What the event is about; null where the type asks for nothing.
    subject_kind text,
    subject_id   text,
    created_at   timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    payload      json NOT NULL,
    state        text NOT NULL CHECK (state IN ('waiting', 'done', 'ignored', 'failed')),
    attempts     integer NOT NULL DEFAULT 0,
    due_at       timestamptz NOT NULL,
    outcome      text,
    ended_at     timestamptz
);

-- Serves the taking of what is due.
CREATE INDEX webhook_event_due ON webhook_event (due_at) WHERE state = 'waiting';

-- Serves the list of what failed.
CREATE INDEX webhook_event_failed ON webhook_event (received_at) WHERE state = 'failed';

-- Serves the deletion of old rows.
CREATE INDEX webhook_event_received ON webhook_event (received_at);

-- Invoices as Stripe last told them, for pages; amounts in Stripe's minor units.
CREATE TABLE stripe_invoice (
    invoice_id       text PRIMARY KEY,
    account_id       uuid NOT NULL,
    customer_id      text NOT NULL,
    subscription_id  text,
    number           text,
    status           text NOT NULL,
    billing_reason   text,
    currency         text NOT NULL,
    period_start     timestamptz NOT NULL,
    period_end       timestamptz NOT NULL,
    total            bigint NOT NULL,
    amount_due       bigint NOT NULL,
    amount_paid      bigint NOT NULL,
    amount_remaining bigint NOT NULL,
    attempt_count    integer NOT NULL,
    next_attempt_at  timestamptz,
    created_at       timestamptz NOT NULL,
    finalized_at     timestamptz,
    paid_at          timestamptz,
    hosted_url       text,
    pdf_url          text,
    lines            jsonb NOT NULL,
    asked_at         timestamptz NOT NULL
);

-- Serves the list of an account's invoices, newest first.
CREATE INDEX stripe_invoice_account ON stripe_invoice (account_id, created_at);

-- Serves the list of all invoices, newest first.
CREATE INDEX stripe_invoice_created ON stripe_invoice (created_at);

-- How far a month is on its way to being history.
CREATE TABLE billing_period (
    period        text PRIMARY KEY CHECK (period ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    state         text NOT NULL CHECK (state IN ('open', 'closing', 'reconciled', 'closed')),
    changed_at    timestamptz NOT NULL,
    closed_at     timestamptz,
    -- What the month came to when it was closed: the number of entries and the digest of its totals.
    entries       bigint,
    totals_sha256 text,
    CHECK ((state = 'closed') = (closed_at IS NOT NULL AND entries IS NOT NULL AND totals_sha256 IS NOT NULL))
);

-- A closed month takes no entry: what is put right later belongs to the month in which it is put right.
CREATE FUNCTION guard_closed_period() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM billing_period p WHERE p.state = 'closed' AND p.period IN (SELECT w.period FROM written w)
    ) THEN
        RAISE EXCEPTION 'a closed month takes no entry; adjustments belong to the current month'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER ledger_entry_closed_period AFTER INSERT ON ledger_entry REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION guard_closed_period();

-- A month that was closed stays what it was.
CREATE FUNCTION guard_billing_period() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'closed' THEN
        RAISE EXCEPTION 'the month % is closed', OLD.period USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN COALESCE(NEW, OLD);
END
$$;

CREATE TRIGGER billing_period_final BEFORE UPDATE OR DELETE ON billing_period
    FOR EACH ROW EXECUTE FUNCTION guard_billing_period();

-- ------------------------------------------------------------------ what accounts may spend

-- How much of a month's amount is paid by use, so that caps and credit know what is spent.
ALTER TABLE account_period_total ADD COLUMN billable_pico numeric(38, 0) NOT NULL DEFAULT 0;

-- What an account's owner wants to spend in a month at most, in tokens, in money, or both.
CREATE TABLE spend_cap (
    account_id     uuid PRIMARY KEY REFERENCES account,
    monthly_tokens bigint CHECK (monthly_tokens >= 0),
    monthly_micro  bigint CHECK (monthly_micro >= 0),
    changed_at     timestamptz NOT NULL,
    CHECK (monthly_tokens IS NOT NULL OR monthly_micro IS NOT NULL)
);

-- What admission makes of caps and credit: so many tokens in one month, and so many in any other, because money that
-- is left is worth so many tokens at the highest price.
CREATE TABLE spend_guard (
    account_id    uuid PRIMARY KEY REFERENCES account,
    period        text NOT NULL,
    period_tokens bigint NOT NULL CHECK (period_tokens >= 0),
    other_tokens  bigint NOT NULL CHECK (other_tokens >= 0),
    changed_at    timestamptz NOT NULL
);

CREATE FUNCTION announce_spend_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('nusagate_changed', 'account:' || COALESCE(NEW.account_id, OLD.account_id));
    RETURN NULL;
END
$$;

CREATE TRIGGER spend_guard_changed AFTER INSERT OR UPDATE OR DELETE ON spend_guard
    FOR EACH ROW EXECUTE FUNCTION announce_spend_guard();

-- The alerts that were sent, so that each is sent once a month.
CREATE TABLE spend_alert (
    account_id uuid NOT NULL,
    period     text NOT NULL,
    subject    text NOT NULL CHECK (subject IN ('tokens', 'money', 'plan')),
    percent    integer NOT NULL CHECK (percent IN (50, 80, 100)),
    sent_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, period, subject, percent)
);

-- At which percents of a limit there is mail; an account without a row gets it at each.
CREATE TABLE alert_choice (
    account_id uuid PRIMARY KEY REFERENCES account,
    percents   integer[] NOT NULL CHECK (percents <@ ARRAY[50, 80, 100]),
    changed_at timestamptz NOT NULL
);

-- ------------------------------------------------------------------ prepaid credit

-- Money paid in advance, in double entry: what one account has more, another has less. A balance has an
-- owner; the other accounts are ours and say where money came from and where it went.
CREATE TABLE credit_account (
    credit_account_id uuid PRIMARY KEY,
    owner_id          uuid REFERENCES account,
    kind              text NOT NULL CHECK (kind IN ('balance', 'paid_in', 'granted', 'used', 'taken_back')),
    currency          text NOT NULL CHECK (currency IN ('idr', 'usd')),
    CHECK ((kind = 'balance') = (owner_id IS NOT NULL))
);

-- Serves the finding of an account's balance; it has one.
CREATE UNIQUE INDEX credit_account_owner ON credit_account (owner_id) WHERE owner_id IS NOT NULL;

-- Serves the finding of our own side; there is one of a kind and currency.
CREATE UNIQUE INDEX credit_account_ours ON credit_account (kind, currency) WHERE owner_id IS NULL;

CREATE TABLE credit_entry (
    -- The same for all entries of one transfer; what caused it names it, so that it happens once.
    transfer_key      text NOT NULL CHECK (length(transfer_key) <= 255),
    credit_account_id uuid NOT NULL REFERENCES credit_account,
    amount_pico       numeric(38, 0) NOT NULL CHECK (amount_pico <> 0),
    reason            text NOT NULL,
    actor             text NOT NULL,
    created_at        timestamptz NOT NULL,
    PRIMARY KEY (transfer_key, credit_account_id)
);

-- Serves the balance and the history of a credit account.
CREATE INDEX credit_entry_account ON credit_entry (credit_account_id, created_at);

-- How much of a month's usage was paid from credit: usage that was looked at, what of it waits to be written into the
-- journal, and what is written.
CREATE TABLE credit_usage (
    account_id   uuid NOT NULL REFERENCES account,
    period       text NOT NULL,
    seen_pico    numeric(38, 0) NOT NULL,
    pending_pico numeric(38, 0) NOT NULL DEFAULT 0,
    drawn_pico   numeric(38, 0) NOT NULL DEFAULT 0,
    posted_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, period)
);

CREATE TRIGGER credit_entry_append_only BEFORE UPDATE OR DELETE ON credit_entry
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- No money comes out of nothing: the entries of a transfer sum to zero, in one currency.
CREATE FUNCTION guard_credit_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(e.amount_pico) <> 0 OR count(DISTINCT a.currency) <> 1
        FROM credit_entry e JOIN credit_account a USING (credit_account_id)
        WHERE e.transfer_key = NEW.transfer_key) THEN
        RAISE EXCEPTION 'the transfer % does not sum to zero', NEW.transfer_key USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER credit_entry_zero_sum AFTER INSERT ON credit_entry DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION guard_credit_transfer();

-- What an account has left of its credit: the journal, less what it used in these months and the journal does not know.
-- Null without credit.
CREATE FUNCTION credit_left(p_account_id uuid, p_months text[]) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT (SELECT COALESCE(sum(e.amount_pico), 0) FROM credit_entry e WHERE e.credit_account_id = b.credit_account_id)
        - (SELECT COALESCE(sum(COALESCE(u.pending_pico, 0) + COALESCE(t.billable_pico, 0) - COALESCE(u.seen_pico, 0)), 0)
           FROM unnest(p_months) AS m(period)
           LEFT JOIN credit_usage u ON u.account_id = b.owner_id AND u.period = m.period
           LEFT JOIN account_period_total t
               ON t.account_id = b.owner_id AND t.period = m.period AND t.currency = b.currency)
    FROM credit_account b WHERE b.owner_id = p_account_id
$$;

-- Whether a subscription pays for what an account uses.
CREATE FUNCTION is_subscribed(p_account_id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM stripe_subscription s
        WHERE s.account_id = p_account_id AND s.plan_id IS NOT NULL
            AND s.status IN ('active', 'trialing', 'past_due', 'unpaid'))
$$;

-- ------------------------------------------------------------------ what operators did

-- Kept for good, in the transaction of the thing that was done. What was before and after holds no secret.
CREATE TABLE audit_event (
    audit_id    uuid PRIMARY KEY,
    happened_at timestamptz NOT NULL,
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    -- What it was done to and what was done: 'credit:grant'.
    action      text NOT NULL CHECK (action ~ '^[a-z_]{1,40}:[a-z_]{1,40}$'),
    source      text NOT NULL CHECK (source IN ('cli', 'portal', 'worker')),
    account_id  uuid,
    object_id   text CHECK (length(object_id) <= 300),
    reason      text CHECK (length(reason) <= 1000),
    before      jsonb,
    after       jsonb
);

-- Serves the list of what was done, newest first.
CREATE INDEX audit_event_happened ON audit_event (happened_at);

-- Serves the list of what was done to one account.
CREATE INDEX audit_event_account ON audit_event (account_id, happened_at);

CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ------------------------------------------------------------------ taking back what Stripe counted too much

-- One attempt to take back a surplus: by cancelling an event, by one of the opposite value, or by credit. What it says to
-- Stripe is frozen before it is said.
CREATE TABLE stripe_correction (
    correction_id    uuid PRIMARY KEY,
    finding_id       uuid NOT NULL REFERENCES reconcile_finding,
    account_id       uuid NOT NULL,
    currency         text NOT NULL CHECK (currency IN ('idr', 'usd')),
    customer_id      text NOT NULL,
    source           text NOT NULL CHECK (source IN ('summary', 'invoice')),
    window_start     timestamptz NOT NULL,
    -- The surplus, in the units of the meter.
    units            bigint NOT NULL CHECK (units > 0),
    way              text NOT NULL CHECK (way IN ('cancel', 'event', 'credit')),
    -- The event that is cancelled, or the one that is sent.
    identifier       text CHECK (length(identifier) <= 100),
    event_at         timestamptz,
    credit_minor     bigint CHECK (credit_minor >= 0),
    idempotency_key  text NOT NULL UNIQUE CHECK (length(idempotency_key) <= 255),
    reason           text NOT NULL,
    actor            text NOT NULL,
    created_at       timestamptz NOT NULL,
    state            text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
    first_attempt_at timestamptz,
    last_attempt_at  timestamptz,
    last_error       text,
    -- The adjustment in the ledger that says so.
    entry_id         uuid,
    ended_at         timestamptz,
    CHECK ((way = 'credit') = (credit_minor IS NOT NULL) AND (way = 'credit') = (identifier IS NULL)),
    CHECK ((way = 'event') = (event_at IS NOT NULL)),
    CHECK ((state = 'done') = (entry_id IS NOT NULL))
);

-- Serves the look at what was tried for a finding.
CREATE INDEX stripe_correction_finding ON stripe_correction (finding_id, created_at);

-- Serves the freezing of a correction: one of a finding is under way at most.
CREATE UNIQUE INDEX stripe_correction_open ON stripe_correction (finding_id) WHERE state = 'waiting';

-- Serves the comparison of an hour or a month with what was made good by credit.
CREATE INDEX stripe_correction_credit ON stripe_correction (account_id, currency, window_start)
    WHERE way = 'credit' AND state = 'done';

CREATE FUNCTION guard_stripe_correction() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state <> 'waiting'
        OR (NEW.correction_id, NEW.finding_id, NEW.account_id, NEW.currency, NEW.customer_id, NEW.source,
            NEW.window_start, NEW.units, NEW.way, NEW.identifier, NEW.event_at, NEW.credit_minor, NEW.idempotency_key,
            NEW.reason, NEW.actor, NEW.created_at)
        IS DISTINCT FROM (OLD.correction_id, OLD.finding_id, OLD.account_id, OLD.currency, OLD.customer_id, OLD.source,
            OLD.window_start, OLD.units, OLD.way, OLD.identifier, OLD.event_at, OLD.credit_minor, OLD.idempotency_key,
            OLD.reason, OLD.actor, OLD.created_at) THEN
        RAISE EXCEPTION 'what correction % says to Stripe is frozen', OLD.correction_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER stripe_correction_frozen BEFORE UPDATE OR DELETE ON stripe_correction
    FOR EACH ROW EXECUTE FUNCTION guard_stripe_correction();

-- ------------------------------------------------------------------ what subscriptions pay

-- Which flat price a subscription pays, and which it has paid for that is held: whoever bought at an old one owes the
-- difference to that. Null until Stripe is asked again, and where there is none.
ALTER TABLE stripe_subscription
    ADD COLUMN flat_price_id text,
    ADD COLUMN held_price_id text;
