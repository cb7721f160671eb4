"""The rule of all limits in one place, pure: what an account may still do, and what each request changes about it.

Both engines repeat this, ``reserve_v1`` in ``gateway/db/schema.sql`` and the scripts in ``gateway/quota/scripts``, because a
decision must be made where the counters are. The tests feed all three the same histories and compare every answer and
every counter, so a change of the rule begins here.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from gateway.clock import day_of, month_of
from gateway.quota.gcra import MINUTE_US, GcraDecision, gcra, gcra_refund
from gateway.quota.model import Decision, ReserveRequest
from gateway.units import ceil_div

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CONCURRENCY_RETRY_US = 1_000_000

Counted = tuple[UUID, str]
"""A subject (an account or a key) and a month or day."""


def moment_of(unix_us: int) -> datetime:
    """Turn microseconds since 1970 into a moment, exactly."""
    return EPOCH + unix_us * MICROSECOND


def unix_us_of(moment: datetime) -> int:
    """Turn a moment into microseconds since 1970, exactly."""
    return (moment - EPOCH) // MICROSECOND


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one request in flight has taken."""

    request: ReserveRequest
    granted_output: int
    reserved_tokens: int
    admitted_us: int
    requests_us: int
    tokens_us: int

    @property
    def counted(self) -> list[Counted]:
        """The counters that the request belongs to: those of its admission, whenever it ends."""
        return counted_for(self.request, moment_of(self.admitted_us))


def counted_for(request: ReserveRequest, admitted_at: datetime) -> list[Counted]:
    """Name the counters of a request: its account's month and day, and its key's month."""
    month, day = month_of(admitted_at), day_of(admitted_at)
    return [(request.account_id, month), (request.account_id, day), (request.key_id, month)]


class AccountLimits:
    """One account: what it has used and holds, its minute buckets, and its requests in flight."""

    def __init__(self) -> None:
        self.used: Counter[Counted] = Counter()
        self.held: Counter[Counted] = Counter()
        self.holds: dict[UUID, Held] = {}
        self.requests_tat_us = 0
        self.tokens_tat_us = 0

    def reserve(self, request: ReserveRequest, now_us: int) -> Decision:
        """Admit a request and hold its tokens, or say what refuses it; repeating one in flight changes nothing."""
        known = self.holds.get(request.request_id)
        if known is not None:
            return self._decision(request, now_us, known.granted_output, admitted_us=known.admitted_us)
        scope, granted = self._room(request, now_us)
        if granted < min(request.output_min, request.output_tokens):
            return self._decision(request, now_us, granted, refused_by=scope, retry_after_us=MINUTE_US)
        if request.concurrency is not None and request.concurrency <= len(self.holds):
            return self._decision(
                request, now_us, granted, refused_by="concurrency", retry_after_us=CONCURRENCY_RETRY_US
            )
        reserved = request.input_tokens + request.choices * granted
        requests = _bucket(self.requests_tat_us, now_us, 1, request.requests_per_minute)
        if not requests.allowed:
            wait_us = requests.retry_after_us or MINUTE_US
            return self._decision(
                request, now_us, granted, refused_by="requests_per_minute", retry_after_us=wait_us
            )
        tokens = _bucket(self.tokens_tat_us, now_us, reserved, request.tokens_per_minute)
        if not tokens.allowed:
            return self._decision(
                request,
                now_us,
                granted,
                refused_by="tokens_per_minute",
                retry_after_us=tokens.retry_after_us,
            )
        held = Held(
            request=request,
            granted_output=granted,
            reserved_tokens=reserved,
            admitted_us=now_us,
            requests_us=_cost_us(1, request.requests_per_minute),
            tokens_us=_cost_us(reserved, request.tokens_per_minute),
        )
        self.holds[request.request_id] = held
        self.requests_tat_us, self.tokens_tat_us = requests.tat_us, tokens.tat_us
        for counted in held.counted:
            self.held[counted] += reserved
        return self._decision(request, now_us, granted)

    def settle(self, request_id: UUID, used_tokens: int, now_us: int) -> bool:
        """Turn a hold into use, once; minute tokens that were not used come back. Say whether there was a hold."""
        held = self.holds.pop(request_id, None)
        if held is None:
            return False
        for counted in held.counted:
            self.held[counted] -= held.reserved_tokens
            self.used[counted] += used_tokens
        if held.request.tokens_per_minute:
            self.tokens_tat_us = gcra_refund(
                self.tokens_tat_us,
                now_us,
                cost_back=max(0, held.reserved_tokens - used_tokens),
                admitted_us=held.admitted_us,
                limit_per_minute=held.request.tokens_per_minute,
            )
        return True

    def release(self, request_id: UUID) -> bool:
        """Undo a reservation as if it had never been; say whether there was one."""
        held = self.holds.pop(request_id, None)
        if held is None:
            return False
        for counted in held.counted:
            self.held[counted] -= held.reserved_tokens
        self.requests_tat_us -= held.requests_us
        self.tokens_tat_us -= held.tokens_us
        return True

    def _room(self, request: ReserveRequest, now_us: int) -> tuple[str | None, int]:
        """Return the limit that leaves the least room, and the output that fits; on a tie the first one counts."""
        account_month, account_day, key_month = counted_for(request, moment_of(now_us))
        rooms = [
            (limit - self.used[counted] - self.held[counted], scope)
            for scope, limit, counted in (
                ("month", request.month_limit, account_month),
                ("key_month", request.key_limit, key_month),
                ("tokens_per_day", request.day_limit, account_day),
            )
            if limit is not None
        ]
        if request.tokens_per_minute is not None:
            # A request larger than a whole minute's tokens could never be admitted, so it is clamped to them.
            rooms.append((request.tokens_per_minute, "tokens_per_minute"))
        if not rooms:
            return None, request.output_tokens
        room, scope = min(rooms, key=lambda entry: entry[0])
        return scope, min(request.output_tokens, (room - request.input_tokens) // request.choices)

    def _decision(
        self,
        request: ReserveRequest,
        now_us: int,
        granted_output: int,
        *,
        refused_by: str | None = None,
        retry_after_us: int = 0,
        admitted_us: int | None = None,
    ) -> Decision:
        account_month, account_day, key_month = counted_for(request, moment_of(now_us))
        scope = {"key_month": key_month, "tokens_per_day": account_day}.get(refused_by or "", account_month)
        requests = _bucket(self.requests_tat_us, now_us, 0, request.requests_per_minute)
        tokens = _bucket(self.tokens_tat_us, now_us, 0, request.tokens_per_minute)
        return Decision(
            refused_by=refused_by,
            granted_output=granted_output,
            admitted_at=moment_of(now_us if admitted_us is None else admitted_us),
            month_used=self.used[account_month],
            month_held=self.held[account_month],
            scope_used=self.used[scope],
            scope_held=self.held[scope],
            retry_after_us=retry_after_us,
            requests_remaining=None if request.requests_per_minute is None else requests.remaining,
            requests_reset_us=requests.reset_us,
            tokens_remaining=None if request.tokens_per_minute is None else tokens.remaining,
            tokens_reset_us=tokens.reset_us,
        )


def _bucket(tat_us: int, now_us: int, cost: int, limit_per_minute: int | None) -> GcraDecision:
    """Ask a bucket for ``cost`` units; without a limit everything passes, with a limit of 0 only nothing does."""
    if limit_per_minute:
        return gcra(tat_us, now_us, cost=cost, limit_per_minute=limit_per_minute, burst=limit_per_minute)
    return GcraDecision(
        allowed=limit_per_minute is None or cost == 0,
        tat_us=tat_us,
        retry_after_us=0,
        remaining=0,
        reset_us=max(0, tat_us - now_us),
    )


def _cost_us(cost: int, limit_per_minute: int | None) -> int:
    return ceil_div(cost * MINUTE_US, limit_per_minute) if limit_per_minute else 0
