"""Mailboxes: different spellings that reach the same one, and hosts that give one to anybody for ten minutes."""

from functools import cache
from importlib.resources import files

from admin.access.model import AddressRefused

DOTLESS_HOSTS = frozenset({"gmail.com", "googlemail.com"})


def mailbox_of(email: str) -> str:
    """Name the mailbox that a normalised address reaches: without ``+tag``, and without dots where they are ignored."""
    name, _, host = email.rpartition("@")
    name = name.partition("+")[0]
    if host in DOTLESS_HOSTS:
        name, host = name.replace(".", ""), "gmail.com"
    return f"{name}@{host}"


def check_host(email: str) -> None:
    """Refuse an address of a disposable host, or of a host below one: ``AddressRefused``."""
    labels = email.rpartition("@")[2].split(".")
    hosts = {".".join(labels[start:]) for start in range(len(labels))}
    if len(labels) == 1 or hosts & disposable_hosts():
        raise AddressRefused(
            "Use an e-mail address that you will keep; this host is for throw-away addresses.", param="email"
        )


@cache
def disposable_hosts() -> frozenset[str]:
    """Read the hosts of throw-away addresses."""
    text = (files("admin.access") / "disposable_hosts.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
