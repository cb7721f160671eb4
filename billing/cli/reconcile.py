"""``nusagate reconcile``: comparing Stripe's sums with ours, and looking at what differed."""

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import rich_click as click

from billing.cli.parameters import DRY_RUN, reason_text
from billing.cli.session import with_stripe
from billing.corrections.model import Correction, CorrectionState
from billing.reconcile import store
from billing.settings import StripeSettings
from gateway.audit.model import Source
from gateway.cli.output import emit, json_option
from gateway.cli.session import CLOCK, connected, operator
from gateway.db.pool import Pool

if TYPE_CHECKING:
    from billing.reconcile.service import ReconcileReport
    from billing.stripe.client import Stripe

SHOWN_DEFAULT = 50
SHOWN_MAX = 1_000


@click.group(epilog="Example: nusagate reconcile run")
def reconcile() -> None:
    """Prove that what was sent to Stripe is what it counts."""


@reconcile.command(epilog="Example: nusagate reconcile run --all --max-reads 1000")
@click.option(
    "--all", "everybody", is_flag=True, help="Everybody with something to prove, not only whose turn it is."
)
@click.option("--max-reads", type=click.IntRange(1, 100_000), help="Reads of Stripe, which rations them.")
@json_option
def run(*, everybody: bool, max_reads: int | None, as_json: bool) -> None:
    """Compare, confirm what is there, and send again what is proved not to be."""
    # Loaded here so that other commands start without Stripe's SDK.
    from billing.reconcile.service import Reconciler  # noqa: PLC0415

    async def work(db: Pool, stripe: "Stripe", settings: StripeSettings) -> "ReconcileReport":
        reads = max_reads or settings.limits.stripe_reads_per_run
        return await Reconciler(db, CLOCK, stripe, max_reads=reads).run(everybody=everybody)

    emit(msgspec.to_builtins(with_stripe(work)), as_json=as_json)


@reconcile.command(epilog="Example: nusagate reconcile show --history")
@click.option("--history", is_flag=True, help="Also differences that are resolved.")
@click.option("--limit", type=click.IntRange(1, SHOWN_MAX), default=SHOWN_DEFAULT, show_default=True)
@json_option
def show(*, history: bool, limit: int, as_json: bool) -> None:
    """Show where Stripe and the ledger differ; amounts are Stripe's units, micro-dollars or milli-rupiah."""
    found = connected(lambda db: store.list_findings(db, open_only=not history, limit=limit))
    emit({"findings": msgspec.to_builtins(found)}, as_json=as_json, note=None if found else "No differences.")


@reconcile.command(
    epilog='Example: nusagate reconcile correct 0198c0de-0000-7000-8000-000000000000 --reason "sent by hand" --apply'
)
@click.argument("finding_id", metavar="FINDING", type=click.UUID)
@click.option(
    "--identifier", help="The event at Stripe that is too much, where it is known and younger than a day."
)
@click.option("--reason", required=True, help="Why; it is kept, and a line of the account's statement.")
@click.option("--apply", "apply_", is_flag=True, help="Do it; without it nothing is written or sent.")
@json_option
def correct(*, finding_id: UUID, identifier: str | None, reason: str, apply_: bool, as_json: bool) -> int:
    """Take back what Stripe counted too much: cancel the event, send its opposite, or grant credit.

    Typed again after an interruption, it goes on where it stopped. Exit status 1 when Stripe did not do it.
    """
    from billing.corrections import service  # noqa: PLC0415

    order = service.Order(
        finding_id=finding_id,
        reason=reason_text(reason),
        actor=operator(),
        source=Source.CLI,
        identifier=identifier,
    )

    async def work(db: Pool, stripe: "Stripe", _: StripeSettings) -> Correction:
        if apply_:
            return await service.correct(db, CLOCK, stripe, order)
        return await service.preview(db, CLOCK, order)

    found = with_stripe(work)
    emit({"applied": apply_, **msgspec.to_builtins(found)}, as_json=as_json, note=None if apply_ else DRY_RUN)
    return 1 if apply_ and found.state is not CorrectionState.DONE else 0
