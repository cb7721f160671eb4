"""Price books as an operator manages them, and corrections that leave every other number of the ledger true."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from billing.books import service
from billing.books.model import ModelsNotPriced
from billing.books.store import Scope
from billing.sync import service as sync
from gateway.clock import Month
from gateway.prices.model import BookConflict, BookNotFound, ModelNotPriced, PriceBook
from gateway.prices.service import books_at, load_book
from gateway.units import Currency
from tests.plugins.billing import broken_invariants, fill_read_models, pay_by_use, spend
from tests.plugins.days import close_until

MODELS = ("nusantara-base", "smollm2-135m")
TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOVEMBER = Month("2026-11")
RATE = {"input_text": 400_000_000, "output_text": 1_500_000_000}


def book(*, book_id="idr-2", version=2, models=MODELS, start=datetime(2026, 12, 1, tzinfo=UTC), **rates):
    return msgspec.convert(
        {
            "book_id": book_id, "currency": "idr", "version": version, "effective_from": start,
            "models": dict.fromkeys(models, RATE | rates),
        },
        PriceBook,
    )  # fmt: skip


@pytest.fixture
def transacted(seeded):
    """Run one call of the service in a transaction."""

    async def run(work, *arguments, **options):
        async with seeded.acquire() as connection, connection.transaction():
            return await work(connection, *arguments, **options)

    return run


@pytest.fixture
def published(transacted, clock):
    """Publish a book at once."""

    async def publish(one):
        await transacted(service.draft, clock, one, MODELS)
        await transacted(service.publish, clock, one.book_id, MODELS, actor="dewi")

    return publish


@pytest.fixture
async def used(seeded, clock, stripe, consumer):
    """Sari has used forty requests in November; the read models know them."""
    await spend(seeded, [consumer.account_id], [TEN, TEN + timedelta(hours=1)], entries=20)
    await fill_read_models(seeded)
    return consumer


async def test_a_draft_shows_what_it_changes_and_whom(transacted, clock, used):
    review = await transacted(service.draft, clock, book(), MODELS)
    assert (review.follows, review.accounts_in_currency, review.unpriced_models) == ("idr-1", True, ())
    changes = {(c.model, c.token_class): (c.before, c.after) for c in review.changes}
    assert changes["nusantara-base", "input_text"] == (300_000_000, 400_000_000)
    assert ("nusantara-base", "output_text") not in changes
    (impact,) = review.impact
    assert (impact.model, impact.accounts, impact.requests) == ("nusantara-base", 1, 40)
    assert float(impact.amount_after) > float(impact.amount_before) > 0


async def test_a_draft_holds_for_nobody_until_it_is_published(seeded, transacted, clock):
    await transacted(service.draft, clock, book(), MODELS)
    (holds,) = await books_at(seeded, datetime(2026, 12, 2, tzinfo=UTC), Currency.IDR)
    assert holds.book_id == "idr-1"
    await transacted(service.publish, clock, "idr-2", MODELS, actor="dewi")
    (holds,) = await books_at(seeded, datetime(2026, 12, 2, tzinfo=UTC), Currency.IDR)
    assert holds == book()


async def test_a_draft_can_be_written_again_and_discarded(transacted, clock):
    await transacted(service.draft, clock, book(), MODELS)
    again = await transacted(service.draft, clock, book(input_text=1), MODELS)
    assert {change.after for change in again.changes if change.token_class == "input_text"} == {1}
    await transacted(service.discard, "idr-2")
    with pytest.raises(BookNotFound):
        await transacted(service.publish, clock, "idr-2", MODELS, actor="dewi")


async def test_a_draft_cannot_take_the_place_of_a_published_book(transacted, clock):
    with pytest.raises(BookConflict, match="idr-1"):
        await transacted(service.draft, clock, book(book_id="idr-1", version=9), MODELS)
    with pytest.raises(BookConflict, match="idr-1"):
        await transacted(service.draft, clock, book(version=1), MODELS)


async def test_a_book_that_lacks_a_model_is_refused_where_somebody_pays(seeded, transacted, clock, stripe):
    await transacted(service.draft, clock, book(models=MODELS[:1]), MODELS)
    await pay_by_use(seeded, clock, stripe, "sari@example.com", Currency.IDR)
    with pytest.raises(ModelsNotPriced, match="smollm2-135m"):
        await transacted(service.publish, clock, "idr-2", MODELS, actor="dewi")
    with pytest.raises(BookNotFound):
        await load_book(seeded, "idr-2")


async def test_a_book_that_lacks_a_model_is_no_trouble_where_nobody_pays(seeded, transacted, clock):
    await transacted(service.draft, clock, book(models=MODELS[:1]), MODELS)
    await transacted(service.publish, clock, "idr-2", MODELS, actor="dewi")
    assert (await load_book(seeded, "idr-2")).book_id == "idr-2"


async def test_a_dry_run_writes_nothing(seeded, transacted, clock, published, used):
    await published(book())
    dry = await transacted(
        service.recalculate,
        clock,
        Scope(book_id="idr-2", period=NOVEMBER),
        reason="r",
        actor="dewi",
        apply=False,
    )
    assert (dry.applied, [c.entries for c in dry.corrections]) == (False, [40])
    assert await seeded.fetchval("SELECT count(*) FROM ledger_entry") == 40


async def test_a_correction_reverses_and_books_again_in_the_current_month(
    seeded, transacted, clock, published, used
):
    await published(book())
    clock.move(timedelta(days=10))
    scope = Scope(book_id="idr-2", period=NOVEMBER)
    done = await transacted(service.recalculate, clock, scope, reason="wrong rate", actor="dewi", apply=True)
    rows = await seeded.fetch(
        "SELECT kind, period, count(*) AS entries, sum(amount_pico) AS pico, sum(quota_tokens) AS tokens,"
        " min(reason) AS reason, min(actor) AS actor, min(book_id) AS book FROM ledger_entry GROUP BY 1, 2 ORDER BY 1"
    )
    adjustment, reversal, usage = rows
    assert (reversal["period"], reversal["entries"], reversal["tokens"]) == ("2026-12", 40, 0)
    assert (reversal["pico"], reversal["book"]) == (-usage["pico"], "idr-1")
    assert (adjustment["reason"], adjustment["actor"], adjustment["book"]) == ("wrong rate", "dewi", "idr-2")
    tokens = await seeded.fetchrow(
        "SELECT sum(input_text_tokens) AS i, sum(output_text_tokens) AS o FROM ledger_entry"
    )
    assert adjustment["pico"] == tokens["i"] * RATE["input_text"] + tokens["o"] * RATE["output_text"]
    assert done.applied
    assert await broken_invariants(seeded) == []


async def test_what_a_correction_gives_back_beyond_the_months_bill_is_shown(
    seeded, transacted, clock, published, used
):
    await published(book(input_text=1, output_text=1))
    clock.move(timedelta(days=10))
    scope = Scope(book_id="idr-2", period=NOVEMBER)

    async def beyond():
        dry = await transacted(service.recalculate, clock, scope, reason="r", actor="dewi", apply=False)
        (found,) = dry.corrections
        return Decimal(found.beyond_bill), -Decimal(found.difference)

    given_back = (await beyond())[1]
    assert await beyond() == (given_back, given_back)
    await seeded.execute(
        "INSERT INTO account_period_total (account_id, period, currency, requests, input_tokens, output_tokens,"
        " quota_tokens, amount_pico, billable_pico) SELECT account_id, '2026-12', 'idr', 0, 0, 0, 0, 10^12, 10^12"
        " FROM ledger_entry LIMIT 1"
    )
    assert await beyond() == (given_back - 1, given_back)
    await seeded.execute(
        "INSERT INTO credit_account SELECT gen_random_uuid(), account_id, 'balance', 'idr' FROM ledger_entry LIMIT 1"
    )
    assert await beyond() == (0, given_back)


async def test_a_correction_in_a_day_that_is_closed_is_in_that_day(
    seeded, transacted, clock, published, used
):
    await published(book())
    await close_until(seeded, clock.now().date())
    before = await seeded.fetchval("SELECT sum(amount_pico) FROM usage_daily")
    scope = Scope(book_id="idr-2", period=NOVEMBER)
    await transacted(service.recalculate, clock, scope, reason="r", actor="dewi", apply=True)
    after = await seeded.fetchval("SELECT sum(amount_pico) FROM usage_daily")
    assert after == await seeded.fetchval("SELECT sum(amount_pico) FROM ledger_entry") > before
    assert await broken_invariants(seeded) == []


async def test_correcting_twice_changes_nothing(seeded, transacted, clock, published, used):
    await published(book())
    scope = Scope(book_id="idr-2", period=NOVEMBER)
    await transacted(service.recalculate, clock, scope, reason="r", actor="dewi", apply=True)
    again = await transacted(service.recalculate, clock, scope, reason="r", actor="dewi", apply=True)
    assert again.corrections == ()
    assert await seeded.fetchval("SELECT count(*) FROM ledger_entry") == 120


async def test_a_correction_can_be_corrected_back(seeded, transacted, clock, published, used):
    await published(book())
    for book_id in ("idr-2", "idr-1"):
        clock.move(timedelta(minutes=1))
        scope = Scope(book_id=book_id, period=NOVEMBER)
        await transacted(service.recalculate, clock, scope, reason="r", actor="dewi", apply=True)
    totals = await seeded.fetch("SELECT kind, sum(amount_pico) AS pico FROM ledger_entry GROUP BY 1")
    sums = {row["kind"]: int(row["pico"]) for row in totals}
    assert sums["reversal"] + sums["adjustment"] == 0
    assert await broken_invariants(seeded) == []


async def test_a_correction_goes_to_stripe_like_any_usage(seeded, transacted, clock, published, used):
    await published(book())
    await sync.freeze_due(seeded, clock, sync.closed_before(clock.now(), 300))
    scope = Scope(book_id="idr-2", period=NOVEMBER)
    await transacted(service.recalculate, clock, scope, reason="r", actor="dewi", apply=True)
    clock.move(timedelta(hours=2))
    assert (await sync.freeze_due(seeded, clock, sync.closed_before(clock.now(), 300))).entries == 80
    assert await broken_invariants(seeded) == []


async def test_only_the_named_account_and_model_are_corrected(seeded, transacted, clock, published, used):
    await published(book())
    for narrowed in (
        {"model": "smollm2-135m"},
        {"account_id": (await seeded.fetchval("SELECT gen_random_uuid()"))},
    ):
        scope = Scope(book_id="idr-2", period=NOVEMBER, **narrowed)
        found = await transacted(service.recalculate, clock, scope, reason="r", actor="dewi", apply=False)
        assert found.corrections == ()


async def test_usage_of_a_model_that_the_book_lacks_is_not_repriced(transacted, clock, published, used):
    await seeded_delete(transacted)
    await published(book(models=("smollm2-135m",)))
    with pytest.raises(ModelNotPriced, match="nusantara-base"):
        await transacted(
            service.recalculate,
            clock,
            Scope(book_id="idr-2", period=NOVEMBER),
            reason="r",
            actor="dewi",
            apply=True,
        )


async def seeded_delete(transacted):
    """Let nobody pay in rupiah any more, so that an incomplete book may be published."""

    async def move(connection):
        await connection.execute("UPDATE account SET currency = 'usd'")

    await transacted(move)
