"""The commands of the gateway's room: one file a noun, each command one call of a service.

``admin.cli`` joins them with the commands of the other rooms into ``nusagate``.
"""

import rich_click as click

from gateway.cli.accounts import account
from gateway.cli.audit import audit
from gateway.cli.database import migrate, seed
from gateway.cli.doctor import doctor
from gateway.cli.keys import key
from gateway.cli.plans import plan
from gateway.cli.prices import price
from gateway.cli.reports import ledger, quota, usage
from gateway.cli.serving import gateway, simulator

COMMANDS: tuple[click.RichCommand, ...] = (
    migrate,
    seed,
    doctor,
    gateway,
    simulator,
    account,
    key,
    plan,
    price,
    quota,
    usage,
    ledger,
    audit,
)
