"""Cards: a handful of test numbers, and what each of them does.

The last four digits are Stripe's own test cards (docs.stripe.com/testing). One liberty is taken: 0341,
which Stripe lets attach and then declines, also pays at Checkout here, so that a failing renewal can be
clicked together.
"""

from billing.sandbox.events import emit
from billing.sandbox.refusals import NoSuchObject, Refusal
from billing.sandbox.routing import Call, Route, page_of
from billing.sandbox.state import Json
from billing.sandbox.world import World

KIND = "payment_method"
GOOD, FAILS_LATER, DECLINED, NO_FUNDS = "4242", "0341", "0002", "9995"
CARDS = {
    GOOD: "Visa 4242: pays",
    FAILS_LATER: "Visa 0341: pays here, is declined at every renewal",
    DECLINED: "Visa 0002: declined",
    NO_FUNDS: "Visa 9995: declined for insufficient funds",
}
TOKENS = {
    "pm_card_visa": GOOD,
    "pm_card_chargeCustomerFail": FAILS_LATER,
    "pm_card_visa_chargeDeclined": DECLINED,
    "pm_card_visa_chargeDeclinedInsufficientFunds": NO_FUNDS,
}
EXPIRES_YEAR = 2034


def new_card(world: World, last4: str, customer: Json) -> Json:
    """Add a card to a customer and make it the one that invoices are collected from."""
    method = world.add(
        {
            "id": world.new_id("pm"),
            "object": KIND,
            "allow_redisplay": "unspecified",
            "billing_details": {
                "address": None,
                "email": customer["email"],
                "name": customer["name"],
                "phone": None,
                "tax_id": None,
            },
            "card": {
                "brand": "visa",
                "checks": None,
                "country": "ID",
                "display_brand": "visa",
                "exp_month": 12,
                "exp_year": EXPIRES_YEAR,
                "fingerprint": f"sandbox{last4}",
                "funding": "credit",
                "generated_from": None,
                "last4": last4,
                "networks": None,
                "three_d_secure_usage": None,
                "wallet": None,
            },
            "created": world.now(),
            "customer": customer["id"],
            "livemode": False,
            "metadata": {},
            "type": "card",
        }
    )
    emit(world, "payment_method.attached", method)
    return method


def use_card(world: World, customer: Json, method: Json) -> None:
    """Make a card the customer's default, for its subscriptions too."""
    customer["invoice_settings"]["default_payment_method"] = method["id"]
    for subscription in world.table("subscription").values():
        if subscription["customer"] == customer["id"]:
            subscription["default_payment_method"] = None
    emit(world, "customer.updated", customer, before={"invoice_settings": {"default_payment_method": None}})


def card_for(world: World, customer: Json, subscription: Json | None) -> Json | None:
    """Return the card that an invoice is collected from: the subscription's, else the customer's."""
    chosen = subscription["default_payment_method"] if subscription else None
    identifier = chosen or customer["invoice_settings"]["default_payment_method"]
    return world.table(KIND).get(identifier) if identifier else None


def decline_reason(method: Json | None, *, at_checkout: bool = False) -> str | None:
    """Return why a card is declined, ``None`` if it pays."""
    if method is None:
        return "no_payment_method"
    last4 = method["card"]["last4"]
    if last4 == NO_FUNDS:
        return "insufficient_funds"
    if last4 == DECLINED or (last4 == FAILS_LATER and not at_checkout):
        return "generic_decline"
    return None


def attach(world: World, call: Call) -> Json:
    """Attach a test card (``pm_card_visa`` and the like) to a customer."""
    customer = world.live_customer(call.fields.need_text("customer"))
    call.fields.finish()
    if call.id in TOKENS:
        if TOKENS[call.id] in {DECLINED, NO_FUNDS}:
            raise Refusal("Your card was declined.", stripe_code="card_declined", status=402)
        return new_card(world, TOKENS[call.id], customer)
    method = world.find(KIND, call.id)
    if method["customer"] is None:
        raise Refusal("A payment method that was detached may not be used again.")
    if method["customer"] != customer["id"]:
        raise Refusal("The payment method is already attached to another customer.")
    return method


def detach(world: World, call: Call) -> Json:
    """Take a card from its customer, for good: a card that was detached is of no more use."""
    call.fields.finish()
    method = world.find(KIND, call.id)
    owner = world.table("customer").get(method["customer"] or "")
    if (
        owner
        and not owner.get("deleted")
        and owner["invoice_settings"]["default_payment_method"] == method["id"]
    ):
        owner["invoice_settings"]["default_payment_method"] = None
    method["customer"] = None
    emit(world, "payment_method.detached", method)
    return method


def retrieve(world: World, call: Call) -> Json:
    """Return a card."""
    call.fields.finish()
    return world.find(KIND, call.id)


def list_methods(world: World, call: Call) -> Json:
    """List the cards of a customer, which the path or a parameter names."""
    customer = call.ids[0] if call.ids else call.fields.need_text("customer")
    call.fields.choice("type", "card")
    call.fields.ignore("allow_redisplay")
    world.find("customer", customer, param="customer")
    rows = [method for method in world.table(KIND).values() if method["customer"] == customer]
    url = f"/v1/customers/{customer}/payment_methods" if call.ids else "/v1/payment_methods"
    return page_of(rows, call, url)


def method_of(world: World, identifier: str, customer: Json) -> Json:
    """Return a customer's card that a parameter names; a test token makes a new one."""
    if identifier in TOKENS:
        return new_card(world, TOKENS[identifier], customer)
    method = world.table(KIND).get(identifier)
    if method is None or method["customer"] != customer["id"]:
        raise NoSuchObject("PaymentMethod", identifier, param="default_payment_method")
    return method


ROUTES = [
    Route("POST", "/v1/payment_methods/{id}/attach", attach),
    Route("POST", "/v1/payment_methods/{id}/detach", detach),
    Route("GET", "/v1/payment_methods/{id}", retrieve),
    Route("GET", "/v1/payment_methods", list_methods),
    Route("GET", "/v1/customers/{customer}/payment_methods", list_methods),
]
