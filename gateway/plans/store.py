"""Plans in Postgres."""

from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.plans.model import AccountLimits, Billing, OnDisconnect, Plan
from gateway.units import Currency

QUERIES = load_queries("gateway.plans")


async def fetch_plans(db: Db, plan_id: str | None) -> list[Plan]:
    """Read one plan, or all of them in their order where the id is ``None``."""
    return [_plan(row) for row in await db.fetch(QUERIES["list_plans"], plan_id)]


async def save_plan(connection: Connection, plan: Plan) -> None:
    """Write a plan and its prices; the caller holds the transaction."""
    currencies, amounts = list(plan.monthly_price_micro), list(plan.monthly_price_micro.values())
    await connection.execute(
        QUERIES["upsert_plan"],
        plan.plan_id,
        plan.name,
        plan.billing,
        plan.limits.monthly_tokens,
        plan.limits.daily_tokens,
        plan.limits.requests_per_minute,
        plan.limits.tokens_per_minute,
        plan.limits.concurrency,
        plan.on_disconnect,
        plan.position,
    )
    await connection.execute(QUERIES["remove_other_prices"], plan.plan_id, currencies)
    await connection.execute(QUERIES["upsert_prices"], plan.plan_id, currencies, amounts)


def limits_of(row: Row) -> AccountLimits:
    """Take a plan's limits out of a row that has their columns."""
    return AccountLimits(**{name: row[name] for name in AccountLimits.__struct_fields__})


def _plan(row: Row) -> Plan:
    return Plan(
        plan_id=row["plan_id"],
        name=row["name"],
        billing=Billing(row["billing"]),
        limits=limits_of(row),
        on_disconnect=OnDisconnect(row["on_disconnect"]),
        position=row["position"],
        monthly_price_micro={
            Currency(currency): amount
            for currency, amount in zip(row["currencies"] or (), row["amounts"] or (), strict=True)
        },
    )
