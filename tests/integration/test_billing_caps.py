"""Caps of money and tokens hold at admission whatever is asked for, rise as answers turn out cheaper, and send mail once."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from billing.caps import service
from billing.caps.model import NoCap, SpendCap
from gateway.accounts import service as accounts
from gateway.accounts.model import AccountNotFound
from gateway.errors import InvalidValue
from gateway.ids import uuid7
from gateway.keys.cache import KeyCache
from gateway.keys.service import KeyService
from gateway.ledger.model import Charge, EndReason, UsageSource
from gateway.ledger.service import Ledger
from gateway.metering.meter import Meter
from gateway.prices.service import BookCache
from gateway.quota.model import InsufficientQuota, ReserveRequest
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from gateway.units import PICO_PER_MICRO, TokenCounts
from tests.fakes.key_lookups import ENDLESS, listener_of, until

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
RUPIAH = 10**6
OUTPUT_PICO = 1_500_000_000
"""Pico-rupiah of one written token, the dearest there is."""


class Till:
    """A gateway without its network: keys, admission and settlement on one clock."""

    def __init__(self, db, clock, peppers, person) -> None:
        self.db = db
        self.clock = clock
        self.person = person
        self.keys = KeyService(db, clock, peppers, KeyCache(Limits()))
        limits = Limits()
        ledger = Ledger(db, limits, health=None, spool=None)
        self.meter = Meter(db, PostgresQuota(db, limits, clock=clock), ledger, BookCache())

    async def admit(self, *, input_tokens=100, output_tokens=4_000):
        """Ask for an answer of so many tokens; the grant may be smaller."""
        record = await self.keys.authenticate(self.person.api_key)
        return await self.meter.admit(
            ReserveRequest(
                request_id=uuid7(), account_id=record.account_id, key_id=record.key_id, model="nusantara-base",
                endpoint="responses", stream=False, plan_id=record.plan_id, billable=True, currency=record.currency,
                input_tokens=input_tokens, output_tokens=output_tokens, output_min=16, choices=1, deadline_s=60,
                month_limit=record.month_limit(self.clock.now()),
            )
        )  # fmt: skip

    async def settle(self, hold, *, input_text=None, output_text=None) -> None:
        """End a request; it used all that was held unless said otherwise."""
        counts = TokenCounts(
            input_text=hold.request.input_tokens if input_text is None else input_text,
            output_text=hold.reservation.granted_output_tokens if output_text is None else output_text,
        )
        charge = Charge(counts=counts, source=UsageSource.UPSTREAM)
        await hold.settle(EndReason.COMPLETED, charge, upstream="local", kept=None, replay=None)

    async def spent(self, period="2026-11") -> int:
        """What the month has cost, in pico-currency."""
        found = await self.db.fetchval(
            "SELECT billable_pico FROM account_period_total WHERE period = $1", period
        )
        return int(found or 0)


@pytest.fixture
async def till(seeded, clock, peppers, sari):
    await accounts.set_plan(seeded, sari.account_id, "payg")
    made = Till(seeded, clock, peppers, sari)
    yield made
    await made.meter.close()


async def cap(till, *, tokens=None, rupiah=None):
    async with till.db.acquire() as connection, connection.transaction():
        found = SpendCap(monthly_tokens=tokens, monthly_micro=None if rupiah is None else rupiah * RUPIAH)
        return await service.set_cap(connection, till.clock, till.person.account_id, found)


async def mails(db):
    return await db.fetch("SELECT address, subject, body FROM mail_outbox ORDER BY created_at, mail_id")


# ------------------------------------------------------------------ hard limits


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_is_spent_never_passes_the_cap_and_comes_close_to_it(till, seed):
    dice = random.Random(seed)
    await cap(till, rupiah=60)
    open_holds, refused = [], 0
    while refused < 5:
        try:
            open_holds.append(
                await till.admit(input_tokens=dice.randint(1, 3_000), output_tokens=dice.randint(16, 4_000))
            )
        except InsufficientQuota:
            refused += 1
            while open_holds:
                await end_somehow(till, open_holds.pop(), dice)
            await service.keep_caps(till.db, till.clock)
        if dice.randrange(3) == 0 and open_holds:
            await end_somehow(till, open_holds.pop(dice.randrange(len(open_holds))), dice)
        if dice.randrange(5) == 0:
            await service.keep_caps(till.db, till.clock)
    limit = 60 * RUPIAH * PICO_PER_MICRO
    assert limit - 5_000 * OUTPUT_PICO < await till.spent() <= limit


async def end_somehow(till, hold, dice):
    granted = hold.reservation.granted_output_tokens
    await till.settle(hold, output_text=dice.choice([0, granted // 3, granted]))


async def test_a_cap_of_tokens_is_exact(till):
    await cap(till, tokens=5_000)
    hold = await till.admit(output_tokens=100_000)
    assert hold.reservation.reserved_tokens == 5_000
    with pytest.raises(InsufficientQuota) as refused:
        await till.admit()
    assert (refused.value.quota.limit, refused.value.quota.remaining) == (5_000, 0)
    await till.settle(hold, output_text=900)
    assert (await till.admit(output_tokens=100_000)).reservation.reserved_tokens == 4_000


async def test_the_smaller_of_two_caps_holds(till):
    assert (await cap(till, tokens=1_000, rupiah=60)).limit_tokens == 1_000
    assert (await cap(till, tokens=10**9, rupiah=60)).limit_tokens == 40_000


async def test_a_limit_rises_as_answers_cost_less_than_they_might(till):
    assert (await cap(till, rupiah=60)).limit_tokens == 40_000
    hold = await till.admit(input_tokens=30_000, output_tokens=16)
    await till.settle(hold, output_text=0)
    assert await service.keep_caps(till.db, till.clock) == 1
    assert (await service.show(till.db, till.clock, till.person.account_id)).limit_tokens == 30_000 + 34_000


async def test_a_limit_stays_while_little_changes(till):
    await cap(till, rupiah=60_000)
    await till.settle(await till.admit(), output_text=0)
    assert await service.keep_caps(till.db, till.clock) == 0


async def test_a_cap_that_is_lowered_holds_at_once(till):
    await cap(till, rupiah=60)
    await till.settle(await till.admit(input_tokens=10_000, output_tokens=16))
    assert (await cap(till, rupiah=1)).limit_tokens == 10_016
    with pytest.raises(InsufficientQuota):
        await till.admit()


async def test_a_new_month_begins_at_zero_although_nobody_has_looked(till):
    await cap(till, rupiah=60)
    await till.settle(await till.admit(input_tokens=39_000, output_tokens=900), output_text=900)
    await service.keep_caps(till.db, till.clock)
    till.clock.moment = DECEMBER + timedelta(seconds=3)
    assert (await till.admit(output_tokens=100_000)).reservation.reserved_tokens == 40_000


async def test_a_limit_of_last_month_never_holds_in_the_next(till):
    await cap(till, rupiah=60)
    for _ in range(2):
        await till.settle(await till.admit(input_tokens=30_000, output_tokens=16), output_text=0)
        await service.keep_caps(till.db, till.clock)
    assert (await service.show(till.db, till.clock, till.person.account_id)).limit_tokens == 88_000
    for moment in (DECEMBER - timedelta(seconds=1), DECEMBER + timedelta(seconds=1)):
        till.clock.moment = moment
        record = await till.keys.authenticate(till.person.api_key)
        assert record.month_limit(moment) == 40_000


async def test_a_dearer_book_lowers_the_limit(till):
    await cap(till, rupiah=60)
    await till.db.execute("ALTER TABLE price_rate DISABLE TRIGGER price_rate_immutable")
    await till.db.execute(
        "UPDATE price_rate SET micro_per_mtok = 3000000000 WHERE token_class = 'output_text'"
    )
    await till.db.execute("ALTER TABLE price_rate ENABLE TRIGGER price_rate_immutable")
    await service.keep_caps(till.db, till.clock)
    assert (await service.show(till.db, till.clock, till.person.account_id)).limit_tokens == 20_000


async def test_a_cap_does_not_touch_what_a_plan_includes(till):
    await cap(till, rupiah=0)
    with pytest.raises(InsufficientQuota):
        await till.admit()
    await accounts.set_plan(till.db, till.person.account_id, "basic")
    record = await KeyService(
        till.db, till.clock, {1: b"the pepper of the tests"}, KeyCache(Limits())
    ).authenticate(till.person.api_key)
    assert record.month_limit(till.clock.now()) == 66_667


async def test_without_its_cap_an_account_spends_what_it_likes(till):
    await cap(till, rupiah=0)
    await service.remove_cap(till.db, till.clock, till.person.account_id)
    assert (await till.keys.authenticate(till.person.api_key)).guard is None
    await till.admit()
    for lost in (
        service.remove_cap(till.db, till.clock, till.person.account_id),
        service.show(till.db, till.clock, uuid7()),
    ):
        with pytest.raises(NoCap):
            await lost


@pytest.mark.parametrize("wrong", [{}, {"tokens": -1}, {"rupiah": -1}, {"tokens": 10**16}])
async def test_a_cap_that_is_none_is_refused(till, wrong):
    with pytest.raises(InvalidValue, match="cap"):
        await cap(till, **wrong)


async def test_only_accounts_can_be_capped(till):
    async with till.db.acquire() as connection:
        with pytest.raises(AccountNotFound):
            await service.set_cap(
                connection, till.clock, uuid7(), SpendCap(monthly_tokens=1, monthly_micro=None)
            )


async def test_a_running_gateway_hears_of_a_cap(till, peppers, database_url):
    cache = KeyCache(ENDLESS)
    keys = KeyService(till.db, till.clock, peppers, cache)
    async with listener_of(cache, database_url):
        assert (await keys.authenticate(till.person.api_key)).guard is None
        await cap(till, tokens=77)
        await until(lambda: len(cache) == 0)
        assert (await keys.authenticate(till.person.api_key)).month_limit(till.clock.now()) == 77


# ------------------------------------------------------------------ mail


async def test_each_threshold_sends_one_mail(till):
    await cap(till, tokens=10_000)
    for used, expected in ((4_000, 0), (1_500, 1), (1_000, 1), (2_000, 2), (1_400, 3), (0, 3)):
        if used:
            hold = await till.admit(input_tokens=used - 16, output_tokens=16)
            await till.settle(hold)
        await service.keep_caps(till.db, till.clock)
        await service.keep_caps(till.db, till.clock)
        assert len(await mails(till.db)) == expected
    subjects = [mail["subject"] for mail in await mails(till.db)]
    assert subjects == [
        "50 % of your spending cap is used", "80 % of your spending cap is used", "Your spending cap is reached",
    ]  # fmt: skip
    assert {mail["address"] for mail in await mails(till.db)} == {"sari@example.com"}


async def test_who_passes_several_thresholds_at_once_gets_one_mail(till):
    await cap(till, rupiah=60)
    await till.settle(await till.admit(output_tokens=100_000))
    await service.keep_caps(till.db, till.clock)
    [mail] = await mails(till.db)
    assert mail["subject"] == "Your spending cap is reached"
    assert "of the 60 IDR" in mail["body"]
    assert "2026-12-01T00:00:00Z" in mail["body"]


async def test_mails_are_in_the_language_of_the_person(till):
    await till.db.execute(
        "INSERT INTO person (person_id, account_id, email, password_hash, language, created_at, password_changed_at) "
        "VALUES (gen_random_uuid(), $1, 'sari@example.com', '-', 'id', now(), now())",
        till.person.account_id,
    )
    await cap(till, tokens=1_000)
    await till.settle(await till.admit(input_tokens=500, output_tokens=16))
    await service.keep_caps(till.db, till.clock)
    [mail] = await mails(till.db)
    assert mail["subject"] == "50 % batas pengeluaran Anda terpakai"


async def test_a_new_month_sends_its_mails_again(till):
    await cap(till, tokens=1_000)
    for moment in (till.clock.now(), DECEMBER + timedelta(hours=1)):
        till.clock.moment = moment
        await till.settle(await till.admit(input_tokens=500, output_tokens=16))
        await service.keep_caps(till.db, till.clock)
    assert len(await mails(till.db)) == 2
