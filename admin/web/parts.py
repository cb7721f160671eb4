"""The parts that pages are made with, joined once for each process and handed to every route."""

from typing import Any, TypeAlias

import msgspec
from litestar import Request
from litestar.datastructures import State

from admin.access.door import Door
from admin.settings import PortalSettings
from admin.web.assets import Assets
from admin.web.relay import Relay
from admin.web.templates import Templates
from admin.web.visitor import Visitor, visitor_of
from billing.settings import StripeLimits
from billing.stripe.client import Stripe
from gateway.accounts import service as accounts
from gateway.accounts.model import Account
from gateway.clock import Clock
from gateway.db.pool import Pool

PageRequest: TypeAlias = Request[Any, Any, State]


class Till(msgspec.Struct, frozen=True, kw_only=True):
    """How money is taken: the connection to Stripe, the bounds on what it is asked, and the time that plans live in."""

    stripe: Stripe
    limits: StripeLimits
    clock: Clock


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything behind the pages; ``till`` is ``None`` where there is no Stripe."""

    settings: PortalSettings
    till: Till | None
    door: Door
    db: Pool
    assets: Assets
    templates: Templates
    relay: Relay

    @property
    def plan_clock(self) -> Clock:
        """The clock by which plans begin and end, which runs ahead where a sandbox lets months pass."""
        return self.door.clock if self.till is None else self.till.clock


def parts_of(request: PageRequest) -> Parts:
    """Return the parts of the process that serves a request."""
    parts: Parts = request.app.state["parts"]
    return parts


def visitor_in(request: PageRequest) -> Visitor:
    """Return who sent a request."""
    return visitor_of(request.scope)


async def account_in(request: PageRequest) -> Account:
    """Read the account of the person who sent a request."""
    return await accounts.get(parts_of(request).db, visitor_in(request).inside.person.account_id)
