"""Corrections in Postgres."""

from datetime import datetime
from uuid import UUID

from billing.corrections.model import CANCELLABLE, Correction, CorrectionState, Surroundings, Way
from billing.reconcile.model import Finding, Source
from billing.reconcile.store import finding_of
from gateway.clock import month_end, month_of, month_start
from gateway.db.pool import Connection
from gateway.db.queries import load_queries
from gateway.units import Currency

QUERIES = load_queries("billing.corrections")


async def lock_finding(connection: Connection, finding_id: UUID) -> Finding | None:
    """Read a difference, and let nobody else decide about it until the transaction ends."""
    row = await connection.fetchrow(QUERIES["lock_finding"], finding_id)
    return finding_of(row) if row else None


async def last_correction(connection: Connection, finding_id: UUID) -> Correction | None:
    """Read what was tried last for a difference."""
    row = await connection.fetchrow(QUERIES["last_correction"], finding_id)
    if row is None:
        return None
    return Correction(
        **{
            **row,
            "currency": Currency(row["currency"]),
            "source": Source(row["source"]),
            "way": Way(row["way"]),
            "state": CorrectionState(row["state"]),
        }
    )


async def surroundings(connection: Connection, finding: Finding, now: datetime) -> Surroundings:
    """Read what decides how a difference is corrected."""
    month = month_of(finding.window_start)
    row = await connection.fetchrow(
        QUERIES["surroundings"],
        finding.account_id,
        finding.currency,
        finding.window_start,
        finding.customer_id,
        finding.found - finding.expected,
        now - CANCELLABLE,
        finding.finding_id,
        month_start(month),
        month_end(month),
    )
    assert row is not None
    return Surroundings(**{**row, "month_units": int(row["month_units"])})


async def is_batch(connection: Connection, identifier: str) -> bool:
    """Tell whether an identifier is that of a batch as it stands."""
    found: bool = await connection.fetchval(QUERIES["is_batch"], identifier)
    return found


async def insert(connection: Connection, correction: Correction) -> None:
    """Freeze a correction."""
    await connection.execute(
        QUERIES["insert"],
        correction.correction_id,
        correction.finding_id,
        correction.account_id,
        correction.currency,
        correction.customer_id,
        correction.source,
        correction.window_start,
        correction.units,
        correction.way,
        correction.identifier,
        correction.event_at,
        correction.credit_minor,
        correction.idempotency_key,
        correction.reason,
        correction.actor,
        correction.created_at,
    )


async def begin(connection: Connection, correction_id: UUID, now: datetime) -> None:
    """Note an attempt before it is made."""
    await connection.execute(QUERIES["begin"], correction_id, now)


async def record(
    connection: Connection,
    correction_id: UUID,
    state: CorrectionState,
    *,
    error: str | None,
    entry_id: UUID | None,
    is_unsure: bool,
    now: datetime,
) -> bool:
    """Write down what an attempt came to; ``False`` if it was ended by somebody else."""
    found = await connection.fetchval(
        QUERIES["record"], correction_id, state, error, entry_id, now, is_unsure
    )
    return found is not None
