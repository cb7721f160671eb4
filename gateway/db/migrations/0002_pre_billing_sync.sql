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
