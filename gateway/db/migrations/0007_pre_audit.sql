-- What operators do is kept for good, in the transaction in which they do it.

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
