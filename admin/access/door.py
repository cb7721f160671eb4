"""What letting people in needs, made once for each process and handed to every service of this room."""

import ipaddress

import msgspec

from admin.access.keyring import Keyring
from admin.access.passwords import Hasher
from admin.settings import PortalLimits
from gateway.clock import Clock

AGENT_LENGTH_MAX = 200


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """The clock, the secrets, the hasher and the limits; ``public_url`` is where links in mail lead."""

    clock: Clock
    keyring: Keyring
    hasher: Hasher
    limits: PortalLimits
    public_url: str
    free_budget_tokens: int | None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request comes from: its network, what its browser calls itself, and the token of its cookie."""

    network: str
    agent: str
    browser_token: str


def network_of(address: str) -> str:
    """Name the network that limits count: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))
