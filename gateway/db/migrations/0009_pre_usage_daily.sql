-- A year of usage is read from days that are over, and only the last hours from hours.

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
