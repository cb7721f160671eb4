"""Billing portal sessions: a page where a customer changes the card, pays, cancels and comes back."""

from billing.sandbox.dunning import collect_or_dun
from billing.sandbox.events import changed, emit
from billing.sandbox.invoice_lines import period_of
from billing.sandbox.payment_methods import new_card, use_card
from billing.sandbox.refusals import Refusal
from billing.sandbox.routing import Call, Route
from billing.sandbox.state import Json
from billing.sandbox.world import World

KIND = "billing_portal.session"
SHORT_S = 5 * 60
"""A session that nobody opened within five minutes is over, as at Stripe."""
LIVE = {"active", "past_due", "unpaid"}


def create(world: World, call: Call) -> Json:
    """Open a portal session for a customer."""
    fields = call.fields
    customer = world.live_customer(fields.need_text("customer"))
    return_url = fields.text("return_url")
    configuration = fields.text("configuration") or "bpc_sandbox"
    locale = fields.text("locale")
    fields.ignore("flow_data")
    fields.finish()
    identifier = world.new_id("bps")
    return world.add(
        {
            "id": identifier,
            "object": KIND,
            "configuration": configuration,
            "created": world.clock.now(),
            "customer": customer["id"],
            "flow": None,
            "livemode": False,
            "locale": locale,
            "on_behalf_of": None,
            "return_url": return_url,
            "url": f"{world.public_url}/p/session/{identifier}",
        }
    )


def open_session(world: World, identifier: str) -> tuple[Json, Json]:
    """Return a session and its customer; refuse one that was never opened in time."""
    session = world.find(KIND, identifier)
    note = world.note(identifier)
    if not note.get("opened") and world.clock.now() - session["created"] > SHORT_S:
        raise Refusal("This portal session has expired.", status=404)
    note["opened"] = True
    return session, world.live_customer(session["customer"])


def change_card(world: World, customer: Json, last4: str) -> None:
    """Put another card on file; it is charged from the next invoice on."""
    use_card(world, customer, new_card(world, last4, customer))


def cancel_at_period_end(world: World, subscription: Json, *, wanted: bool) -> None:
    """Let a subscription end with its period, or take that back."""
    now = world.now_of(world.table("customer")[subscription["customer"]])
    fresh = {
        "cancel_at_period_end": wanted,
        "cancel_at": period_of(subscription)[1] if wanted else None,
        "canceled_at": now if wanted else None,
    }
    before = changed(subscription, fresh)
    subscription["cancellation_details"]["reason"] = "cancellation_requested" if wanted else None
    emit(world, "customer.subscription.updated", subscription, before=before)


def pay_invoice(world: World, invoice: Json) -> bool:
    """Pay an open invoice with the card on file; tell whether that worked."""
    if invoice["status"] != "open":
        raise Refusal(f"This invoice is {invoice['status']}.")
    with world.at(world.now_of(world.table("customer")[invoice["customer"]])):
        return collect_or_dun(world, invoice)


ROUTES = [Route("POST", "/v1/billing_portal/sessions", create)]
