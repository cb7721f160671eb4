"""Credit that is paid in advance: the only thing that can be spent, drawn exactly, and never out of nothing."""

import random
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from billing.account_jobs import account_jobs, spending_jobs
from billing.caps import service as caps
from billing.credit import service, store
from billing.credit.model import CreditCurrencyMismatch, NoCredit, Side, Transfer
from billing.credit.topups import start_top_up
from billing.invoices import closing
from billing.invoices.model import MonthState
from billing.invoices.statements import statement_of
from billing.reconcile.service import Reconciler
from billing.stripe.clock import plan_clock
from billing.sync import service as sync
from billing.sync import worker
from billing.sync.sender import Sender
from billing.webhooks.service import Processor
from gateway.accounts import service as accounts
from gateway.accounts.model import AccountNotFound
from gateway.errors import InvalidValue
from gateway.ids import uuid7
from gateway.quota.model import InsufficientQuota
from gateway.units import Currency
from tests.integration.test_billing_caps import DECEMBER, OUTPUT_PICO, Till, end_somehow
from tests.plugins.billing import broken_invariants
from tests.plugins.shop import FAILS_LATER, GOOD, URLS

RUPIAH = 10**12
TEN = datetime(2026, 11, 23, 10, tzinfo=UTC)
STRADDLES = 29
GRACE = timedelta(days=7)


@pytest.fixture
async def till(seeded, clock, peppers, sari):
    made = Till(seeded, clock, peppers, sari)
    yield made
    await made.meter.close()


async def move(till, amount_pico, *, key="test", side=Side.GRANTED, currency=Currency.IDR, owner=None):
    transfer = Transfer(
        key=key, owner_id=owner or till.person.account_id, currency=currency, side=side,
        amount_pico=amount_pico, reason="tested", actor="dewi",
    )  # fmt: skip
    async with till.db.acquire() as connection, connection.transaction():
        return await service.credit(connection, till.clock, transfer, GRACE)


async def draw(till):
    await service.draw_all(till.db, till.clock, GRACE, till.clock)


async def left(till):
    return await store.left(till.db, till.person.account_id, till.clock.now())


async def plan(till):
    return (await accounts.get(till.db, till.person.account_id)).plan_id


async def journal(till):
    """The balance as the journal alone tells it."""
    place, _ = await store.find_balance(till.db, till.person.account_id)
    return sum(entry.amount_pico for entry in await store.latest_entries(till.db, place, 1_000))


# ------------------------------------------------------------------ the journal


async def test_a_transfer_has_two_sides_and_happens_once(till):
    assert await move(till, 50 * RUPIAH)
    assert not await move(till, 50 * RUPIAH)
    rows = await till.db.fetch(
        "SELECT a.kind, e.amount_pico FROM credit_entry e JOIN credit_account a USING (credit_account_id)"
    )
    assert {(row["kind"], int(row["amount_pico"])) for row in rows} == {
        ("balance", 50 * RUPIAH), ("granted", -50 * RUPIAH),
    }  # fmt: skip
    assert (await left(till), (await service.verify(till.db)).ok) == (50 * RUPIAH, True)


async def test_money_cannot_come_out_of_nothing(till):
    await move(till, RUPIAH)
    place, _ = await store.find_balance(till.db, till.person.account_id)
    with pytest.raises(asyncpg.RestrictViolationError, match="sum to zero"):
        await till.db.execute(
            "INSERT INTO credit_entry VALUES ('forged', $1, 5, 'forged', 'nobody', now())", place
        )
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await till.db.execute("UPDATE credit_entry SET amount_pico = amount_pico * 2")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await till.db.execute("DELETE FROM credit_entry")


async def test_no_more_can_be_taken_back_than_there_is(till):
    await move(till, 10 * RUPIAH)
    with pytest.raises(InvalidValue, match="less credit"):
        await move(till, -11 * RUPIAH, key="back", side=Side.TAKEN_BACK)
    assert await move(till, -10 * RUPIAH, key="back", side=Side.TAKEN_BACK)
    assert (await left(till), await plan(till)) == (0, "free")


@pytest.mark.parametrize(("amount", "more", "error"), [
    (0, {}, InvalidValue),
    (-1, {}, InvalidValue),
    (5, {"owner": uuid7()}, AccountNotFound),
])  # fmt: skip
async def test_a_transfer_that_is_none_is_refused(till, amount, more, error):
    with pytest.raises(error):
        await move(till, amount, **more)


async def test_credit_is_in_one_currency(till):
    await move(till, RUPIAH)
    with pytest.raises(CreditCurrencyMismatch):
        await move(till, RUPIAH, key="other", currency=Currency.USD)


async def test_who_never_had_credit_has_none_to_show(till):
    assert await left(till) is None
    with pytest.raises(NoCredit):
        await service.show(till.db, till.clock, till.person.account_id)


# ------------------------------------------------------------------ spending


async def test_credit_brings_the_plan_that_is_paid_by_use_and_limits_it(till):
    await move(till, 60 * RUPIAH)
    assert await plan(till) == "payg"
    hold = await till.admit(output_tokens=100_000)
    assert hold.reservation.reserved_tokens == 40_000
    with pytest.raises(InsufficientQuota):
        await till.admit()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_credit_is_never_overdrawn_and_almost_used_up(till, seed):
    dice = random.Random(seed)
    await move(till, 60 * RUPIAH)
    open_holds, refused = [], 0
    while refused < 5:
        try:
            open_holds.append(
                await till.admit(input_tokens=dice.randint(1, 2_000), output_tokens=dice.randint(16, 4_000))
            )
        except InsufficientQuota:
            refused += 1
            while open_holds:
                await end_somehow(till, open_holds.pop(), dice)
            await caps.keep_caps(till.db, till.clock)
        if dice.randrange(3) == 0 and open_holds:
            await end_somehow(till, open_holds.pop(dice.randrange(len(open_holds))), dice)
        if dice.randrange(4) == 0:
            till.clock.move(timedelta(minutes=20))
            await caps.keep_caps(till.db, till.clock)
        if dice.randrange(9) == 0 and await left(till) > 400 * OUTPUT_PICO:
            # With less it would fall back to the free plan, and not be paid by use any more.
            await draw(till)
    till.clock.moment = DECEMBER + timedelta(minutes=1)
    await draw(till)
    assert await journal(till) == 60 * RUPIAH - await till.spent()
    assert 0 <= await journal(till) < 5_000 * OUTPUT_PICO
    assert (await service.verify(till.db)).ok


async def test_usage_is_written_once_an_hour_and_when_its_month_is_over(till):
    await move(till, 60 * RUPIAH)
    await till.settle(await till.admit(output_tokens=1_000))
    used = await till.spent()
    await draw(till)
    assert (await journal(till), await left(till)) == (60 * RUPIAH, 60 * RUPIAH - used)
    till.clock.move(timedelta(hours=1))
    await draw(till)
    await draw(till)
    assert await journal(till) == await left(till) == 60 * RUPIAH - used
    await till.settle(await till.admit(output_tokens=1_000))
    till.clock.moment = DECEMBER + timedelta(seconds=5)
    await draw(till)
    assert await journal(till) == await left(till) == 60 * RUPIAH - 2 * used


async def test_what_straddles_the_end_of_a_month_is_drawn_too(till):
    await move(till, 60 * RUPIAH)
    hold = await till.admit(output_tokens=1_000)
    till.clock.moment = DECEMBER + timedelta(minutes=5)
    await draw(till)
    await till.settle(hold)
    await draw(till)
    assert await journal(till) == 60 * RUPIAH - await till.spent()


async def test_a_months_last_minutes_and_the_next_month_share_what_is_left(till):
    await move(till, 60 * RUPIAH)
    till.clock.moment = DECEMBER - timedelta(minutes=1)
    await caps.keep_caps(till.db, till.clock)
    before = await till.admit(output_tokens=100_000)
    till.clock.moment = DECEMBER + timedelta(minutes=1)
    after = await till.admit(output_tokens=100_000)
    assert (before.reservation.reserved_tokens, after.reservation.reserved_tokens) == (20_000, 20_000)
    await till.settle(before)
    await till.settle(after)
    await draw(till)
    assert await left(till) >= 0


async def test_a_new_month_waits_for_what_is_left_to_be_known(till):
    await move(till, 60 * RUPIAH)
    till.clock.moment = DECEMBER + timedelta(minutes=1)
    with pytest.raises(InsufficientQuota):
        await till.admit()
    await caps.keep_caps(till.db, till.clock)
    assert (await till.admit(output_tokens=100_000)).reservation.reserved_tokens == 40_000


async def test_used_up_credit_leads_back_to_the_free_plan_and_more_of_it_away_again(till):
    await move(till, 6 * RUPIAH)
    await till.settle(await till.admit(output_tokens=100_000))
    await draw(till)
    assert await plan(till) == "free"
    await move(till, 60 * RUPIAH, key="more")
    assert await plan(till) == "payg"


async def test_what_was_used_before_there_was_credit_is_not_drawn(till):
    await accounts.set_plan(till.db, till.person.account_id, "payg")
    await till.settle(await till.admit(output_tokens=1_000))
    await move(till, 60 * RUPIAH)
    till.clock.move(timedelta(hours=2))
    await draw(till)
    assert await left(till) == 60 * RUPIAH


async def test_a_cap_and_credit_hold_together(till):
    await move(till, 60 * RUPIAH)
    async with till.db.acquire() as connection, connection.transaction():
        cap = caps.SpendCap(monthly_tokens=5_000, monthly_micro=None)
        assert (await caps.set_cap(connection, till.clock, till.person.account_id, cap)).limit_tokens == 5_000
    await caps.remove_cap(till.db, till.clock, till.person.account_id)
    assert (await till.admit(output_tokens=100_000)).reservation.reserved_tokens == 40_000


# ------------------------------------------------------------------ paying in


async def top_up(shop, person, amount_minor):
    return await start_top_up(
        shop.db, shop.clock, shop.stripe, person.account_id, amount_minor=amount_minor, urls=URLS
    )


async def test_paying_in_credits_the_account_once(shop, sari):
    url = await top_up(shop, sari, 5_000_000)
    assert shop.sandbox.submit(url, action="pay", card="4242")[0] == 303
    events = shop.new_events()
    for _ in range(2):
        for event in events:
            await shop.post({**event, "id": f"{event['id']}_{_}"})
        await shop.processor.run()
    view = await service.show(shop.db, shop.clock, sari.account_id)
    assert (view.balance, [entry.reason for entry in view.latest]) == ("50000", ["paid in"])
    assert await shop.standing(sari) == ("payg", "active")


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_transfer_counts_when_it_arrives(shop, sari, arrives):
    url = await top_up(shop, sari, 5_000_000)
    shop.sandbox.submit(url, action="later")
    await shop.catch_up()
    assert await store.left(shop.db, sari.account_id, shop.clock.now()) is None
    session_id = await shop.db.fetchval("SELECT session_id FROM checkout_session")
    shop.sandbox.post(f"checkout/{session_id}", action="settle", succeeded=arrives)
    await shop.catch_up()
    expected = 50_000 * RUPIAH if arrives else None
    assert await store.left(shop.db, sari.account_id, shop.clock.now()) == expected


@pytest.mark.parametrize("amount", [0, -5, 999_999, 10_000_000_001])
async def test_only_reasonable_amounts_are_paid_in(shop, sari, amount):
    with pytest.raises(InvalidValue, match="Credit is paid in"):
        await top_up(shop, sari, amount)


async def test_while_a_subscription_pays_credit_is_left_alone(shop, sari, peppers):
    url = await top_up(shop, sari, 5_000_000)
    shop.sandbox.submit(url, action="pay", card="4242")
    await shop.catch_up()
    till = Till(shop.db, shop.clock, peppers, sari)
    await till.settle(await till.admit(output_tokens=1_000))
    await draw(till)
    prepaid = await till.spent()
    shop.move(seconds=1)
    await shop.subscribed(sari, "payg")
    await caps.keep_caps(shop.db, shop.clock)
    shop.move(seconds=1)
    till = Till(shop.db, shop.clock, peppers, sari)
    assert (await till.keys.authenticate(sari.api_key)).month_limit(shop.clock.now()) > 10**12
    await till.settle(await till.admit(output_tokens=3_000))
    shop.clock.moment = datetime(2026, 12, 1, 0, 5, tzinfo=UTC)
    await draw(till)
    assert await left(till) == 50_000 * RUPIAH - prepaid
    statement = await statement_of(shop.db, sari.account_id, "2026-11")
    assert statement.credit_pico == prepaid
    assert statement.usage_pico == await till.spent()
    assert (await statement_of(shop.db, sari.account_id, "2026-9")).period == "2026-09"
    await till.meter.close()


@pytest.mark.parametrize("more_tokens", [0, 3])
async def test_a_month_that_credit_and_a_subscription_share_is_paid_once_to_the_minor_unit(
    shop, sari, peppers, more_tokens
):
    # Three tokens more leave half a unit of the meter on both sides, and half a minor unit on Stripe's.
    async def use(*, minute, hold=None):
        """Be served at a minute past ten; return what is held until it ends."""
        shop.move_to(TEN + timedelta(minutes=minute))
        till = Till(shop.db, shop.clock, peppers, sari)
        held = hold or await till.admit(output_tokens=1_000 + more_tokens * (minute in {5, 40}))
        if hold or minute != STRADDLES:
            await till.settle(held)
        await till.meter.close()
        return held

    async def carry():
        await draw(shop)
        await worker.run(shop.db, shop.clock, sender, cutoff=sync.closed_before(shop.clock.now(), 300))
        shop.move(minutes=16)
        await Reconciler(shop.db, shop.clock, shop.stripe, max_reads=1_000).run(everybody=True)

    sender = Sender(shop.db, shop.clock, shop.stripe, shop.settings)
    shop.move_to(TEN)
    shop.sandbox.submit(await top_up(shop, sari, 5_000_000), action="pay", card=GOOD)
    await shop.catch_up()
    await use(minute=5)
    straddling = await use(minute=STRADDLES)
    shop.move_to(TEN + timedelta(minutes=30))
    await shop.buy(sari, "payg")
    # Stripe's event has not come yet, so this is taken for prepaid at first.
    await use(minute=31)
    await draw(shop)
    await shop.catch_up()
    await use(minute=40)
    await use(minute=41, hold=straddling)
    shop.move_to(TEN + timedelta(minutes=70))
    await carry()
    shop.move_to(DECEMBER + timedelta(minutes=6))
    await carry()
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    statement = await statement_of(shop.db, sari.account_id, "2026-11")
    assert statement.credit_pico * 2 == statement.usage_pico > 0
    assert statement.stripe_usage_minor == statement.usage_minor > 0
    assert (
        await store.left(shop.db, sari.account_id, shop.clock.now())
        == 50_000 * RUPIAH - statement.credit_pico
    )
    assert (await closing.advance(shop.db, shop.clock, "2026-11")).state is MonthState.CLOSED
    assert await broken_invariants(shop.db) == []


async def test_credit_keeps_to_the_time_of_the_plans_where_a_sandbox_is_ahead(shop, sari, tmp_path):
    ahead = tmp_path / "ahead"
    settings = msgspec.structs.replace(shop.settings, clock_file=ahead)
    shop.sandbox.submit(await top_up(shop, sari, 5_000_000), action="pay", card=GOOD)
    await shop.subscribed(sari, "basic", FAILS_LATER)
    ahead.write_text(str(10 * 86_400))
    shop.sandbox.advance(10 * 86_400)
    shop.processor = Processor(shop.db, plan_clock(shop.clock, settings), shop.stripe, settings)
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")
    jobs = {job.name: job for job in spending_jobs(shop.clock, settings)}
    jobs |= {job.name: job for job in account_jobs(shop.db, shop.clock, shop.stripe, settings)}
    ahead.write_text(str(25 * 86_400))
    await jobs["entitlements"].run(shop.db)
    assert await shop.standing(sari) == ("basic", "payment_required")
    await jobs["credit"].run(shop.db)
    assert await shop.standing(sari) == ("basic", "payment_required")
