"""Where an account stands, as headers: OpenAI's names for the minute limits, the IETF draft's for the month.

The draft is "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers): a policy has a quota ``q``
and a window ``w``, a limit has what remains ``r`` and the seconds ``t`` to its reset.
"""

from gateway.clock import unix_seconds
from gateway.quota.model import MICROSECONDS_PER_SECOND, Standing
from gateway.units import ceil_div

SECONDS_PER_MINUTE = 60


def standing_headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """Write the headers of an admission or a refusal; a limit that is not set has none."""
    headers: list[tuple[bytes, bytes]] = []
    if standing.requests_limit is not None:
        headers += _minute_headers(
            b"requests", standing.requests_limit, standing.requests_remaining, standing.requests_reset_us
        )
    if standing.tokens_limit is not None:
        headers += _minute_headers(
            b"tokens", standing.tokens_limit, standing.tokens_remaining, standing.tokens_reset_us
        )
    if standing.month_limit is not None:
        remaining = max(0, standing.month_limit - standing.month_used - standing.month_held)
        reset_s = max(0, int(standing.month_resets_at.timestamp()) - unix_seconds())
        headers.append((b"ratelimit-policy", b'"month";q=%d;qu="tokens"' % standing.month_limit))
        headers.append((b"ratelimit", b'"month";r=%d;t=%d' % (remaining, reset_s)))
    return headers


def _minute_headers(
    what: bytes, limit: int, remaining: int | None, reset_us: int
) -> list[tuple[bytes, bytes]]:
    reset_s = ceil_div(reset_us, MICROSECONDS_PER_SECOND)
    duration = (
        b"%ds" % reset_s if reset_s < SECONDS_PER_MINUTE else b"%dm%ds" % divmod(reset_s, SECONDS_PER_MINUTE)
    )
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % (remaining or 0)),
        (b"x-ratelimit-reset-" + what, duration),
    ]
