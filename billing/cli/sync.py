"""``nusagate sync``: carrying usage to Stripe by hand, seeing where it stands, and deciding about dead letters."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from billing.cli.parameters import DRY_RUN, reason_text
from billing.cli.session import with_stripe
from billing.settings import StripeSettings
from billing.sync import service, store, writeoffs
from billing.sync.model import Verdict
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import MomentType
from gateway.cli.session import CLOCK, connected, operator, transacted
from gateway.db.pool import Connection, Pool
from gateway.errors import InvalidValue

if TYPE_CHECKING:
    from billing.stripe.client import Stripe


class UntilType(MomentType):
    """A moment, or ``now``."""

    name = "now|moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the text of an option."""
        return CLOCK.now() if value == "now" else super().convert(value, param, ctx)


@click.group(epilog="Example: nusagate sync status")
def sync() -> None:
    """Carry usage to Stripe, and see where it stands."""


@sync.command(epilog="Example: nusagate sync run --until now")
@click.option(
    "--until",
    type=UntilType(),
    help="Usage from before this moment, even of an hour that is not over; complete hours without it.",
)
@json_option
def run(*, until: datetime | None, as_json: bool) -> None:
    """Freeze what is complete and send everything that is due; a worker does the same all the time."""
    # Loaded here so that other commands start without Stripe's SDK.
    from billing.sync import worker  # noqa: PLC0415
    from billing.sync.sender import Sender  # noqa: PLC0415

    async def work(db: Pool, stripe: "Stripe", settings: StripeSettings) -> worker.SyncReport:
        now = CLOCK.now()
        if until is not None and until > now:
            raise InvalidValue("--until must not be in the future.", param="until")
        cutoff = until or service.closed_before(now, settings.limits.stripe_settle_delay_s)
        frozen = await service.freeze_due(db, CLOCK, cutoff)
        waiting = (await store.count_states(db))["waiting"]
        with _progress(waiting, as_json=as_json) as advance:
            sender = Sender(db, CLOCK, stripe, settings)
            return await worker.send_due(db, CLOCK, sender, frozen, progress=advance)

    emit(msgspec.to_builtins(with_stripe(work)), as_json=as_json)


@sync.command(epilog="Example: nusagate sync status --json")
@json_option
def status(*, as_json: bool) -> None:
    """Show what Stripe does not have yet, and why."""
    emit(msgspec.to_builtins(connected(service.status)), as_json=as_json)


@sync.command(
    epilog='Example: nusagate sync retry 0198c0de-0000-4000-8000-000000000000 --reason "meter reactivated"'
)
@click.argument("batch_id", metavar="BATCH", type=click.UUID)
@click.option("--reason", required=True, help="Why; it is kept with the batch.")
@json_option
def retry(*, batch_id: UUID, reason: str, as_json: bool) -> None:
    """Have a dead letter sent again, or a batch compared again that Stripe should have."""
    why = reason_text(reason)

    async def work(db: Connection) -> store.BatchRow:
        batch = await service.retry(db, CLOCK, batch_id, reason=why, actor=operator())
        after = {"state": batch.state, "generation": batch.generation}
        await keep(
            db, "batch:retry", account_id=batch.account_id, object_id=batch_id, reason=why, after=after
        )
        return batch

    emit(msgspec.to_builtins(transacted(work)), as_json=as_json)


@sync.command(epilog="Example: nusagate sync old --json")
@click.option("--account", "account_id", type=click.UUID, help="Only this account's.")
@json_option
def old(*, account_id: UUID | None, as_json: bool) -> None:
    """List usage that Stripe will never take, because it is older than 34 days: bill it by hand, or write it off."""
    found = connected(lambda db: writeoffs.old_usage(db, CLOCK, account_id=account_id))
    note = None if found.batches else "Nothing is too old for Stripe."
    emit(msgspec.to_builtins(found), as_json=as_json, note=note)


@sync.command("write-off", epilog='Example: nusagate sync write-off --all --reason "outage in May" --apply')
@click.argument("batch_ids", metavar="[BATCH]...", type=click.UUID, nargs=-1)
@click.option("--account", "account_id", type=click.UUID, help="All that is too old of this account.")
@click.option("--all", "everything", is_flag=True, help="All that is too old.")
@click.option(
    "--reason", required=True, help="Why; it is kept on every entry. Name the invoice item if there is one."
)
@click.option("--apply", "apply_", is_flag=True, help="Write it off; without it nothing is written.")
@json_option
def write_off(
    *,
    batch_ids: tuple[UUID, ...],
    account_id: UUID | None,
    everything: bool,
    reason: str,
    apply_: bool,
    as_json: bool,
) -> None:
    """Give up usage that is too old for Stripe: entries of this month take back what it cost."""
    if (bool(batch_ids), account_id is not None, everything).count(True) != 1:
        raise InvalidValue("Name batches, or --account, or --all.", param="batch")
    why = reason_text(reason)

    async def work(db: Connection) -> writeoffs.WriteOff:
        chosen = batch_ids or await writeoffs.choose(db, CLOCK, account_id)
        done = await writeoffs.write_off(db, CLOCK, chosen, reason=why, actor=operator(), apply=apply_)
        for batch in done.batches if done.applied else ():
            await keep(
                db,
                "batch:write_off",
                account_id=batch.account_id,
                object_id=batch.batch_id,
                reason=why,
                after={"entries": batch.entries, "amount": batch.amount},
            )
        return done

    note = None if apply_ else DRY_RUN
    emit(msgspec.to_builtins(transacted(work)), as_json=as_json, note=note)


@sync.command(epilog="Example: nusagate sync setup")
@json_option
def setup(*, as_json: bool) -> None:
    """Make the spend meters in Stripe that are missing; doing it again changes nothing."""
    # Loaded here so that other commands start without Stripe's SDK.
    from billing.stripe.meters import ensure_meters  # noqa: PLC0415

    async def work(_: Pool, stripe: "Stripe", __: StripeSettings) -> dict[str, str]:
        return {currency.value: meter_id for currency, meter_id in (await ensure_meters(stripe)).items()}

    emit({"meters": with_stripe(work)}, as_json=as_json)


@contextlib.contextmanager
def _progress(total: int, *, as_json: bool) -> Iterator[Callable[[Verdict], None]]:
    """Show a bar on a terminal, and nothing where nobody watches."""
    if as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("Sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("sending", total=total)
        yield lambda _: bar.advance(task)
