"""``nusagate plan``: the plans that accounts can be on."""

from typing import Any

import msgspec
import rich_click as click

from gateway.cli.output import emit, json_option
from gateway.cli.session import transacted
from gateway.plans import service
from gateway.plans.model import Plan


@click.group(epilog="Example: nusagate plan list")
def plan() -> None:
    """Look at the plans; write them with: nusagate seed --file."""


@plan.command("list", epilog="Example: nusagate plan list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all plans with their limits and monthly prices."""
    documents = [_document(one) for one in transacted(service.list_plans)]
    if not as_json:
        documents = [{"plan": one["plan"], "billing": one["billing"], **one["limits"]} for one in documents]
    emit({"plans": documents}, as_json=as_json)


@plan.command(epilog="Example: nusagate plan show free")
@click.argument("plan_id", metavar="PLAN")
@json_option
def show(*, plan_id: str, as_json: bool) -> None:
    """Show one plan."""
    emit(_document(transacted(lambda db: service.get_plan(db, plan_id))), as_json=as_json)


def _document(plan: Plan) -> dict[str, Any]:
    return {
        "plan": plan.plan_id,
        "name": plan.name,
        "billing": plan.billing,
        "limits": msgspec.structs.asdict(plan.limits),
        "on_disconnect": plan.on_disconnect,
        "monthly_price_micro": dict(plan.monthly_price_micro),
    }
