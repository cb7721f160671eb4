"""Minute limits: the generic cell rate algorithm (GCRA), in whole microseconds.

A bucket is one integer, the theoretical arrival time (TAT): the moment at which everything admitted so far has
drained at the limit's rate. Admitting ``cost`` units moves it ``cost`` emission intervals of
``60 s / limit_per_minute`` into the future, and it may never be further ahead than ``burst`` units take. So any
60 seconds admit at most ``burst + limit_per_minute`` units, and any instant at most ``burst``.

An interval is rarely a whole number of microseconds. Rounding always errs towards refusing: an admission is
rounded up, by less than 1 us, and a refund down. To make room for that, the tolerance has one microsecond for each unit
of the burst, but always less than ``burst + 1`` units take: without it, seven requests at once under a limit of seven
would miss by 3 us, and with more an eighth would pass a moment later.

The engines repeat this arithmetic in PL/pgSQL and Lua, whose numbers are doubles. With limits up to ``UNITS_MAX``
and times in microseconds since 1970, every intermediate value is an integer below 2^53, where
``floor(a / b)`` is exact too.
"""

import msgspec

from gateway.units import ceil_div

MINUTE_US = 60_000_000

UNITS_MAX = 60_000_000
"""No limit or burst is larger: a unit must take at least 1 us, and ``MINUTE_US * burst`` stays below 2^53."""


class GcraDecision(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer of a bucket.

    ``tat_us`` is to be stored; a refusal leaves it as it was. ``retry_after_us`` is the wait after which the same
    request would be admitted if no other came; 0 when allowed, and when ``impossible``: the cost exceeds the
    burst and waiting does not help. ``remaining`` is the largest cost that would be admitted next, at the same
    moment. ``reset_us`` is the time until everything admitted has drained.
    """

    allowed: bool
    tat_us: int
    retry_after_us: int
    remaining: int
    reset_us: int
    impossible: bool = False


def gcra(tat_us: int, now_us: int, *, cost: int, limit_per_minute: int, burst: int) -> GcraDecision:
    """Decide whether a bucket admits ``cost`` units now; a bucket never used has ``tat_us`` 0.

    ``limit_per_minute`` and ``burst`` are 1 to ``UNITS_MAX``. A cost of 0 only looks.
    """
    assert 1 <= limit_per_minute <= UNITS_MAX
    assert 1 <= burst <= UNITS_MAX
    assert cost >= 0
    tolerance_us = min(
        (MINUTE_US * (burst + 1) - 1) // limit_per_minute,
        ceil_div(MINUTE_US * burst, limit_per_minute) + burst,
    )
    impossible = cost > burst
    retry_after_us = 0
    if not impossible:
        admitted_tat_us = max(tat_us, now_us) + ceil_div(cost * MINUTE_US, limit_per_minute)
        retry_after_us = max(0, admitted_tat_us - tolerance_us - now_us)
    allowed = not impossible and retry_after_us == 0
    if allowed:
        tat_us = admitted_tat_us
    reset_us = max(0, tat_us - now_us)
    return GcraDecision(
        allowed=allowed,
        tat_us=tat_us,
        retry_after_us=retry_after_us,
        remaining=max(0, tolerance_us - reset_us) * limit_per_minute // MINUTE_US,
        reset_us=reset_us,
        impossible=impossible,
    )


def gcra_refund(tat_us: int, now_us: int, *, cost_back: int, admitted_us: int, limit_per_minute: int) -> int:
    """Return the TAT after giving back ``cost_back`` of the units admitted at ``admitted_us``.

    The time since the admission is taken off the refund, because in it those units may have drained already, and
    giving back what has drained would let slow requests walk the bucket backwards. So the bucket is never
    more generous than if the true cost had been known at admission.
    """
    assert 1 <= limit_per_minute <= UNITS_MAX
    assert 0 <= cost_back <= UNITS_MAX
    elapsed_us = max(0, now_us - admitted_us)
    return tat_us - max(0, cost_back * MINUTE_US // limit_per_minute - elapsed_us)
