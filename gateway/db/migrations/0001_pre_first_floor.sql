-- The first floor: plans, prices, accounts, keys, limits, intents, the ledger and its read models.

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
