"""The documentation says what the code's tables and the database's rows say, in both languages, to everybody."""

import json
import re
from datetime import timedelta
from html import unescape

import msgspec
import pytest

from admin.access.model import Language
from admin.portal.docs.facts import MEANINGS, ending_of
from admin.portal.docs.library import CHANGELOG, HERE, LIVE, WRITTEN
from admin.portal.docs.markdown import read_markdown
from admin.web.assets import read_manifest
from admin.web.formats import Formats
from admin.web.i18n import gettext_of
from gateway.http.error_table import ERRORS
from gateway.http.openapi import openapi_document
from gateway.ledger.model import EndReason
from gateway.plans import service as plans
from gateway.plans.model import Billing, OnDisconnect
from gateway.prices import service as prices
from gateway.prices.model import ModelRates, PriceBook
from gateway.units import Currency
from tests.fakes.processes import free_port
from tests.http.asking import bearer
from tests.plugins.portal import Portal, portal_settings, text_of

LANGUAGES = {Language.ENGLISH: "en", Language.INDONESIAN: "id"}
ROW = re.compile(r"<tr>(.*?)</tr>", re.DOTALL)
CELL = re.compile(r"<t[dh][^>]*>(.*?)</t[dh]>", re.DOTALL)


@pytest.fixture(params=LANGUAGES)
def reader(request, portal):
    """Somebody who has never been here, with a browser in one of the languages."""
    return portal.browser(**{"accept-language": LANGUAGES[request.param]}), request.param


def rows(html: str) -> list[list[str]]:
    """The rows of all tables of a page, as a reader sees their cells."""
    return [
        [" ".join(unescape(re.sub(r"<[^>]+>", "", cell)).split()) for cell in CELL.findall(row)]
        for row in ROW.findall(html)
    ]


def formats(portal, language) -> Formats:
    return Formats(language, portal.settings.time_zone)


# ---------------------------------------------------------------- tables of the code


async def test_every_code_is_on_the_page_of_errors_with_its_status_cause_and_advice(portal, reader):
    browser, language = reader
    found = {row[0]: row[1:] for row in rows((await browser.get("/docs/errors")).text) if row}
    say = gettext_of(language)
    assert {code: found.get(code) for code in ERRORS} == {
        code: [str(row.status), say(row.cause), say(row.retry)] for code, row in ERRORS.items()
    }


async def test_every_ending_is_on_the_page_with_what_the_charging_function_answers(portal, reader):
    browser, language = reader
    page = await browser.get("/docs/counting")
    found = {row[0]: row[1:] for row in rows(page.text) if row}
    say = gettext_of(language)
    for reason in EndReason:
        ending = ending_of(reason)
        said = [ending.meaning, ending.with_usage, ending.with_text, ending.with_nothing]
        assert found[reason.value] == [say(text) for text in said]


def test_the_charging_function_answers_what_the_published_policy_says():
    assert set(MEANINGS) == set(EndReason)
    answers = {
        reason: (ending_of(reason).with_usage[:5], ending_of(reason).with_nothing) for reason in EndReason
    }
    finished = {EndReason.COMPLETED, EndReason.INCOMPLETE, EndReason.CLIENT_GONE_DRAINED}
    assert {reason for reason, said in answers.items() if said[1] == "nothing"} == set(EndReason) - finished
    assert {ending_of(reason).with_text for reason in EndReason} == {"our estimate, marked as one"}


async def test_every_operation_of_the_document_is_in_the_reference_and_the_list(portal):
    browser = portal.browser()
    reference, listed = await browser.get("/docs/reference"), await browser.get("/docs/endpoints")
    document = (await browser.get("/docs/openapi.json")).json()
    assert document == json.loads(json.dumps(openapi_document(portal.settings.base.api_url)))
    wanted = [
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    ]
    assert len(wanted) == 11
    assert [name for name in wanted if name not in text_of(reference)] == []
    assert [name for name in wanted if name not in text_of(listed)] == []
    fields = {row[0].split()[0] for row in rows(reference.text) if row}
    body = document["paths"]["/v1/responses"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) <= fields


async def test_the_document_in_indonesian_differs_in_its_sentences_alone(portal):
    browser = portal.browser()
    english = (await browser.get("/docs/openapi.json?language=en")).json()
    indonesian = (await browser.get("/docs/openapi.json?language=id")).json()
    found = list(different(english, indonesian))
    assert {key for key, _, _ in found} == {"summary", "description"}
    say = gettext_of(Language.INDONESIAN)
    for _, said, told in found:
        lines = [line.split(": ", 1) for line in said.splitlines()]
        assert told == "\n".join(": ".join([*code, say(sentence)]) for *code, sentence in lines)
    assert ("summary", "Create a response", "Membuat response") in found


def different(one, other, key=""):
    """What is not the same in two documents of the same shape: the name, and both values."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            yield from different(one[name], other[name], name)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            yield from different(mine, theirs, key)
    elif one != other:
        yield key, one, other


async def test_the_explorer_weighs_on_its_own_page_alone_and_says_whose_it_is(portal):
    browser = portal.browser()
    pages = {entry.slug: (await browser.get(entry.path)).text for entry in (*WRITTEN, *LIVE)}
    assert [slug for slug, text in pages.items() if "swagger-ui-bundle" in text] == ["explorer"]
    licence = re.search(
        r'href="(/static/vendor/licences/swagger-ui.txt[^"]*)">Swagger UI ([^<]+)<', pages["explorer"]
    )
    assert licence is not None
    text = (await browser.get(licence[1])).text
    assert {licence[2]} == {entry.version for entry in read_manifest() if entry.package == "swagger-ui-dist"}
    for wanted in ("Copyright 2020-2021 SmartBear", "Apache License", "classnames", "DOMPurify"):
        assert wanted in text


# ---------------------------------------------------------------- rows of the database


async def test_the_limits_are_those_of_the_rows(portal, reader):
    browser, language = reader
    await change_plan(portal, "basic", monthly_tokens=66_001, daily_tokens=4_321, concurrency=None)
    shown = formats(portal, language)
    none = {"en": "no limit", "id": "tanpa batas"}[language.value]
    found = [row for row in rows((await browser.get("/docs/limits")).text) if len(row) == 6][1:]
    assert found == [
        [
            plan.name,
            *(none if limit is None else shown.number(limit) for limit in of(plan)),
        ]
        for plan in await plans.list_plans(portal.db)
    ]
    assert shown.number(66_001) in found[1]


def of(plan):
    limits = plan.limits
    return (
        limits.monthly_tokens,
        limits.daily_tokens,
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.concurrency,
    )


async def change_plan(portal, plan_id, *, on_disconnect=None, prices_micro=None, **limits):
    plan = await plans.get_plan(portal.db, plan_id)
    changed = msgspec.structs.replace(
        plan,
        limits=msgspec.structs.replace(plan.limits, **limits),
        on_disconnect=on_disconnect or plan.on_disconnect,
        monthly_price_micro=plan.monthly_price_micro if prices_micro is None else prices_micro,
    )
    async with portal.db.acquire() as connection, connection.transaction():
        await plans.upsert_plans(connection, [changed])


async def test_the_prices_of_plans_are_those_of_the_rows_in_both_currencies(portal, reader):
    browser, language = reader
    await change_plan(portal, "pro", prices_micro={Currency.IDR: 149_000_000_000, Currency.USD: 9_500_000})
    shown = formats(portal, language)
    page = rows((await browser.get("/docs/limits")).text)
    found = {row[0]: row[1:] for row in page if len(row) == 3}
    for plan in await plans.list_plans(portal.db):
        for place, currency in enumerate(("idr", "usd")):
            price = plan.monthly_price_micro.get(Currency(currency))
            if plan.billing is Billing.METERED:
                wanted = "per token"
            elif price is None:
                wanted = {"en": "not offered", "id": "tidak ditawarkan"}[language.value]
            else:
                wanted = shown.price(price, currency)
            assert found[plan.name][place] == wanted, plan.name
    assert found["Pro"] == [shown.price(149_000_000_000, "idr"), shown.price(9_500_000, "usd")]


async def test_the_prices_of_tokens_are_those_of_the_books_in_force(portal, reader):
    browser, language = reader
    later = PriceBook(
        book_id="idr-2",
        currency=Currency.IDR,
        version=2,
        effective_from=portal.clock.now() + timedelta(days=8),
        rates={"nusantara-base": ModelRates(input_text=310_000_000, output_text=7, input_cached=5_000_000)},
    )
    async with portal.db.acquire() as connection, connection.transaction():
        await prices.publish(connection, portal.clock, later, published_by="tests")
    await compare_prices(portal, browser, language)
    portal.clock.move(timedelta(days=9))
    page = await compare_prices(portal, browser, language)
    assert formats(portal, language).price(310_000_000, "idr") in text_of(page)
    assert "idr-2" in text_of(page)


async def compare_prices(portal, browser, language):
    page = await browser.get("/docs/limits")
    shown, say = formats(portal, language), gettext_of(language)
    books = {book.currency: book for book in await prices.books_at(portal.db, portal.clock.now(), None)}
    assert set(books) == {Currency.IDR, Currency.USD}
    found = {(row[0], row[1]): row[2:] for row in rows(page.text) if len(row) == 4}
    wanted = {}
    labels = {"input_text": "input", "input_cached": "input, cached", "output_text": "output"}
    for model in {model for book in books.values() for model in book.rates}:
        for token_class, label in labels.items():
            given = [
                getattr(books[currency].rates[model], token_class) if model in books[currency].rates else None
                for currency in (Currency.IDR, Currency.USD)
            ]
            if any(rate is not None for rate in given):
                wanted[model, say(label)] = [
                    "-" if rate is None else shown.price(rate, currency)
                    for rate, currency in zip(given, ("idr", "usd"), strict=True)
                ]
    assert {key: cells for key, cells in found.items() if key in wanted} == wanted
    assert len(found) == len(wanted) + 1
    return page


async def test_what_leaving_costs_is_what_each_plan_says(portal, reader):
    browser, language = reader
    await change_plan(portal, "pro", on_disconnect=OnDisconnect.DRAIN)
    found = {row[0]: row[1] for row in rows((await browser.get("/docs/counting")).text) if len(row) == 2}
    drains = {"en": "the answer is read to its end", "id": "jawaban dibaca sampai akhir"}[language.value]
    for plan in await plans.list_plans(portal.db):
        assert found[plan.name].startswith(drains) is (plan.on_disconnect is OnDisconnect.DRAIN), plan.name
    assert found["Pro"].startswith(drains)


async def test_a_plans_name_is_shown_as_text(portal):
    name = "<b>Pro</b> | *so* [x](javascript:alert(1))"
    await portal.db.execute("UPDATE plan SET name = $1 WHERE plan_id = 'pro'", name)
    page = await portal.browser().get("/docs/limits")
    assert [row[0] for row in rows(page.text) if len(row) == 6 and "so" in row[0]] == [name]
    assert "<b>Pro" not in page.text
    assert 'href="javascript' not in page.text


# ---------------------------------------------------------------- the pages themselves


async def test_every_page_is_there_for_everybody_in_both_languages(portal, reader):
    browser, language = reader
    for entry in (*WRITTEN, *LIVE):
        page = await browser.get(entry.path)
        assert (page.status_code, page.headers["content-language"]) == (200, language.value), entry.path
        assert gettext_of(language)(entry.title) in text_of(page)
        assert "{{" not in page.text
        assert "style=" not in page.text
        assert '/docs/status"' in page.text


def test_both_languages_have_the_same_parts():
    for entry in WRITTEN:
        if entry.slug == CHANGELOG:
            continue
        shapes = []
        for language in Language:
            text = (HERE / "text" / language.value / f"{entry.slug or 'quickstart'}.md").read_text(
                encoding="utf-8"
            )
            code = re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)
            values = sorted(re.findall(r"\{\{\s*(facts[\w.]+|row\.\w+|ending\.\w+)", text))
            shapes.append((len(re.findall(r"^#+ ", text, re.MULTILINE)), code, values))
        assert shapes[0] == shapes[1], entry.slug


async def test_a_page_as_markdown_is_what_the_page_is_made_from(portal):
    browser = portal.browser()
    for entry in WRITTEN:
        answer = await browser.get(entry.markdown_path)
        assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
        document = read_markdown(answer.text)
        page = await browser.get(entry.path)
        assert [block.html for block in document.blocks if block.html not in page.text] == []
        assert all(
            unescape(snippet.text) in unescape(page.text)
            for block in document.blocks
            for snippet in block.snippets
        )


async def test_a_model_is_told_where_everything_is(portal):
    browser = portal.browser()
    answer = await browser.get("/llms.txt")
    assert answer.text.startswith("# Nusagate\n\n> ")
    links = re.findall(r"\]\(http://127\.0\.0\.1:8081(/[^)]+)\)", answer.text)
    assert links == [*(entry.markdown_path for entry in WRITTEN), "/docs/openapi.json"]
    for link in links:
        assert (await browser.get(link)).status_code == 200


async def test_every_link_between_the_pages_leads_somewhere(portal):
    browser = portal.browser()
    pages = {entry.path: (await browser.get(entry.path)).text for entry in (*WRITTEN, *LIVE)}
    links = {link for text in pages.values() for link in re.findall(r'href="(/docs[^"]*)"', text)}
    assert len(links) > len(pages)
    for link in links:
        path, _, anchor = link.partition("#")
        text = pages.get(path) or (await browser.get(path)).text
        assert not anchor or f'id="{anchor}"' in text, link


async def test_the_changes_are_those_of_the_file(portal):
    text = (HERE / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.startswith("# Changelog")
    assert (await portal.browser().get("/docs/changelog.md")).text == text


# ---------------------------------------------------------------- the examples, the status


async def test_the_examples_have_the_fields_of_real_answers(http, people):
    sari = await people.join("sari", plan="free")
    paths = openapi_document("")["paths"]
    real = {}
    for (method, path), body in examples("request", paths).items():
        real[method, path] = http.request(method, path, json=body, headers=bearer(sari)).json()
    response_id = real["post", "/v1/responses"]["id"]
    rest = [key for key in examples("answer", paths) if key not in real]
    for method, path in sorted(rest, key=lambda key: key[0] == "delete"):
        asked = path.replace("{response_id}", response_id).replace("{model_id}", "nusantara-base")
        real[method, path] = http.request(method, asked, headers=bearer(sari)).json()
    for key, example in examples("answer", paths).items():
        assert "error" not in real[key] or real[key]["error"] is None, key
        assert list(real[key]) == list(example), key
        for name in ("data", "choices", "output"):
            if example.get(name):
                assert set(example[name][0]) <= set(real[key][name][0]), (key, name)


def examples(kind: str, paths) -> dict[tuple[str, str], dict]:
    found = {}
    for path, operations in paths.items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            place = operation.get("requestBody", {}) if kind == "request" else operation["responses"]["200"]
            example = place.get("content", {}).get("application/json", {}).get("example")
            if example is not None:
                found[method, path] = example
    return found


async def test_the_status_is_what_the_gateway_says(seeded, clock, gateway):
    portal = Portal(seeded, clock, portal_settings(NUSAGATE_GATEWAY_URL=gateway.url))
    said = text_of(await portal.browser().get("/docs/status"))
    assert "Everything works. Asked 23 Nov 2026, 02:00 UTC ." in said
    assert said.count(" works ") == 3


async def test_the_status_says_so_when_the_gateway_is_away(seeded, clock, gateway):
    portal = Portal(seeded, clock, portal_settings(NUSAGATE_GATEWAY_URL=f"http://127.0.0.1:{free_port()}"))
    said = text_of(await portal.browser().get("/docs/status"))
    assert "Something does not work at the moment." in said
    assert "The API takes no requests at the moment does not work" in said
    assert "The portal's database answers works" in said
    # The answer is repeated for five seconds, however many look, and then the gateway is asked again.
    portal.parts.relay._ready_url = f"{gateway.url}/readyz"
    assert "does not work" in text_of(await portal.browser().get("/docs/status"))
    clock.move(timedelta(seconds=5))
    assert "Everything works." in text_of(await portal.browser().get("/docs/status"))
