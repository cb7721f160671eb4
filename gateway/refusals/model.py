"""Why a request was refused, as one word of a closed set."""

import msgspec

from gateway.errors import NusagateError
from gateway.quota.model import InsufficientQuota, RateLimited


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests were refused for one reason: a limit's name or an error's code."""

    reason: str
    requests: int


def reason_of(error: NusagateError) -> str:
    """Name the limit that refused a request where it was one, the error's code otherwise."""
    if isinstance(error, RateLimited):
        return error.limit
    if isinstance(error, InsufficientQuota):
        return error.quota.scope
    return error.code
