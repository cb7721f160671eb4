-- What Stripe counted too much is taken back by a correction that is frozen before it is sent.

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
