"""Charges, and the disputes that the control endpoints raise over them."""

from billing.sandbox.events import emit
from billing.sandbox.payment_methods import decline_reason
from billing.sandbox.refusals import Refusal
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import DAY_S, Json
from billing.sandbox.world import World

KIND = "charge"
EVIDENCE_DUE_S = 9 * DAY_S
OUTCOMES = ("won", "lost")


def charge_card(
    world: World,
    customer: Json,
    method: Json | None,
    *,
    amount: int,
    currency: str,
    at_checkout: bool = False,
) -> Json:
    """Charge a card; the charge that comes back has succeeded or failed, and says why."""
    reason = decline_reason(method, at_checkout=at_checkout)
    billing = {
        "address": None,
        "email": customer["email"],
        "name": customer["name"],
        "phone": None,
        "tax_id": None,
    }
    charge = world.add(
        {
            "id": world.new_id("ch"),
            "object": KIND,
            "amount": amount,
            "amount_captured": 0 if reason else amount,
            "amount_refunded": 0,
            "application": None,
            "application_fee": None,
            "application_fee_amount": None,
            "balance_transaction": None,
            "billing_details": billing,
            "calculated_statement_descriptor": None,
            "captured": reason is None,
            "created": world.now(),
            "currency": currency,
            "customer": customer["id"],
            "description": None,
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": "card_declined" if reason else None,
            "failure_message": "Your card was declined." if reason else None,
            "fraud_details": {},
            "livemode": False,
            "metadata": {},
            "on_behalf_of": None,
            "outcome": None,
            "paid": reason is None,
            "payment_intent": None,
            "payment_method": method["id"] if method else None,
            "payment_method_details": None,
            "receipt_email": None,
            "receipt_number": None,
            "receipt_url": None,
            "refunded": False,
            "review": None,
            "shipping": None,
            "source_transfer": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": "failed" if reason else "succeeded",
            "transfer_data": None,
            "transfer_group": None,
        }
    )
    emit(world, f"charge.{charge['status']}", charge)
    return charge


def open_dispute(world: World, charge_id: str, reason: str) -> Json:
    """Raise a dispute over a charge that succeeded (``charge.dispute.created``)."""
    charge = world.find(KIND, charge_id, param="charge")
    if not charge["paid"] or charge["disputed"]:
        raise Refusal("Only a successful charge without a dispute can be disputed.", param="charge")
    charge["disputed"] = True
    dispute = world.add(
        {
            "id": world.new_id("du"),
            "object": "dispute",
            "amount": charge["amount"],
            "balance_transactions": [],
            "charge": charge["id"],
            "created": world.now(),
            "currency": charge["currency"],
            "enhanced_eligibility_types": [],
            "evidence": {"enhanced_evidence": {}},
            "evidence_details": {
                "due_by": world.now() + EVIDENCE_DUE_S,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            "is_charge_refundable": False,
            "livemode": False,
            "metadata": {},
            "payment_intent": None,
            "reason": reason,
            "status": "needs_response",
        }
    )
    emit(world, "charge.dispute.created", dispute)
    return dispute


def close_dispute(world: World, dispute_id: str, outcome: str) -> Json:
    """Decide a dispute, won or lost (``charge.dispute.closed``)."""
    dispute = world.find("dispute", dispute_id)
    if outcome not in OUTCOMES or dispute["status"] in OUTCOMES:
        raise Refusal("A dispute is closed once, as won or lost.", param="outcome")
    dispute["status"] = outcome
    emit(world, "charge.dispute.closed", dispute)
    return dispute


def retrieve(world: World, call: Call) -> Json:
    """Return a charge."""
    call.fields.finish()
    return world.find(KIND, call.id)


def list_charges(world: World, call: Call) -> Json:
    """List charges, of one customer if asked."""
    customer = call.fields.text("customer")
    created = created_filter(call.fields)
    call.fields.ignore("payment_intent", "transfer_group")
    rows = [
        charge
        for charge in world.table(KIND).values()
        if created(charge) and customer in {None, charge["customer"]}
    ]
    return page_of(rows, call, "/v1/charges")


def retrieve_dispute(world: World, call: Call) -> Json:
    """Return a dispute."""
    call.fields.finish()
    return world.find("dispute", call.id)


def list_disputes(world: World, call: Call) -> Json:
    """List disputes, of one charge if asked."""
    charge = call.fields.text("charge")
    created = created_filter(call.fields)
    call.fields.ignore("payment_intent")
    rows = [
        dispute
        for dispute in world.table("dispute").values()
        if created(dispute) and charge in {None, dispute["charge"]}
    ]
    return page_of(rows, call, "/v1/disputes")


ROUTES = [
    Route("GET", "/v1/charges", list_charges),
    Route("GET", "/v1/charges/{charge}", retrieve),
    Route("GET", "/v1/disputes", list_disputes),
    Route("GET", "/v1/disputes/{dispute}", retrieve_dispute),
]
