"""Billing in tests: a Stripe sandbox that stands at the tests' clock, paying accounts, and usage in the ledger."""

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from billing.credit import service as credit
from billing.reconcile import store as findings
from billing.reconcile.service import Reconciler
from billing.settings import StripeSettings
from billing.stripe.client import Stripe
from billing.stripe.meters import ensure_meters
from billing.stripe.money import STRIPE_MONEY
from billing.sync import service as sync
from billing.sync import worker
from billing.sync.sender import Sender
from gateway.accounts import service as accounts
from gateway.db.pool import Pool
from gateway.ledger import service as ledger
from gateway.units import Currency
from tests.contract.stripe.contract import hold_to_contract
from tests.contract.stripe.sandbox import SandboxProcess, running_sandbox

MODEL = "nusantara-base"

SPEND = """
WITH entry AS (
    INSERT INTO ledger_entry (
        entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model, endpoint, plan_id, period,
        input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens, output_reasoning_tokens,
        output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable, usage_source, end_reason, duration_ms)
    SELECT gen_random_uuid(), gen_random_uuid(), 'usage', s.at, s.at, s.account_id, s.key_id, $3, 'responses', 'payg',
        to_char(s.at AT TIME ZONE 'UTC', 'YYYY-MM'), s.input, 0, 0, s.output, 0, 0, s.input + s.output, s.currency,
        s.currency || '-1', s.input * i.micro_per_mtok + s.output * o.micro_per_mtok, true, 'upstream', 'completed', 5
    FROM (
        SELECT a.account_id, md5('key of ' || a.account_id)::uuid AS key_id, a.currency,
            h.hour + make_interval(secs => 3599.0 * n / $5) AS at,
            1 + (hashtextextended(a.account_id::text || h.hour || n, $4) & 1023) AS input,
            1 + (hashtextextended(a.account_id::text || h.hour || n, $4 + 1) & 511) AS output
        FROM account a CROSS JOIN unnest($2::timestamptz[]) AS h(hour) CROSS JOIN generate_series(0, $5 - 1) AS n
        WHERE a.account_id = ANY ($1::uuid[])
    ) s
    JOIN price_rate i ON i.book_id = s.currency || '-1' AND i.model = $3 AND i.token_class = 'input_text'
    JOIN price_rate o ON o.book_id = s.currency || '-1' AND o.model = $3 AND o.token_class = 'output_text'
    RETURNING entry_id, account_id, currency, occurred_at, amount_pico
)
INSERT INTO billing_outbox (entry_id, account_id, currency, occurred_at, amount_pico) SELECT * FROM entry
"""


class Customer(msgspec.Struct, frozen=True):
    """An account that pays by use, and who it is at Stripe."""

    account_id: UUID
    customer_id: str
    currency: Currency


@pytest.fixture(scope="session")
def stripe_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """The one sandbox of this run's billing tests."""
    with running_sandbox(Path(tmp_path_factory.mktemp("stripe"))) as process:
        yield process


@pytest.fixture
def sandbox(stripe_process: SandboxProcess, clock) -> SandboxProcess:
    """An empty sandbox at the moment of the tests' clock."""
    stripe_process.reset(now=int(clock.now().timestamp()))
    return stripe_process


@pytest.fixture
def stripe_settings(sandbox: SandboxProcess) -> StripeSettings:
    """Settings with the product's own deadlines: a busy machine misses shorter ones, and the event then goes out later."""
    return StripeSettings(
        secret_key="sk_test_billing",
        webhook_secret="whsec_billing",
        api_base=sandbox.url,
    )


@pytest.fixture
async def stripe(stripe_settings: StripeSettings) -> AsyncIterator[Stripe]:
    """A client of the sandbox, in which our meters exist; all that it sends is held to Stripe's contract."""
    client = Stripe(stripe_settings)
    hold_to_contract(client._transport)
    await ensure_meters(client)
    yield client
    await client.close()


@pytest.fixture
def sender(seeded: Pool, clock, stripe: Stripe, stripe_settings: StripeSettings) -> Sender:
    return Sender(seeded, clock, stripe, stripe_settings, dice=random.Random(1))


@pytest.fixture
async def consumer(seeded: Pool, clock, stripe: Stripe) -> Customer:
    """Sari, who pays by use in rupiah."""
    return await pay_by_use(seeded, clock, stripe, "sari@example.com", Currency.IDR)


class Desk:
    """The worker's two jobs, and a clock that Stripe shares."""

    def __init__(self, db, clock, sender, stripe, sandbox):
        self.db, self.clock, self.sender, self.stripe, self.sandbox = db, clock, sender, stripe, sandbox

    def wait(self, length):
        self.clock.move(length)
        self.sandbox.move_to(int(self.clock.now().timestamp()))

    async def sync(self):
        cutoff = sync.closed_before(self.clock.now(), 300)
        return await worker.run(self.db, self.clock, self.sender, cutoff=cutoff)

    async def reconcile(self, *, everybody=True, max_reads=100):
        return await Reconciler(self.db, self.clock, self.stripe, max_reads=max_reads).run(
            everybody=everybody
        )

    async def states(self):
        rows = await self.db.fetch("SELECT state FROM stripe_batch ORDER BY window_start, frozen_at")
        return [row["state"] for row in rows]

    async def findings(self):
        return await findings.list_findings(self.db, open_only=True, limit=10)


@pytest.fixture
def desk(seeded, clock, sender, stripe, sandbox) -> Desk:
    return Desk(seeded, clock, sender, stripe, sandbox)


async def pay_by_use(db: Pool, clock, stripe: Stripe, email: str, currency: Currency) -> Customer:
    """Make an account on the metered plan and its customer at Stripe."""
    account = await accounts.create(db, clock, email=email, plan_id="payg", currency=currency)
    customer = await stripe.write(
        lambda sdk, options: sdk.v1.customers.create_async({"email": email}, options),
        idempotency_key=f"customer:{account.account_id}",
    )
    await db.execute(
        "INSERT INTO stripe_customer (account_id, customer_id, created_at, changed_at) VALUES ($1, $2, $3, $3)",
        account.account_id, customer.id, clock.now(),
    )  # fmt: skip
    return Customer(account.account_id, customer.id, currency)


async def spend(
    db: Pool, accounts_: Sequence[UUID], hours: Sequence[datetime], *, entries: int, seed: int = 0
) -> None:
    """Settle ``entries`` requests of random size for each account in each hour, spread over the hour."""
    await db.execute(SPEND, list(accounts_), list(hours), MODEL, seed, entries, timeout=300)


async def fill_read_models(db: Pool) -> None:
    """Let the read models know what ``spend`` put into the ledger."""
    await db.execute(
        "INSERT INTO account_period_total SELECT account_id, period, currency, count(*), sum(input_text_tokens),"
        " sum(output_text_tokens), sum(quota_tokens), sum(amount_pico), sum(amount_pico) FROM ledger_entry GROUP BY 1, 2, 3"
    )
    await db.execute(
        "INSERT INTO usage_hourly SELECT account_id, date_trunc('hour', occurred_at, 'UTC'), key_id, model, end_reason,"
        " currency, count(*), sum(input_text_tokens), 0, sum(output_text_tokens), 0, sum(amount_pico)"
        " FROM ledger_entry GROUP BY 1, 2, 3, 4, 5, 6"
    )


async def broken_invariants(db: Pool) -> list[str]:
    """Name what ``nusagate ledger verify`` would find; the tests' usage lands where no partition is."""
    checks = [*await ledger.verify(db), *await sync.verify(db), await credit.verify(db)]
    return [
        check.invariant
        for check in checks
        if not check.ok and check.invariant != "every month has its partition"
    ]


async def spend_exactly(db: Pool, customer: Customer, at: datetime, amount_pico: int) -> None:
    """Put one amount into the outbox."""
    await db.execute(
        "INSERT INTO billing_outbox (entry_id, account_id, currency, occurred_at, amount_pico) "
        "VALUES (gen_random_uuid(), $1, $2, $3, $4)",
        customer.account_id, customer.currency, at, amount_pico,
    )  # fmt: skip


async def outbox_units(db: Pool, customer: Customer) -> int:
    """What Stripe must have counted at the end: whole units of each month's outbox, rounded down."""
    unit = STRIPE_MONEY[customer.currency].meter_unit_pico
    rows = await db.fetch(
        "SELECT sum(amount_pico) AS pico FROM billing_outbox WHERE account_id = $1 AND currency = $2 "
        "GROUP BY to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM')",
        customer.account_id, customer.currency,
    )  # fmt: skip
    return sum(int(row["pico"]) // unit for row in rows)


def counted(sandbox: SandboxProcess, customer: Customer) -> int:
    """What the sandbox has counted for a customer."""
    return int(sandbox.sum_of(customer.customer_id, STRIPE_MONEY[customer.currency].event_name) or 0)
