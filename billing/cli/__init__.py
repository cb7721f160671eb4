"""The commands of this room, and what it adds to those of the gateway.

``admin.cli`` joins them into ``nusagate``.
"""

import rich_click as click

from billing.cli.customers import stripe, subscription, webhook
from billing.cli.invoices import invoice, period, statement
from billing.cli.ledger import adjust, verify
from billing.cli.prices import discard, draft, publish, recalculate, review
from billing.cli.reconcile import reconcile
from billing.cli.spending import cap, credit
from billing.cli.sync import sync
from gateway.cli.prices import price
from gateway.cli.reports import ledger

ledger.add_command(verify)
ledger.add_command(adjust)
for command in (draft, review, publish, discard, recalculate):
    price.add_command(command)

COMMANDS: tuple[click.RichCommand, ...] = (
    sync,
    reconcile,
    stripe,
    subscription,
    webhook,
    invoice,
    statement,
    period,
    cap,
    credit,
)
