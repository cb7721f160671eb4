"""Credit grants: money of a customer's that metered lines use up, only when an invoice is finalized."""

from typing import Any

from billing.sandbox.events import emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.prices import is_metered
from billing.sandbox.refusals import ParameterRefusal, Refusal
from billing.sandbox.routing import Call, Route, page_of
from billing.sandbox.state import Json
from billing.sandbox.world import World

KIND = "billing.credit_grant"
MAX_UNUSED = 100
DEFAULT_PRIORITY = 50


def create(world: World, call: Call) -> Json:
    """Grant credit for all metered prices."""
    fields = call.fields
    customer = world.live_customer(fields.need_text("customer"))
    amount = fields.need_group("amount")
    amount.choice("type", "monetary")
    monetary = amount.need_group("monetary")
    currency, value = monetary.need_text("currency"), monetary.need_integer("value")
    scope = fields.need_group("applicability_config").need_group("scope")
    if scope.choice("price_type", "metered") is None:
        raise Refusal(
            "The sandbox grants credit for all metered prices only.", param="applicability_config[scope]"
        )
    category = fields.choice("category", "paid", "promotional") or "paid"
    effective_at, expires_at = fields.integer("effective_at"), fields.integer("expires_at")
    priority, name, metadata = fields.integer("priority"), fields.text("name"), merged_metadata(fields)
    fields.finish()
    if value <= 0:
        raise ParameterRefusal("Invalid positive integer", param="amount[monetary][value]")
    now = world.now_of(customer)
    if sum(1 for grant in _of(world, customer["id"]) if available(world, grant, now) > 0) >= MAX_UNUSED:
        raise Refusal(f"A customer has at most {MAX_UNUSED} unused credit grants.")
    grant = world.add(
        {
            "id": world.new_id("credgr"),
            "object": KIND,
            "amount": _monetary(currency, value),
            "applicability_config": {"scope": {"price_type": "metered"}},
            "category": category,
            "created": now,
            "customer": customer["id"],
            "effective_at": effective_at or now,
            "expires_at": expires_at,
            "livemode": False,
            "metadata": metadata,
            "name": name,
            "priority": DEFAULT_PRIORITY if priority is None else priority,
            "test_clock": customer["test_clock"],
            "updated": now,
            "voided_at": None,
        }
    )
    emit(world, "billing.credit_grant.created", grant)
    return grant


def available(world: World, grant: Json, now: int) -> int:
    """Return what is left of a grant at a moment, in minor units; 0 before it counts and after it ends."""
    ended = grant["voided_at"] is not None or (grant["expires_at"] is not None and grant["expires_at"] <= now)
    if ended or grant["effective_at"] > now:
        return 0
    return int(grant["amount"]["monetary"]["value"]) - int(world.note(grant["id"]).get("used", 0))


def apply_to(world: World, invoice: Json) -> None:
    """Pay an invoice's metered lines from grants: by priority, then expiry, promotional first, then age."""
    metered = sum(line["amount"] for line in invoice["lines"]["data"] if _is_metered_line(world, line))
    now, applied = world.now(), []
    for grant in sorted(_of(world, invoice["customer"]), key=_order):
        if grant["amount"]["monetary"]["currency"] != invoice["currency"]:
            continue
        amount = min(metered, available(world, grant, now))
        if amount <= 0:
            continue
        metered -= amount
        note = world.note(grant["id"])
        note["used"] = note.get("used", 0) + amount
        applied.append({"grant": grant["id"], "amount": amount})
    if not applied:
        return
    world.note(invoice["id"])["credits"] = applied
    total = invoice["subtotal"] - sum(row["amount"] for row in applied)
    invoice.update(total=total, total_excluding_tax=total)
    invoice["total_pretax_credit_amounts"] = [
        {
            "amount": row["amount"],
            "credit_balance_transaction": world.new_id("cbtxn"),
            "type": "credit_balance_transaction",
        }
        for row in applied
    ]


def reinstate(world: World, invoice: Json) -> None:
    """Give the credits back that a voided invoice used."""
    for row in world.note(invoice["id"]).pop("credits", []):
        world.note(row["grant"])["used"] -= row["amount"]


def retrieve(world: World, call: Call) -> Json:
    """Return a grant."""
    call.fields.finish()
    return world.find(KIND, call.id)


def update(world: World, call: Call) -> Json:
    """Change a grant's metadata or when it expires."""
    grant = world.find(KIND, call.id)
    metadata = merged_metadata(call.fields, grant["metadata"])
    expires_at = call.fields.integer("expires_at") if call.fields.has("expires_at") else grant["expires_at"]
    call.fields.finish()
    grant.update(metadata=metadata, expires_at=expires_at, updated=world.now())
    emit(world, "billing.credit_grant.updated", grant)
    return grant


def expire(world: World, call: Call) -> Json:
    """End a grant now."""
    return _end(world, call, "expires_at")


def void(world: World, call: Call) -> Json:
    """Take back a grant that nothing has used."""
    if world.note(call.id).get("used"):
        raise Refusal("This credit grant cannot be voided because it has been applied to an invoice.")
    return _end(world, call, "voided_at")


def list_grants(world: World, call: Call) -> Json:
    """List grants, of one customer if asked."""
    customer = call.fields.text("customer")
    call.fields.ignore("customer_account")
    rows = [grant for grant in world.table(KIND).values() if customer in {None, grant["customer"]}]
    return page_of(rows, call, "/v1/billing/credit_grants")


def balance_summary(world: World, call: Call) -> Json:
    """Sum what a customer's grants still hold, by currency."""
    fields = call.fields
    customer = world.live_customer(fields.need_text("customer"))
    _filter(fields)
    fields.finish()
    now = world.now_of(customer)
    sums: dict[str, int] = {}
    for grant in _of(world, customer["id"]):
        currency = grant["amount"]["monetary"]["currency"]
        sums[currency] = sums.get(currency, 0) + available(world, grant, now)
    balances = [
        {"available_balance": _monetary(currency, value), "ledger_balance": _monetary(currency, value)}
        for currency, value in sums.items()
    ]
    return {
        "object": "billing.credit_balance_summary",
        "balances": balances,
        "customer": customer["id"],
        "livemode": False,
    }


def _filter(fields: Fields) -> None:
    group = fields.need_group("filter")
    group.choice("type", "applicability_scope", "credit_grant")
    group.ignore("credit_grant")
    scope = group.group("applicability_scope")
    if scope:
        scope.choice("price_type", "metered")


def _end(world: World, call: Call, field: str) -> Json:
    call.fields.finish()
    grant = world.find(KIND, call.id)
    grant.update({field: world.now(), "updated": world.now()})
    emit(world, "billing.credit_grant.updated", grant)
    return grant


def _of(world: World, customer: str) -> list[Json]:
    return [grant for grant in world.table(KIND).values() if grant["customer"] == customer]


def _order(grant: Json) -> tuple[Any, ...]:
    expires = grant["expires_at"]
    return (
        grant["priority"],
        expires is None,
        expires or 0,
        grant["category"] != "promotional",
        grant["effective_at"],
        grant["created"],
    )


def _is_metered_line(world: World, line: Json) -> bool:
    if line["pricing"] is None:
        return False
    return is_metered(world.table("price")[line["pricing"]["price_details"]["price"]])


def _monetary(currency: str, value: int) -> Json:
    return {"monetary": {"currency": currency, "value": value}, "type": "monetary"}


ROUTES = [
    Route("POST", "/v1/billing/credit_grants", create),
    Route("GET", "/v1/billing/credit_grants", list_grants),
    Route("GET", "/v1/billing/credit_grants/{id}", retrieve),
    Route("POST", "/v1/billing/credit_grants/{id}", update),
    Route("POST", "/v1/billing/credit_grants/{id}/expire", expire),
    Route("POST", "/v1/billing/credit_grants/{id}/void", void),
    Route("GET", "/v1/billing/credit_balance_summary", balance_summary),
]
