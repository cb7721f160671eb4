"""The pages of usage: the same numbers everywhere, an address for every view, and each request's own account."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from admin.portal.usage.requests import PAGE_SIZE
from gateway.ids import request_label, uuid7
from gateway.keys import service as keys
from gateway.metering.sweeper import FLAW as SWEPT
from tests.http.asking import CHAT, RESPONSES, ask, bearer
from tests.plugins.cast import PEPPERS, MovableClock
from tests.plugins.portal import Portal, portal_settings, text_of

SARI = "sari@example.com"
MARCH = "range=custom&start=2026-03-01&end=2026-03-02"
NUMBERS = ("requests", "input_tokens", "output_tokens", "total_tokens")


@pytest.fixture
async def sari_inside(portal):
    return await portal.browser().join(SARI)


async def account_of(portal):
    return await portal.db.fetchval("SELECT account_id FROM person WHERE email = $1", SARI)


async def keys_of(portal):
    return await keys.list_keys(portal.db, await account_of(portal))


async def use(
    portal, key_id, hour, *, model="nusantara-base", status="completed", tokens=(100, 20), amount_pico=60_000_000_000
):  # fmt: skip
    """Write what settling a request would have written into the hourly read model."""
    await portal.db.execute(
        "INSERT INTO usage_hourly VALUES ($1, $2, $3, $4, $5, 'idr', 1, $6, 0, $7, 0, $8)",
        await account_of(portal), hour, key_id, model, status, *tokens, amount_pico,
    )  # fmt: skip


async def settle(portal, moment, *, key_id=None, model="nusantara-base", status="completed", source="upstream",
                 flaw=None, raw=None, tokens=(100, 20)):  # fmt: skip
    """Write a settled request and what the read model says of it."""
    key_id = key_id or uuid7()
    request_id = uuid7()
    await portal.db.execute(
        """
        INSERT INTO ledger_entry (entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model,
            endpoint, plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
            output_reasoning_tokens, output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable,
            usage_source, usage_flaw, raw_usage, end_reason, duration_ms, first_byte_ms)
        VALUES ($1, $1, 'usage', $2, $2, $3, $4, $5, 'responses', 'free', to_char($2::timestamptz, 'YYYY-MM'), $6::bigint, 0, 0,
            $7::bigint, 0, 0, $6 + $7, 'idr', 'idr-1', $6 * 300000000 + $7 * 1500000000, false, $8, $9, $10, $11, 44, 12)
        """,
        request_id, moment, await account_of(portal), key_id, model, *tokens, source, flaw, raw, status,
    )  # fmt: skip
    await portal.db.execute(
        """
        INSERT INTO usage_hourly AS h
        VALUES ($1, date_trunc('hour', $2::timestamptz, 'UTC'), $3, $4, $5, 'idr', 1, $6, 0, $7, 0, 0)
        ON CONFLICT (account_id, hour, key_id, model, end_reason, currency) DO UPDATE SET requests = h.requests + 1
        """,
        await account_of(portal), moment, key_id, model, status, *tokens,
    )  # fmt: skip
    return request_label(request_id)


def rows_of(answer) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


# ---------------------------------------------------------------- the same numbers everywhere


@pytest.fixture
async def busy(gateway, http, people):
    """Somebody with calls of two models, two keys and an end user, one that served nothing, and refusals."""
    person = await people.join("sari")
    other = await people.another_key(person, name="another")
    for prompt, model, key in (
        ("Halo [[sim output=5 input_tokens=41]]", "nusantara-base", person),
        ("Halo [[sim output=9 input_tokens=17]]", "tiny", person),
        ("Halo [[sim output=3 input_tokens=8]]", "nusantara-base", other),
    ):
        assert ask(http, key, CHAT, prompt, model=model).status == 200
    assert ask(http, person, RESPONSES, "Halo [[sim output=2]]", user="citra").status == 200
    assert ask(http, person, CHAT, "Halo", model="dead").status == 503
    assert ask(http, person, CHAT, "Halo", model="unknown").status == 404
    await people.nothing_is_held()
    return person


async def command(gateways, *arguments: str) -> str:
    environ = {
        **os.environ, "NUSAGATE_DATABASE_URL": gateways.database_url, "NUSAGATE_KEY_PEPPER": PEPPERS[1].decode()
    }  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "admin.cli", *arguments],
        env=environ, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


def summed(rows, group) -> dict[str, tuple]:
    """Numbers and exact amount by group, whatever rows they come from."""
    sums: dict[str, list] = {}
    for row in rows:
        values = [*(int(row[name]) for name in NUMBERS), Decimal(row["amount"])]
        sums[row[group]] = [
            one + other for one, other in zip(sums.get(row[group], [0] * 5), values, strict=True)
        ]
    return {name: tuple(values) for name, values in sums.items()}


@pytest.mark.parametrize("group", ["model", "key", "status", "user"])
async def test_page_api_command_and_ledger_say_the_same(gateways, http, gateway_db, busy, group):
    clock = MovableClock()
    clock.moment = datetime.now(UTC)
    portal = Portal(gateway_db, clock, portal_settings())
    inside = await portal.browser(network=f"192.0.2.{len(group)}").join(busy.email)

    told = http.get(f"/v1/usage?group_by={group}", headers=bearer(busy)).json()
    page = await inside.get(f"/usage?by={group}")
    download = await inside.get(f"/usage.csv?by={group}")
    shown = json.loads(
        await command(gateways, "usage", "show", "--account", str(busy.account_id), "--by", group, "--json")
    )
    entries = [
        json.loads(line)
        for line in (
            await command(gateways, "ledger", "export", "--account", str(busy.account_id))
        ).splitlines()
    ]

    by_api = summed(told["data"], "group")
    assert summed(rows_of(download), group) == by_api
    assert summed(shown["usage"], "group") == by_api
    field = {"key": "key_id", "status": "end_reason"}.get(group, group)
    by_ledger = summed([{**entry, "requests": 1} for entry in entries if entry[field] is not None], field)
    tokens = {name: sums[1:] for name, sums in by_api.items() if sums[3] > 0}
    assert tokens == {name: sums[1:] for name, sums in by_ledger.items()}
    assert len(tokens) == {"model": 2, "key": 2, "status": 2, "user": 1}[group]
    # A request that served nothing is counted, and there is nothing of it in the ledger or in the counts of end users.
    requests = sum(sums[0] for sums in by_ledger.values()) + (0 if group == "user" else 1)
    assert sum(sums[0] for sums in by_api.values()) == requests
    said = text_of(page)
    for requests, given, written, total, _ in by_api.values():
        assert f"{requests:,} {given:,} {written:,} {total:,}" in said
    month = told["month"]
    assert f"This month {month['used']:,} tokens" in said
    assert month["used"] == sum(entry["total_tokens"] for entry in entries)
    assert (
        abs(
            int(said.partition("At the reset ≈ ")[2].split()[0].replace(",", ""))
            - told["forecast"]["tokens_at_reset"]
        )
        <= 1
    )


# ---------------------------------------------------------------- the page and its address


async def test_the_month_is_told_with_its_limit_and_its_reset(portal, sari_inside):
    now = await portal.db.fetchval("SELECT clock_timestamp()")
    await portal.db.execute(
        "INSERT INTO quota_counter VALUES ($1, $1, to_char($2::timestamptz, 'YYYY-MM'), 7412, 30)",
        await account_of(portal), now,
    )  # fmt: skip
    said = text_of(await sari_inside.get("/usage"))
    assert "7,412 of 10,000 tokens, 74%" in said
    assert "00:00 UTC (07:00 WIB)" in said
    assert "Left 2,558" in said
    assert "30 tokens are held by requests in progress." in said


async def test_what_may_be_spent_is_a_limit_too(portal, sari_inside):
    account_id = await account_of(portal)
    await portal.db.execute("UPDATE account SET plan_id = 'payg'")
    await portal.db.execute("INSERT INTO spend_guard VALUES ($1, '2026-01', 5, 4321, now())", account_id)
    assert "of 4,321 tokens" in text_of(await sari_inside.get("/usage"))


async def test_the_range_and_the_grouping_stand_in_the_address(portal, sari_inside):
    await sari_inside.post("/keys/new", name="blog server")
    key = (await keys_of(portal))[0]
    await use(portal, key.key_id, datetime(2026, 3, 1, 5, tzinfo=UTC))
    await use(portal, key.key_id, datetime(2026, 3, 2, 5, tzinfo=UTC), model="other", tokens=(7, 3))
    await use(portal, key.key_id, datetime(2026, 3, 9, 5, tzinfo=UTC), status="upstream_error", tokens=(0, 0))
    by_model = text_of(await sari_inside.get(f"/usage?{MARCH}&by=model"))
    assert "nusantara-base 1 100 20 120 92.3% Rp 0.06" in by_model
    assert "other 1 7 3 10 7.7% Rp 0.06" in by_model
    assert "Sum 2 107 23 130 Rp 0.12" in by_model
    assert "130 tokens in 2 bars" in (await sari_inside.get(f"/usage?{MARCH}")).text
    assert "1 Mar 2026, 05:00" not in by_model
    assert "9 Mar 2026" not in by_model
    by_key = text_of(await sari_inside.get(f"/usage?{MARCH}&by=key"))
    assert f"blog server {key.prefix}…{key.last4} 2 107 23 130" in by_key
    by_status = text_of(await sari_inside.get("/usage?start=2026-03-01&end=2026-03-09&by=status"))
    assert "completed 2 107 23 130 100.0%" in by_status
    assert "failed at the model 1 0 0 0 0.0%" in by_status


async def test_a_bar_leads_to_its_day_by_the_hour_and_back_again(portal, sari_inside):
    await use(portal, uuid7(), datetime(2026, 3, 1, 5, tzinfo=UTC))
    page = await sari_inside.get(f"/usage?{MARCH}&step=day")
    closer = "range=custom&amp;start=2026-03-01&amp;end=2026-03-01&amp;by=model&amp;step=hour"
    assert f'href="/usage?{closer}"' in page.text
    day = text_of(await sari_inside.get(f"/usage?{closer.replace('&amp;', '&')}"))
    assert "Every hour in numbers (1)" in day
    assert "1 Mar, 05:00" in day
    hours = text_of(await sari_inside.get("/usage?start=2026-03-01T05&end=2026-03-01T06"))
    assert "1 Mar, 05:00 \N{EN DASH} 07:00" in hours
    assert "nusantara-base 1 100 20 120" in hours
    assert (
        "nusantara-base" not in (await sari_inside.get("/usage?start=2026-03-01T06&end=2026-03-01T07")).text
    )


async def test_the_download_has_the_bars_of_the_page(portal, sari_inside):
    key_id = uuid7()
    await use(portal, key_id, datetime(2026, 3, 1, 5, tzinfo=UTC))
    await use(portal, key_id, datetime(2026, 3, 1, 7, tzinfo=UTC), model="other", amount_pico=1)
    answer = await sari_inside.get(f"/usage.csv?{MARCH}&by=model")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="usage-2026-03-01-2026-03-02-by-model-and-hour.csv"'
    )
    assert answer.text == (
        "time,model,requests,input_tokens,output_tokens,total_tokens,currency,amount\n"
        "2026-03-01T05:00:00Z,nusantara-base,1,100,20,120,idr,0.06\n"
        "2026-03-01T07:00:00Z,other,1,100,20,120,idr,0.000000000001\n"
    )
    by_day = rows_of(await sari_inside.get(f"/usage.csv?{MARCH}&by=key&step=day"))
    assert [(row["time"], row["key"], row["key_name"], row["total_tokens"]) for row in by_day] == [
        ("2026-03-01T00:00:00Z", str(key_id), "", "240")
    ]


async def test_a_name_in_the_download_is_no_formula(portal, sari_inside):
    await portal.db.execute(
        "INSERT INTO usage_user_daily VALUES ($1, '2026-03-01', '=HYPERLINK(1)', 'idr', 1, 1, 1, 0)",
        await account_of(portal),
    )
    answer = await sari_inside.get(f"/usage.csv?{MARCH}&by=user")
    assert answer.text.splitlines()[1].startswith("2026-03-01T00:00:00Z,'=HYPERLINK(1),")
    assert "=HYPERLINK(1) 1 1 1 2" in text_of(await sari_inside.get(f"/usage?{MARCH}&by=user"))


async def test_many_end_users_are_a_hundred_lines_and_one_for_the_rest(portal, sari_inside):
    await portal.db.execute(
        "INSERT INTO usage_user_daily SELECT $1, '2026-03-01', 'user ' || n, 'idr', 1, n, 0, 0"
        " FROM generate_series(1, 300) n",
        await account_of(portal),
    )
    answer = await sari_inside.get(f"/usage?{MARCH}&by=user")
    said = text_of(answer)
    assert answer.text.count('data-swatch="') == 101
    assert "user 300 1 300 0 300" in said
    assert f"All others 200 {sum(range(201)):,} 0 {sum(range(201)):,}" in said
    assert f"Sum 300 {sum(range(301)):,} 0 {sum(range(301)):,}" in said
    rows = rows_of(await sari_inside.get(f"/usage.csv?{MARCH}&by=user"))
    assert (len(rows), rows[-1]["user"], rows[-1]["requests"]) == (101, "(other)", "200")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("range=ever", "range: This range is not known."),
        ("by=colour", "by: This grouping is not known."),
        ("range=custom", "start: Write a day as 2026-12-31"),
        ("start=2026-03-02&end=2026-03-01", "end: The end must follow the start, within 366 days."),
        ("start=2020-01-01&end=2026-01-01", "end: The end must follow the start, within 366 days."),
        ("range=7d&step=week", "step: A bar is an hour or a day."),
        ("colour=red", "colour: This page does not know colour."),
        ("by=key&by=model", "by: This value is there twice."),
    ],
)
async def test_an_address_that_means_nothing_is_refused_by_name_and_the_page_still_works(
    sari_inside, query, said
):
    page = await sari_inside.get(f"/usage?{query}")
    assert (page.status_code, said in text_of(page), "This month" in page.text) == (422, True, True)
    download = await sari_inside.get(f"/usage.csv?{query}")
    assert (download.status_code, said in download.text) == (422, True)


async def test_other_peoples_usage_is_nowhere(portal, sari_inside):
    budi = await portal.browser(network="192.0.2.77").join("budi@example.com")
    label = await settle(portal, datetime(2026, 3, 1, 5, tzinfo=UTC))
    await portal.db.execute(
        "INSERT INTO refusal_hourly VALUES ($1, '2026-03-01T05:00Z', $2, 'concurrency', 3)",
        await account_of(portal), uuid7(),
    )  # fmt: skip
    assert rows_of(await budi.get(f"/usage.csv?{MARCH}")) == []
    assert "Refused requests" not in (await budi.get(f"/usage?{MARCH}")).text
    assert label not in (await budi.get("/usage/requests")).text
    assert (await budi.get(f"/usage/requests/{label}")).status_code == 404
    assert (await sari_inside.get(f"/usage/requests/{label}")).status_code == 200


async def test_refusals_are_shown_by_reason_with_what_helps(portal, sari_inside):
    account_id = await account_of(portal)
    await portal.db.execute(
        "INSERT INTO refusal_hourly SELECT $1, h, $2, r, n FROM (VALUES"
        " ('2026-03-01T05:00Z'::timestamptz, 'requests_per_minute', 1200), ('2026-03-01T06:00Z', 'requests_per_minute', 34),"
        " ('2026-03-01T06:00Z', 'invalid_json', 5), ('2026-03-05T06:00Z', 'month', 7)) AS v(h, r, n)",
        account_id, uuid7(),
    )  # fmt: skip
    said = text_of(await sari_inside.get(f"/usage?{MARCH}"))
    assert "Requests a minute requests_per_minute 429 rate_limit_exceeded Send fewer at a time" in said
    assert "as long as Retry-After says. 1,234" in said
    assert "Request was not valid 400 invalid_json" in said
    assert "insufficient_quota" not in said


async def test_an_account_without_a_key_is_led_to_its_first_call(sari_inside):
    assert "Your first call is a minute away" in text_of(await sari_inside.get("/usage"))
    await sari_inside.post("/keys/new", name="blog server")
    assert "Nothing was used in this range" in text_of(await sari_inside.get("/usage"))


# ---------------------------------------------------------------- requests


async def test_requests_are_paged_and_every_one_is_on_one_page(portal, sari_inside):
    start = datetime(2026, 3, 1, 5, tzinfo=UTC)
    # Three at every moment, so that pages end between requests of one moment.
    labels = [await settle(portal, start + timedelta(minutes=7 * (n // 3))) for n in range(2 * PAGE_SIZE + 7)]
    seen = []
    path = "/usage/requests"
    while path is not None:
        page = await sari_inside.get(path)
        seen += [part.partition('"')[0] for part in page.text.split('href="/usage/requests/')[1:]]
        found = [part for part in page.text.split('href="')[1:] if part.startswith("/usage/requests?before")]
        path = found[0].partition('"')[0].replace("&amp;", "&") if found else None
    assert len(seen) == len(labels)
    assert sorted(seen) == sorted(labels)
    assert seen[:3] == [*sorted(labels[-2:], reverse=True), max(labels[-5:-2])]


async def test_requests_are_filtered_by_key_model_and_status(portal, sari_inside):
    await sari_inside.post("/keys/new", name="blog server")
    key = (await keys_of(portal))[0]
    start = datetime(2026, 3, 1, 5, tzinfo=UTC)
    mine = await settle(portal, start, key_id=key.key_id)
    other = await settle(portal, start + timedelta(days=20), model="other")
    cut = await settle(portal, start + timedelta(days=40), status="incomplete")

    async def found(query):
        text = (await sari_inside.get(f"/usage/requests?{query}")).text
        return {label for label in (mine, other, cut) if label in text}

    assert await found("") == {mine, other, cut}
    assert await found(f"key={key.key_id}&model=&status=") == {mine}
    assert await found("model=other") == {other}
    assert await found("status=incomplete") == {cut}
    assert await found("status=incomplete&model=other") == set()
    assert await found("before=2026-03-10T00:00:00Z") == {mine}


async def test_hours_with_nothing_but_what_served_nothing_are_passed_over(portal, sari_inside):
    start = datetime(2026, 3, 1, 5, tzinfo=UTC)
    label = await settle(portal, start)
    for hour in range(1, PAGE_SIZE + 10):
        await use(portal, uuid7(), start + timedelta(hours=hour), tokens=(0, 0))
    assert label in (await sari_inside.get("/usage/requests")).text


async def test_a_request_says_how_it_was_counted(portal, sari_inside):
    raw = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 121}
    label = await settle(
        portal, datetime(2026, 3, 1, 5, tzinfo=UTC), status="client_gone_cancelled", source="partial",
        flaw="inconsistent", raw=json.dumps(raw),
    )  # fmt: skip
    said = text_of(await sari_inside.get(f"/usage/requests/{label}"))
    assert label in said
    assert "Your program left, and the model was stopped. client_gone_cancelled" in said
    assert "The last usage that the model had sent by then is what counts. partial" in said
    assert "contradict each other; its totals are taken. inconsistent" in said
    assert "Input 100 Rp 300 Rp 0.03 Output 20 Rp 1,500 Rp 0.03 Sum 120 Rp 0.06" in said
    assert "total_tokens &#34;: 121" in said or '"total_tokens": 121' in said
    assert "First byte after 12 ms Took 44 ms" in said


async def test_a_request_that_a_sweeper_closed_says_so(portal, sari_inside):
    label = await settle(
        portal, datetime(2026, 3, 1, 5, tzinfo=UTC), status="gateway_crash", source="estimated", flaw=SWEPT
    )
    answer = await sari_inside.get(f"/usage/requests/{label}")
    assert answer.status_code == 200
    assert "it was closed from what had been noted by then. gateway_crash" in text_of(answer)


@pytest.mark.parametrize("label", ["req_x", "x", f"req_{'0' * 32}", f"req_{'g' * 32}", f"req_{'0' * 33}"])
async def test_a_request_that_is_not_there_is_not_found(sari_inside, label):
    assert (await sari_inside.get(f"/usage/requests/{label}")).status_code == 404


@pytest.mark.parametrize(
    ("query", "field"), [("status=good", "status"), ("key=x", "key"), ("page=2", "page")]
)
async def test_a_filter_that_means_nothing_is_refused_by_name(sari_inside, query, field):
    answer = await sari_inside.get(f"/usage/requests?{query}")
    assert (answer.status_code, f"{field}: " in text_of(answer)) == (422, True)
