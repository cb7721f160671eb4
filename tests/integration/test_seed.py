"""Seeding: plans become what the files say, a price book is published once and never changes."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.cli.seeding import SEED_FILES, apply_seed, load_seed
from gateway.errors import ConfigurationError
from gateway.plans.model import AccountLimits, PlanNotFound
from gateway.plans.service import get_plan, list_plans
from gateway.prices.model import BookConflict, BookNotFound, ModelRates, PriceBook
from gateway.prices.service import BookCache, books_at, load_book, publish
from gateway.units import Currency

BOOK_HEAD = "[[price_books]]\nbook_id='b'\ncurrency='idr'\nversion=1\neffective_from=2026-01-01T00:00:00"


async def apply(db, clock, seed):
    async with db.acquire() as connection, connection.transaction():
        await apply_seed(connection, clock, seed)


async def publish_one(db, clock, book):
    async with db.acquire() as connection, connection.transaction():
        return await publish(connection, clock, book, published_by="dewi")


def next_book(clock, **changes) -> PriceBook:
    book = PriceBook(
        book_id="idr-2",
        currency=Currency.IDR,
        version=2,
        effective_from=clock.now() + timedelta(days=8),
        rates={"nusantara-base": ModelRates(input_text=400_000_000, output_text=1_600_000_000)},
    )
    return msgspec.structs.replace(book, **changes)


# ------------------------------------------------------------------ plans


async def test_the_shipped_plans_are_those_of_the_contract(seeded):
    plans = await list_plans(seeded)
    assert [
        (
            plan.plan_id,
            plan.limits.monthly_tokens,
            plan.limits.requests_per_minute,
            plan.limits.tokens_per_minute,
        )
        for plan in plans
    ] == [
        ("free", 10_000, 20, None),
        ("basic", 66_667, 30, 10_000),
        ("standard", 400_000, 100, 40_000),
        ("pro", 1_000_000, 400, 100_000),
        ("payg", None, 600, None),
        ("enterprise", None, None, None),
    ]
    assert [plan.monthly_price_micro.get(Currency.IDR) for plan in plans] == [
        0,
        9_999_000_000,
        59_999_000_000,
        149_999_000_000,
        None,
        None,
    ]
    assert [plan.monthly_price_micro.get(Currency.USD) for plan in plans] == [
        0,
        990_000,
        3_990_000,
        9_990_000,
        None,
        None,
    ]


async def test_seeding_twice_changes_nothing_and_tells_nobody(seeded, clock, database_url):
    seed = load_seed(SEED_FILES)
    before = await list_plans(seeded)
    versions = await seeded.fetch("SELECT plan_id, xmin FROM plan ORDER BY plan_id")
    await apply(seeded, clock, seed)
    assert await list_plans(seeded) == before == list(seed.plans)
    assert await seeded.fetch("SELECT plan_id, xmin FROM plan ORDER BY plan_id") == versions


async def test_two_who_seed_at_once_do_not_disturb_each_other(db, clock):
    seed = load_seed(SEED_FILES)
    await asyncio.gather(*(apply(db, clock, seed) for _ in range(4)))
    assert len(await list_plans(db)) == len(seed.plans)
    assert await books_at(db, clock.now(), None) == list(seed.price_books)


async def test_a_plan_becomes_what_the_file_says(seeded, clock):
    seed = load_seed(SEED_FILES)
    free = msgspec.structs.replace(
        seed.plans[0], limits=AccountLimits(monthly_tokens=20_000), monthly_price_micro={Currency.IDR: 5}
    )
    await apply(seeded, clock, msgspec.structs.replace(seed, plans=(free,)))
    assert await get_plan(seeded, "free") == free
    assert len(await list_plans(seeded)) == len(seed.plans)


async def test_a_plan_that_is_not_there_is_named(seeded):
    with pytest.raises(PlanNotFound, match="'platinum'"):
        await get_plan(seeded, "platinum")


# ------------------------------------------------------------------ price books


async def test_the_books_that_hold_are_the_seeded_ones(seeded, clock):
    books = await books_at(seeded, clock.now(), None)
    assert books == list(load_seed(SEED_FILES).price_books)
    assert await books_at(seeded, clock.now(), Currency.USD) == books[1:]
    assert await books_at(seeded, datetime(2019, 12, 31, tzinfo=UTC), None) == []


async def test_other_prices_under_a_published_version_are_refused(seeded, clock):
    book = load_seed(SEED_FILES).price_books[0]
    cheaper = msgspec.structs.replace(book, rates={"nusantara-base": ModelRates(input_text=1, output_text=1)})
    with pytest.raises(BookConflict, match="published prices never change"):
        await publish_one(seeded, clock, cheaper)
    with pytest.raises(BookConflict, match="published prices never change"):
        await publish_one(seeded, clock, msgspec.structs.replace(book, effective_to=clock.now()))
    with pytest.raises(BookConflict, match="is the price book idr-1 already"):
        await publish_one(seeded, clock, next_book(clock, version=1))
    assert await load_book(seeded, "idr-1") == book


async def test_a_new_book_ends_the_one_before_it_where_it_begins(seeded, clock):
    book = next_book(clock)
    assert await publish_one(seeded, clock, book) is True
    assert await publish_one(seeded, clock, book) is False
    moment = timedelta(microseconds=1)
    (old,) = await books_at(seeded, book.effective_from - moment, Currency.IDR)
    assert (old.book_id, old.effective_to) == ("idr-1", book.effective_from)
    assert await books_at(seeded, book.effective_from, Currency.IDR) == [book]


async def test_of_many_who_publish_a_book_at_once_one_does(seeded, clock):
    book = next_book(clock)
    published = await asyncio.gather(*(publish_one(seeded, clock, book) for _ in range(5)))
    assert sorted(published) == [False, False, False, False, True]


async def test_a_price_for_a_time_that_has_passed_is_never_changed(seeded, clock):
    with pytest.raises(BookConflict, match="must take effect later than 2026-11-23T02:00:00Z"):
        await publish_one(seeded, clock, next_book(clock, effective_from=clock.now()))


async def test_books_of_one_currency_never_hold_at_once(seeded, clock):
    await publish_one(seeded, clock, next_book(clock, effective_to=clock.now() + timedelta(days=30)))
    later = next_book(clock, book_id="idr-3", version=3, effective_from=clock.now() + timedelta(days=9))
    with pytest.raises(BookConflict, match="idr-3 overlaps another one in idr"):
        await publish_one(seeded, clock, later)


async def test_a_book_that_was_read_once_is_at_hand(seeded):
    cache = BookCache()
    books = await asyncio.gather(*(cache.get(seeded, "idr-1") for _ in range(50)))
    assert {id(book) for book in books} == {id(await cache.get(seeded, "idr-1"))}


async def test_a_book_that_is_not_there_is_named(seeded):
    with pytest.raises(BookNotFound, match="'idr-9'"):
        await BookCache().get(seeded, "idr-9")


# ------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plans = 3", r"plans\.toml: Expected `array`.*plans"),
        ("[[plans]]\nplan_id = 'Free'", r"plan_id"),
        ("nonsense", r"plans\.toml: Expected '='"),
        ("[[price]]", r"unknown field `price`"),
        (
            "[[price_books]]\nbook_id='b'\ncurrency='idr'\nversion=1\neffective_from=2026-01-01T00:00:00\n",
            "timezone",
        ),
        (
            BOOK_HEAD + "Z\n[price_books.models.m]\ninput_text=0.5\noutput_text=1\n",
            r"Expected `int`, got `float`",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_field(tmp_path, text, said):
    path = tmp_path / "plans.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load_seed([path])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read"):
        load_seed([tmp_path / "nowhere.toml"])


def test_a_plan_that_is_there_twice_is_refused():
    with pytest.raises(ConfigurationError, match=r"basic, enterprise.* twice"):
        load_seed([*SEED_FILES, SEED_FILES[0]])
