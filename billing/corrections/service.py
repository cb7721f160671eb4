"""Taking a surplus back at Stripe, once, whatever dies in between.

What Stripe is told is written down first, under a deterministic identifier and key, so a command that died is simply
typed again. The ledger was right, so its adjustment moves no money: it says for good that Stripe was put right, why and
by whom. The difference itself is closed by the next comparison that agrees, not here.
"""

from uuid import UUID

import msgspec

from billing.adjustments import service as adjustments
from billing.adjustments import store as standings
from billing.adjustments.model import Adjustment
from billing.books.store import lock_gates
from billing.corrections import store
from billing.corrections.model import (
    Correction,
    CorrectionState,
    NotCorrectable,
    Way,
    check,
    may_follow,
    plan,
)
from billing.stripe import grants, meters
from billing.stripe.client import Stripe
from billing.stripe.errors import Effect, StripeError, StripeRefused
from billing.stripe.money import STRIPE_MONEY
from gateway.audit import service as audit
from gateway.audit.model import Source
from gateway.clock import Clock
from gateway.db.pool import Connection, Pool
from gateway.ids import uuid7
from gateway.runtime.failpoints import failpoint

CREDIT_NAME = "Usage that was counted too much"
ATTEMPTS_MAX = 3
"""Ways of one run: an event that cannot be cancelled any more is followed by one of the opposite value."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decided; ``identifier`` names the event that is too much, where it is known."""

    finding_id: UUID
    reason: str
    actor: str
    source: Source
    identifier: str | None = None


async def preview(db: Pool, clock: Clock, order: Order) -> Correction:
    """Say what would be done, and write nothing. ``NotCorrectable``."""
    async with db.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            return (await _decide(connection, clock, order))[0]
        finally:
            await transaction.rollback()


async def correct(db: Pool, clock: Clock, stripe: Stripe, order: Order) -> Correction:
    """Take a surplus back; typed again it goes on where it stopped, and what is done is not done twice.

    ``NotCorrectable``; Stripe's own errors end up in the correction.
    """
    for _ in range(ATTEMPTS_MAX):
        async with db.acquire() as connection, connection.transaction():
            correction, is_new = await _decide(connection, clock, order)
            if correction.state is CorrectionState.DONE:
                return correction
            if is_new:
                await store.insert(connection, correction)
            await store.begin(connection, correction.correction_id, clock.now())
        failpoint("correct.before_post")
        error = await _post(stripe, correction)
        failpoint("correct.after_post")
        async with db.acquire() as connection, connection.transaction():
            correction = await _record(connection, clock, correction, error, order.source)
        failpoint("correct.after_commit")
        if not (correction.way is Way.CANCEL and correction.state is CorrectionState.FAILED):
            break
    return correction


async def _decide(connection: Connection, clock: Clock, order: Order) -> tuple[Correction, bool]:
    """Return the correction that is under way or was made, or a new one; ``True`` for a new one."""
    now = clock.now()
    finding = await store.lock_finding(connection, order.finding_id)
    if finding is None:
        raise NotCorrectable(f"There is no difference {order.finding_id}: `nusagate reconcile show`.")
    last = await store.last_correction(connection, order.finding_id)
    if last is not None and last.state is not CorrectionState.FAILED:
        if finding.resolved_at is not None:
            return await _settle_resolved(connection, clock, last, order.source), False
        if not may_follow(finding, last, now):
            return last, False
    check(finding)
    around = await store.surroundings(connection, finding, now)
    named = order.identifier
    if named is not None and (last is None or last.identifier != named):
        if await store.is_batch(connection, named):
            raise NotCorrectable(f"{named} is a batch of ours: it must be counted.", param="identifier")
        around = msgspec.structs.replace(around, cancellable=named)
    if last is not None and last.state is CorrectionState.WAITING:
        await _end(connection, clock, last, CorrectionState.FAILED, "had_no_effect")
    new = plan(finding, around, correction_id=uuid7(), reason=order.reason, actor=order.actor, now=now)
    return new, True


async def _post(stripe: Stripe, correction: Correction) -> StripeError | None:
    key = correction.idempotency_key
    try:
        match correction.way:
            case Way.CANCEL:
                assert correction.identifier is not None
                event_name = STRIPE_MONEY[correction.currency].event_name
                await meters.cancel(stripe, event_name, correction.identifier, idempotency_key=key)
            case Way.EVENT:
                await meters.send(stripe, correction.event(), idempotency_key=key)
            case Way.CREDIT if correction.credit_minor:
                await _grant(stripe, correction, correction.credit_minor)
    except StripeError as error:
        return error
    return None


async def _grant(stripe: Stripe, correction: Correction, minor: int) -> None:
    """Grant credit, unless an earlier attempt did: no sum of Stripe's shows it, but its list of grants does."""
    key = correction.idempotency_key
    if correction.first_attempt_at is None or not await grants.is_granted(
        stripe, correction.customer_id, key
    ):
        await grants.grant(
            stripe, correction.customer_id, correction.currency, minor, name=CREDIT_NAME, idempotency_key=key
        )


async def _record(
    connection: Connection, clock: Clock, correction: Correction, error: StripeError | None, source: Source
) -> Correction:
    """Write down what Stripe said; with success the adjustment and the trace of who did it."""
    if error is None or error.effect is Effect.DONE:
        return await _finish(connection, clock, correction, source)
    is_final = isinstance(error, StripeRefused) and correction.first_attempt_at is None
    state = CorrectionState.FAILED if is_final else CorrectionState.WAITING
    is_unsure = error.effect is Effect.UNKNOWN or correction.first_attempt_at is not None
    label = f"{error.code}:{error.answer.stripe_code}" if error.answer.stripe_code else error.code
    await _end(connection, clock, correction, state, label, is_unsure=is_unsure)
    return msgspec.structs.replace(correction, state=state, last_error=label)


async def _finish(connection: Connection, clock: Clock, correction: Correction, source: Source) -> Correction:
    await lock_gates(connection, [correction.account_id])
    entry = Adjustment(
        entry_id=uuid7(), amount_pico=0, tokens=0, reason=correction.reason, actor=correction.actor
    )
    done = msgspec.structs.replace(correction, state=CorrectionState.DONE, entry_id=entry.entry_id)
    if not await _end(connection, clock, correction, CorrectionState.DONE, None, entry_id=entry.entry_id):
        return await store.last_correction(connection, correction.finding_id) or done
    standing = await standings.standing(connection, correction.account_id, clock.now())
    assert standing is not None, "an account is never deleted"
    await adjustments.write(connection, clock, standing, entry)
    await audit.record(
        connection,
        clock,
        "finding:correct",
        actor=correction.actor,
        source=source,
        account_id=correction.account_id,
        object_id=correction.finding_id,
        reason=correction.reason,
        before={"surplus_units": correction.units},
        after={"way": correction.way, "correction_id": correction.correction_id, "entry_id": entry.entry_id},
    )
    return done


async def _settle_resolved(
    connection: Connection, clock: Clock, last: Correction, source: Source
) -> Correction:
    """The difference is gone, so a correction whose fate was unknown has arrived."""
    if last.state is CorrectionState.DONE:
        return last
    return await _finish(connection, clock, last, source)


async def _end(
    connection: Connection,
    clock: Clock,
    correction: Correction,
    state: CorrectionState,
    error: str | None,
    *,
    entry_id: UUID | None = None,
    is_unsure: bool = False,
) -> bool:
    return await store.record(
        connection,
        correction.correction_id,
        state,
        error=error,
        entry_id=entry_id,
        is_unsure=is_unsure,
        now=clock.now(),
    )
