"""Checkout sessions: made by the product, paid on a page of the sandbox, then turned into a subscription."""

from decimal import Decimal

import msgspec

from billing.sandbox.charges import charge_card
from billing.sandbox.customers import new_customer
from billing.sandbox.events import emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.payment_methods import decline_reason, new_card, use_card
from billing.sandbox.periods import anchor_from, natural_start
from billing.sandbox.prices import is_metered, new_price
from billing.sandbox.rating import rate, share_of
from billing.sandbox.refusals import CardDeclined, ParameterRefusal, Refusal
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import DAY_S, Json
from billing.sandbox.subscription_cycle import Terms, begin
from billing.sandbox.subscriptions import check_items, read_billing_mode
from billing.sandbox.world import World, list_object

KIND = "checkout.session"
MAX_RECURRING = 20
MAX_ONE_TIME = 20
SHORTEST_S = 30 * 60
IGNORED = (
    *(
        "adaptive_pricing",
        "allow_promotion_codes",
        "automatic_tax",
        "billing_address_collection",
        "branding_settings",
    ),
    *(
        "consent_collection",
        "custom_text",
        "customer_creation",
        "customer_update",
        "integration_identifier",
        "locale",
    ),
    *(
        "origin_context",
        "payment_method_collection",
        "payment_method_types",
        "payment_intent_data",
        "submit_type",
    ),
    *(
        "phone_number_collection",
        "saved_payment_method_options",
        "tax_id_collection",
        "ui_mode",
        "invoice_creation",
    ),
)


class Line(msgspec.Struct, frozen=True):
    """One line of a session: a price by id, and a quantity unless it is metered."""

    price: str
    quantity: int | None


def create(world: World, call: Call) -> Json:
    """Open a session, for a subscription or for one payment; it waits for its page for at most a day."""
    fields = call.fields
    mode = fields.choice("mode", "subscription", "payment")
    if mode is None:
        raise ParameterRefusal("Missing required param: mode.", param="mode", stripe_code="parameter_missing")
    lines = [_read_line(world, row) for row in fields.rows("line_items")]
    prices = [world.table("price")[line.price] for line in lines]
    _check_lines(mode, lines, prices)
    customer_id = fields.text("customer")
    customer = world.live_customer(customer_id) if customer_id else None
    now = world.now_of(customer)
    success_url, cancel_url = fields.need_text("success_url"), fields.text("cancel_url")
    session = _blank(world, mode, prices[0]["currency"], now)
    session.update(
        customer=customer_id,
        customer_email=fields.text("customer_email"),
        client_reference_id=fields.text("client_reference_id"),
        metadata=merged_metadata(fields),
        success_url=success_url,
        cancel_url=cancel_url,
        expires_at=_expires_at(fields, now),
    )
    note = {"lines": [msgspec.to_builtins(line) for line in lines], **_read_terms(fields, prices, now)}
    fields.ignore(*IGNORED)
    fields.finish()
    amount = sum(_amount(world, line) for line in lines)
    session.update(
        amount_subtotal=amount, amount_total=amount, url=f"{world.public_url}/c/pay/{session['id']}"
    )
    world.note(session["id"]).update(note)
    return world.add(session)


def _read_line(world: World, row: Fields) -> Line:
    price_id, inline = row.text("price"), row.group("price_data")
    quantity = row.integer("quantity")
    row.ignore("adjustable_quantity", "dynamic_tax_rates", "tax_rates")
    if (price_id is None) == (inline is None):
        raise ParameterRefusal("Specify exactly one of price and price_data.", param=row.name_of("price"))
    price = (
        new_price(world, inline)
        if inline
        else world.find("price", price_id or "", param=row.name_of("price"))
    )
    if not price["active"]:
        raise Refusal("The price specified is inactive.", param=row.name_of("price"))
    if is_metered(price) == (quantity is not None):
        problem = "must not be given for a metered price" if quantity is not None else "is required"
        raise ParameterRefusal(f"{row.name_of('quantity')} {problem}.", param=row.name_of("quantity"))
    return Line(price["id"], quantity)


def _check_lines(mode: str, lines: list[Line], prices: list[Json]) -> None:
    recurring = [
        (price, line.quantity) for price, line in zip(prices, lines, strict=True) if price["recurring"]
    ]
    if not lines:
        raise ParameterRefusal("Missing required param: line_items.", param="line_items")
    if mode == "payment" and recurring:
        raise Refusal("You specified `payment` mode but passed a recurring price.", param="mode")
    if mode == "subscription":
        if len(recurring) > MAX_RECURRING:
            raise Refusal(f"At most {MAX_RECURRING} recurring line items are allowed.", param="line_items")
        check_items(recurring)
        if len(recurring) < len(lines):
            raise Refusal("The sandbox takes no one-time prices in `subscription` mode.", param="line_items")
    if len(lines) > MAX_ONE_TIME:
        raise Refusal(f"At most {MAX_ONE_TIME} line items are allowed.", param="line_items")


def _expires_at(fields: Fields, now: int) -> int:
    wanted = fields.integer("expires_at")
    if wanted is None:
        return now + DAY_S
    if not now + SHORTEST_S <= wanted <= now + DAY_S:
        raise Refusal("expires_at must be between 30 minutes and 24 hours from now.", param="expires_at")
    return wanted


def _read_terms(fields: Fields, prices: list[Json], now: int) -> Json:
    """Read ``subscription_data``: what the subscription will be begun with once it is paid."""
    group = fields.group("subscription_data")
    if group is None:
        return {
            "anchor": None,
            "metadata": {},
            "prorate": True,
            "billing_mode": "flexible",
            "description": None,
        }
    anchored = group.has("billing_cycle_anchor")
    anchor = anchor_from(group, prices[0]["recurring"], now) if anchored else None
    group.ignore("invoice_settings")
    return {
        "anchor": anchor,
        "metadata": merged_metadata(group),
        "prorate": group.choice("proration_behavior", "create_prorations", "none") != "none",
        "billing_mode": read_billing_mode(group),
        "description": group.text("description"),
    }


def _amount(world: World, line: Line) -> int:
    price = world.table("price")[line.price]
    if line.quantity is None:
        return 0
    tiers = world.note(price["id"])["tiers"]
    return sum(row.amount for row in rate(price, tiers, Decimal(line.quantity)))


def due_now(world: World, session: Json) -> int:
    """Reckon what paying at this moment charges: of a first period that its anchor cuts short, the share that is left."""
    note = world.note(session["id"])
    now = world.now_of(world.table("customer").get(session["customer"] or ""))
    anchor = note["anchor"] or now
    if anchor <= now:
        return int(session["amount_total"])
    if not note["prorate"]:
        return 0
    due = 0
    for line in [msgspec.convert(raw, Line) for raw in note["lines"]]:
        recurring = world.table("price")[line.price]["recurring"]
        whole_s = anchor - min(now, natural_start(anchor, recurring, anchor))
        due += share_of(_amount(world, line), anchor - now, whole_s)
    return due


def pay(world: World, session: Json, last4: str) -> None:
    """Complete a session as its page does when a card is given; ``CardDeclined`` leaves it open."""
    _refuse_closed(session)
    reason = decline_reason({"card": {"last4": last4}}, at_checkout=True)
    if reason is not None:
        raise CardDeclined(reason)
    customer = _customer_of(world, session)
    method = new_card(world, last4, customer)
    use_card(world, customer, method)
    if session["mode"] == "subscription":
        subscription = begin(world, customer, _terms(world, session, customer))
        session.update(subscription=subscription["id"], invoice=subscription["latest_invoice"])
    elif session["amount_total"]:
        charge = charge_card(
            world,
            customer,
            method,
            amount=session["amount_total"],
            currency=session["currency"],
            at_checkout=True,
        )
        world.note(session["id"])["charge"] = charge["id"]
    _complete(world, session, customer, "paid")


def pay_later(world: World, session: Json) -> None:
    """Complete a payment session whose money is still on its way (``async_payment_…`` follows)."""
    _refuse_closed(session)
    if session["mode"] != "payment":
        raise Refusal("Only a session in `payment` mode can be paid later.")
    _complete(world, session, _customer_of(world, session), "unpaid")


def settle_later(world: World, session: Json, *, succeeded: bool) -> None:
    """Let the money of a session that is paid later come, or not."""
    if session["status"] != "complete" or session["payment_status"] != "unpaid":
        raise Refusal("The session is not waiting for its payment.")
    if succeeded:
        session["payment_status"] = "paid"
    emit(world, f"checkout.session.async_payment_{'succeeded' if succeeded else 'failed'}", session)


def expire_session(world: World, session: Json) -> None:
    """Close an open session unpaid."""
    session.update(status="expired", url=None)
    emit(world, "checkout.session.expired", session)


def _customer_of(world: World, session: Json) -> Json:
    if session["customer"]:
        return world.live_customer(session["customer"])
    email = session["customer_email"] or "someone@example.com"
    customer = new_customer(world, {"email": email, "name": "A Customer"}, metadata={})
    session["customer"] = customer["id"]
    return customer


def _terms(world: World, session: Json, customer: Json) -> Terms:
    note = world.note(session["id"])
    now = world.now_of(customer)
    lines = [msgspec.convert(raw, Line) for raw in note["lines"]]
    return Terms(
        prices=[(world.table("price")[line.price], line.quantity) for line in lines],
        anchor=max(now, note["anchor"] or now),
        metadata=note["metadata"],
        prorate_first_period=note["prorate"],
        billing_mode=note["billing_mode"],
        description=note["description"],
        at_checkout=True,
    )


def _complete(world: World, session: Json, customer: Json, payment_status: str) -> None:
    session.update(
        status="complete",
        payment_status=payment_status if session["amount_total"] else "no_payment_required",
        url=None,
        customer_details={
            "address": None,
            "business_name": None,
            "email": customer["email"],
            "individual_name": None,
            "name": customer["name"],
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
    )
    emit(world, "checkout.session.completed", session)


def _refuse_closed(session: Json) -> None:
    if session["status"] != "open":
        raise Refusal(f"This Checkout Session is {session['status']}.")


def _blank(world: World, mode: str, currency: str, now: int) -> Json:
    empty = dict.fromkeys(
        (
            *("after_expiration", "client_secret", "collected_information", "consent", "consent_collection"),
            *(
                "currency_conversion",
                "customer_details",
                "invoice",
                "invoice_creation",
                "locale",
                "payment_intent",
            ),
            *(
                "payment_link",
                "recovered_from",
                "setup_intent",
                "shipping_address_collection",
                "shipping_cost",
            ),
            *("submit_type", "subscription", "wallet_options"),
        )
    )
    text = dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance"))
    return {
        "id": world.new_id("cs_test"),
        "object": KIND,
        **empty,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "created": now,
        "currency": currency,
        "custom_fields": [],
        "custom_text": text,
        "livemode": False,
        "mode": mode,
        "payment_method_collection": "always",
        "payment_method_options": None,
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "shipping_options": [],
        "status": "open",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
    }


def retrieve(world: World, call: Call) -> Json:
    """Return a session; its lines only when ``expand`` names them, as at Stripe."""
    call.fields.finish()
    session = world.find(KIND, call.id)
    if "line_items" in (call.fields.raw("expand") or []):
        lines = list_object(f"/v1/checkout/sessions/{session['id']}/line_items", list_items(world, session))
        return {**session, "line_items": lines}
    return session


def list_sessions(world: World, call: Call) -> Json:
    """List sessions by customer, subscription and status."""
    fields = call.fields
    wanted = {name: fields.text(name) for name in ("customer", "subscription", "status")}
    created = created_filter(fields)
    fields.ignore("customer_details", "payment_intent", "payment_link")
    rows = [
        session
        for session in world.table(KIND).values()
        if created(session) and all(value in {None, session[name]} for name, value in wanted.items())
    ]
    return page_of(rows, call, "/v1/checkout/sessions")


def list_line_items(world: World, call: Call) -> Json:
    """List the lines of a session, in their order."""
    session = world.find(KIND, call.id)
    rows = reversed(list_items(world, session))
    return page_of(rows, call, f"/v1/checkout/sessions/{session['id']}/line_items")


def expire(world: World, call: Call) -> Json:
    """Close an open session."""
    call.fields.finish()
    session = world.find(KIND, call.id)
    _refuse_closed(session)
    expire_session(world, session)
    return session


def list_items(world: World, session: Json) -> list[Json]:
    """Write the lines of a session as Stripe shows them."""
    items = []
    for index, raw in enumerate(world.note(session["id"])["lines"]):
        line = msgspec.convert(raw, Line)
        price = world.table("price")[line.price]
        amount = _amount(world, line)
        items.append(
            {
                "id": f"li_{session['id'][-12:]}{index}",
                "object": "item",
                "amount_discount": 0,
                "amount_subtotal": amount,
                "amount_tax": 0,
                "amount_total": amount,
                "currency": price["currency"],
                "description": world.table("product")[price["product"]]["name"],
                "price": price,
                "quantity": line.quantity,
            }
        )
    return items


ROUTES = [
    Route("POST", "/v1/checkout/sessions", create),
    Route("GET", "/v1/checkout/sessions", list_sessions),
    Route("GET", "/v1/checkout/sessions/{session}", retrieve),
    Route("GET", "/v1/checkout/sessions/{session}/line_items", list_line_items),
    Route("POST", "/v1/checkout/sessions/{session}/expire", expire),
]
