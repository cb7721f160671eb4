"""The commands of this room, and what it adds to those of the gateway.

``admin.cli`` joins them into ``nusagate``.
"""

import rich_click as click

from billing.cli.ledger import verify
from billing.cli.reconcile import reconcile
from billing.cli.sync import sync
from gateway.cli.reports import ledger

ledger.add_command(verify)

COMMANDS: tuple[click.RichCommand, ...] = (sync, reconcile)
