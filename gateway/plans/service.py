"""Reading and writing plans."""

from collections.abc import Iterable

from gateway.db.pool import Connection, Db
from gateway.plans import store
from gateway.plans.model import Plan, PlanNotFound


async def list_plans(db: Db) -> list[Plan]:
    """Read all plans, in the order in which they are shown."""
    return await store.fetch_plans(db, None)


async def get_plan(db: Db, plan_id: str) -> Plan:
    """Read one plan; ``PlanNotFound`` if there is none with this id."""
    found = await store.fetch_plans(db, plan_id)
    if not found:
        raise PlanNotFound(f"There is no plan {plan_id!r}.", param="plan")
    return found[0]


async def upsert_plans(connection: Connection, plans: Iterable[Plan]) -> None:
    """Write plans as they are given; repeating it changes nothing. The caller holds the transaction.

    Plans are written in the order of their ids, so that two writers cannot deadlock.
    """
    for plan in sorted(plans, key=lambda plan: plan.plan_id):
        await store.save_plan(connection, plan)
