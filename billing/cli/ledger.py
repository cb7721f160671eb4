"""What billing adds to ``nusagate ledger``: its own invariants to ``verify``, and adjusting by hand."""

from collections.abc import Callable
from uuid import UUID

import msgspec
import rich_click as click

from billing.adjustments import service as adjustments
from billing.adjustments.model import Adjusted, Adjustment
from billing.cli.parameters import DRY_RUN, SIGNED_AMOUNT_TYPE, reason_text
from billing.credit import service as credit
from billing.sync import service as sync
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option, waiting
from gateway.cli.parameters import MONTH_TYPE, account_option
from gateway.cli.session import CLOCK, connected, operator, transacted
from gateway.clock import Month
from gateway.db.pool import Connection
from gateway.ids import uuid7
from gateway.ledger import service as ledger
from gateway.ledger.model import InvariantCheck
from gateway.plans.model import LIMIT_MAX
from gateway.units import PICO_PER_MICRO


@click.command(epilog="Example: nusagate ledger verify --json")
@click.option(
    "--month", type=MONTH_TYPE, help="Only what is checked by months, in this one; everything by default."
)
@json_option
def verify(*, month: Month | None, as_json: bool) -> int:
    """Check every invariant, month by month; exit status 1 when one does not hold."""
    with waiting() as say:
        checks = connected(lambda db: _verify(db, month, say))
    ok = all(check.ok for check in checks)
    emit({"ok": ok, "checks": [msgspec.to_builtins(check) for check in checks]}, as_json=as_json)
    return 0 if ok else 1


@click.command(
    epilog='Example: nusagate ledger adjust --account 0198c0de-0000-7000-8000-000000000000 --amount -5000 --reason "sorry"'
)
@account_option
@click.option(
    "--amount",
    "amount_micro",
    type=SIGNED_AMOUNT_TYPE,
    default="0",
    help="Money in the account's currency, below zero in its favour.",
)
@click.option(
    "--tokens",
    type=click.IntRange(-LIMIT_MAX, LIMIT_MAX),
    default=0,
    help="Tokens of the month, below zero to give some back.",
)
@click.option("--reason", required=True, help="Why; it is a line of the statement.")
@click.option("--apply", "apply_", is_flag=True, help="Write it; without it nothing is written.")
@json_option
def adjust(
    *, account_id: UUID, amount_micro: int, tokens: int, reason: str, apply_: bool, as_json: bool
) -> None:
    """Adjust what an account owes and has used, in the current month; Stripe hears of it like of any usage."""
    why = reason_text(reason)
    adjustment = Adjustment(
        entry_id=uuid7(),
        amount_pico=amount_micro * PICO_PER_MICRO,
        tokens=tokens,
        reason=why,
        actor=operator(),
    )

    async def work(db: Connection) -> Adjusted:
        done = await adjustments.adjust(db, CLOCK, account_id, adjustment, apply=apply_)
        if apply_:
            await keep(
                db,
                "ledger:adjust",
                account_id=account_id,
                object_id=adjustment.entry_id,
                reason=why,
                before={"spent": done.spent_before, "used_tokens": done.used_tokens_before},
                after={"spent": done.spent_after, "used_tokens": done.used_tokens_after},
            )
        return done

    emit(msgspec.to_builtins(transacted(work)), as_json=as_json, note=None if apply_ else DRY_RUN)


async def _verify(db: Connection, month: Month | None, say: Callable[[str], None]) -> list[InvariantCheck]:
    checks = await ledger.verify(db, month=month, begin=say)
    checks += await sync.verify(db, month=month, begin=say)
    if month is None:
        say("credit")
        checks.append(await credit.verify(db))
    return checks
