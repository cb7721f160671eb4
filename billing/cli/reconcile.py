"""``nusagate reconcile``: comparing Stripe's sums with ours, and looking at what differed."""

import msgspec
import rich_click as click

from billing.cli.session import with_stripe
from billing.reconcile import service
from billing.settings import StripeSettings
from billing.stripe.client import Stripe
from gateway.cli.output import emit, json_option
from gateway.cli.session import CLOCK, connected
from gateway.db.pool import Pool

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

    async def work(db: Pool, stripe: Stripe, settings: StripeSettings) -> service.ReconcileReport:
        reads = max_reads or settings.limits.stripe_reads_per_run
        return await service.Reconciler(db, CLOCK, stripe, max_reads=reads).run(everybody=everybody)

    emit(msgspec.to_builtins(with_stripe(work)), as_json=as_json)


@reconcile.command(epilog="Example: nusagate reconcile show --history")
@click.option("--history", is_flag=True, help="Also differences that are resolved.")
@click.option("--limit", type=click.IntRange(1, SHOWN_MAX), default=SHOWN_DEFAULT, show_default=True)
@json_option
def show(*, history: bool, limit: int, as_json: bool) -> None:
    """Show where Stripe and the ledger differ; amounts are Stripe's units, micro-dollars or milli-rupiah."""
    found = connected(lambda db: service.findings(db, open_only=not history, limit=limit))
    emit({"findings": msgspec.to_builtins(found)}, as_json=as_json, note=None if found else "No differences.")
