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
    subject    text NOT NULL CHECK (subject IN ('tokens', 'money')),
    percent    integer NOT NULL CHECK (percent IN (50, 80, 100)),
    sent_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, period, subject, percent)
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
