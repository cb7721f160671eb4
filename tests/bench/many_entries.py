"""A ledger of a year and many accounts, written inside the database, with read models that add up to it.

Accounts differ as they do in life: the first has a fifth of everything, the next half as much, and so on. Whatever
is written satisfies ``nusagate ledger verify``.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from tests.plugins.days import close_until

YEAR = timedelta(days=365)
MONTHS = 13
SLOTS = 1_000
MORE_KEYS = 7
ACCOUNTS_WITH_MORE_KEYS = 8
CHUNK = 250_000
STATEMENT_TIMEOUT_S = 600

KEYS = """
INSERT INTO api_key (key_id, account_id, name, prefix, last4, digest, pepper_version, created_at)
SELECT uuidv7(), a, 'service ' || n, 'nsk_live_bnch', lpad(n::text, 4, '0'), sha256((a::text || n)::bytea), 1, $2
FROM unnest($1::uuid[]) a, generate_series(1, $3::int) n
"""

SLOTS_TABLE = """
CREATE TEMPORARY TABLE slot AS
WITH weighted AS (
    SELECT a AS account_id, n, sum(1.0 / n) OVER (ORDER BY n) / sum(1.0 / n) OVER () AS upto
    FROM unnest($1::uuid[]) WITH ORDINALITY AS a(a, n)
)
SELECT s, w.account_id, t.plan_id,
    (SELECT array_agg(key_id ORDER BY created_at, key_id) FROM api_key k WHERE k.account_id = w.account_id) AS keys
FROM generate_series(1, $2::int) s
CROSS JOIN LATERAL (SELECT * FROM weighted WHERE upto >= s::numeric / $2 ORDER BY upto LIMIT 1) w
JOIN account t USING (account_id)
"""

ENTRIES = """
INSERT INTO ledger_entry (
    entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model, endpoint, upstream, end_user,
    plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
    output_reasoning_tokens, output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable,
    usage_source, end_reason, duration_ms, first_byte_ms)
SELECT uuidv7(d.at - clock_timestamp()), uuidv7(d.at - clock_timestamp()), 'usage', d.at,
    d.at + make_interval(secs => d.took_ms / 1000.0), d.account_id, d.key_id, d.model, 'responses', 'fixed', d.end_user, d.plan_id, to_char(d.at AT TIME ZONE 'UTC', 'YYYY-MM'),
    d.fresh, d.cached, 0, d.written, 0, 0, d.fresh + d.cached + d.written, 'idr', i.book_id,
    (d.fresh + d.cached) * i.micro_per_mtok + d.written * o.micro_per_mtok, false, d.source, d.end_reason,
    d.took_ms, d.took_ms / 5
FROM (
    SELECT $3::timestamptz + g * $4::interval AS at, s.account_id, s.plan_id,
        s.keys[1 + floor(a * a * cardinality(s.keys))::int] AS key_id,
        CASE WHEN b < 0.8 THEN 'nusantara-base' ELSE 'smollm2-135m' END AS model,
        CASE WHEN c < 0.2 THEN 'visitor ' || floor(c * 250)::int END AS end_user,
        CASE WHEN d < 0.96 THEN 'completed' WHEN d < 0.99 THEN 'incomplete' ELSE 'client_gone_cancelled' END AS end_reason,
        CASE WHEN d < 0.99 THEN 'upstream' ELSE 'estimated' END AS source,
        floor(e * 800)::bigint AS fresh, floor(c * 50)::bigint AS cached, floor(a * 400)::bigint AS written,
        200 + floor(b * 4000)::int AS took_ms
    FROM (
        SELECT g, 1 + floor(random() * $5)::int AS s, random() AS a, random() AS b, random() AS c, random() AS d,
            random() AS e
        FROM generate_series($1::bigint, $2::bigint) g
    ) AS r JOIN slot s USING (s)
) AS d
JOIN price_rate i ON i.book_id = 'idr-1' AND i.model = d.model AND i.token_class = 'input_text'
JOIN price_rate o ON o.book_id = 'idr-1' AND o.model = d.model AND o.token_class = 'output_text'
"""

READ_MODELS = (
    """
    INSERT INTO usage_hourly
    SELECT account_id, date_trunc('hour', occurred_at, 'UTC'), key_id, model, end_reason, currency, count(*),
        sum(input_text_tokens + input_cached_tokens), sum(input_cached_tokens), sum(output_text_tokens), 0,
        sum(amount_pico)
    FROM ledger_entry GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2
    ON CONFLICT (account_id, hour, key_id, model, end_reason, currency) DO UPDATE SET
        requests = EXCLUDED.requests, input_tokens = EXCLUDED.input_tokens,
        input_cached_tokens = EXCLUDED.input_cached_tokens, output_tokens = EXCLUDED.output_tokens,
        amount_pico = EXCLUDED.amount_pico
    """,
    """
    INSERT INTO usage_user_daily
    SELECT account_id, (occurred_at AT TIME ZONE 'UTC')::date, end_user, currency, count(*),
        sum(input_text_tokens + input_cached_tokens), sum(output_text_tokens), sum(amount_pico)
    FROM ledger_entry WHERE end_user IS NOT NULL GROUP BY 1, 2, 3, 4
    """,
    """
    INSERT INTO account_period_total
    SELECT account_id, period, currency, count(*), sum(input_text_tokens + input_cached_tokens),
        sum(output_text_tokens), sum(quota_tokens), sum(amount_pico),
        COALESCE(sum(amount_pico) FILTER (WHERE billable), 0)
    FROM ledger_entry GROUP BY 1, 2, 3
    ON CONFLICT (account_id, period, currency) DO UPDATE SET
        requests = EXCLUDED.requests, input_tokens = EXCLUDED.input_tokens, output_tokens = EXCLUDED.output_tokens,
        quota_tokens = EXCLUDED.quota_tokens, amount_pico = EXCLUDED.amount_pico, billable_pico = EXCLUDED.billable_pico
    """,
    """
    INSERT INTO quota_counter AS q (account_id, subject_id, period, used_tokens)
    SELECT e.account_id, s.subject_id, s.period, sum(e.quota_tokens)
    FROM ledger_entry e
    CROSS JOIN LATERAL (
        VALUES (e.account_id, e.period), (e.key_id, e.period),
            (e.account_id, to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
    ) AS s(subject_id, period)
    WHERE e.occurred_at >= date_trunc('month', now(), 'UTC')
        AND (length(s.period) = 7 OR s.period = to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
    GROUP BY 1, 2, 3
    ON CONFLICT (account_id, subject_id, period) DO UPDATE SET used_tokens = EXCLUDED.used_tokens
    """,
    """
    INSERT INTO refusal_hourly
    SELECT s.account_id, h, s.keys[1], r, 1 + (random() * 20)::int
    FROM (SELECT DISTINCT account_id, keys FROM slot) s,
        generate_series(date_trunc('hour', now()) - interval '60 days', now(), interval '1 hour') h,
        unnest(ARRAY['requests_per_minute', 'tokens_per_minute', 'invalid_value']) r
    """,
)


async def fill(database_url: str, accounts: Sequence[UUID], *, entries: int, end: datetime) -> None:
    """Write so many entries over the year before ``end``; the first account gets most of them.

    Read models are made anew from the whole ledger, so requests may have been settled before; end users may not.
    """
    connection = await asyncpg.connect(database_url, command_timeout=STATEMENT_TIMEOUT_S)
    try:
        await connection.execute(
            "SET synchronous_commit = off; SET work_mem = '512MB'; SET lock_timeout = 0; SET statement_timeout = 0"
        )
        start = end - YEAR
        await connection.execute("SELECT ensure_ledger_partitions($1, $2)", start, MONTHS)
        await connection.execute(KEYS, accounts[:ACCOUNTS_WITH_MORE_KEYS], start, MORE_KEYS)
        await connection.execute(SLOTS_TABLE, accounts, SLOTS)
        await connection.execute("ANALYZE slot")
        for first in range(1, entries + 1, CHUNK):
            last = min(entries, first + CHUNK - 1)
            await connection.execute(ENTRIES, first, last, start, YEAR / (entries + 1), SLOTS)
        for statement in READ_MODELS:
            await connection.execute(statement)
        await connection.execute("VACUUM (ANALYZE)")
        # The last day that is over, as the worker has it some hours later.
        await close_until(connection, (end - timedelta(days=1)).date())
        await connection.execute("VACUUM (ANALYZE) usage_daily")
    finally:
        await connection.close()
