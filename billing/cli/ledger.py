"""``nusagate ledger verify`` with the invariants of batches and of credit beside those of the ledger."""

import msgspec
import rich_click as click

from billing.credit import service as credit
from billing.sync import service as sync
from gateway.cli.output import emit, json_option
from gateway.cli.session import connected
from gateway.db.pool import Connection
from gateway.ledger import service as ledger
from gateway.ledger.model import InvariantCheck


@click.command(epilog="Example: nusagate ledger verify --json")
@json_option
def verify(*, as_json: bool) -> int:
    """Check every invariant; exit status 1 when one does not hold."""
    checks = connected(_verify)
    ok = all(check.ok for check in checks)
    emit({"ok": ok, "checks": [msgspec.to_builtins(check) for check in checks]}, as_json=as_json)
    return 0 if ok else 1


async def _verify(db: Connection) -> list[InvariantCheck]:
    return [*await ledger.verify(db), *await sync.verify(db), await credit.verify(db)]
