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
