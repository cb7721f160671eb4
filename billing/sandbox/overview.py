"""The first page of the sandbox: what time it is here, and who owes what. Here months pass and cards go bad.

Everything on it can be had from the control endpoints, too; this is for a person who wants to see a renewal fail.
"""

from datetime import UTC, datetime
from html import escape

from billing.sandbox.answers import Answer, redirect
from billing.sandbox.form import decode_form
from billing.sandbox.pages import card_choice, chosen_card, page
from billing.sandbox.portal import change_card
from billing.sandbox.refusals import Refusal
from billing.sandbox.routing import Request
from billing.sandbox.state import DAY_S, HOUR_S, Json
from billing.sandbox.timeline import catch_up
from billing.sandbox.world import World, money_text
from gateway.clock import month_end, month_of

PATH = "/"
AFTER_RENEWAL_S = HOUR_S
"""A renewal's invoice is a draft for its grace, and collected then."""
STEPS_S = {"hour": HOUR_S, "day": DAY_S, "week": 8 * DAY_S}
LABELS = {
    "hour": "An hour",
    "day": "A day",
    "week": "Eight days (the grace is over)",
    "month": "To the next month, its invoices collected",
}
SHOWN = 50


def answer_overview(world: World, request: Request) -> Answer:
    """Show the page, or do what its form asks for."""
    if request.method != "POST":
        return page(200, "Overview", _time(world) + _customers(world))
    world.changes += 1
    form = decode_form(request.body.decode("utf-8", "replace"))
    try:
        _act(world, form)
    except Refusal as refusal:
        return page(refusal.http_status, "Overview", f"<p class=bad>{escape(refusal.message)}</p>")
    return redirect(PATH)


def _act(world: World, form: Json) -> None:
    action = form.get("action")
    if action == "card":
        change_card(world, world.live_customer(str(form.get("target", ""))), chosen_card(form))
    elif action in LABELS:
        world.clock.move_to(_moment_of(world, str(action)))
        catch_up(world)
    else:
        raise Refusal("Nothing was asked for.")


def _moment_of(world: World, action: str) -> int:
    now = world.clock.now()
    if action in STEPS_S:
        return now + STEPS_S[action]
    next_month = int(month_end(month_of(datetime.fromtimestamp(now, UTC))).timestamp())
    return next_month + world.settings.finalization_grace_s + AFTER_RENEWAL_S


def _time(world: World) -> str:
    now = datetime.fromtimestamp(world.clock.now(), UTC)
    buttons = "".join(f"<button name=action value={name}>{label}</button> " for name, label in LABELS.items())
    return (
        f"<h2>Time</h2><p>It is {now:%Y-%m-%d %H:%M} UTC here. Let time pass; it never goes back:"
        f"<form method=post>{buttons}</form>"
    )


def _customers(world: World) -> str:
    customers = [value for value in world.table("customer").values() if not value.get("deleted")]
    rows = "".join(_customer(world, customer) for customer in reversed(customers[-SHOWN:]))
    return (
        f"<h2>Customers</h2><table>{rows}</table>"
        if rows
        else "<h2>Customers</h2><p>Nobody bought anything yet."
    )


def _customer(world: World, customer: Json) -> str:
    method = world.table("payment_method").get(customer["invoice_settings"]["default_payment_method"] or "")
    card = f"card {method['card']['last4']}" if method else "no card"
    return (
        f"<tr><td>{escape(customer['email'] or customer['id'])}<br><small>{card}{_bought(world, customer)}"
        f"{_owed(world, customer)}</small>"
        f"<td><form method=post><input type=hidden name=target value='{customer['id']}'>{card_choice()} "
        "<button name=action value=card>Use this card</button></form>"
    )


def _bought(world: World, customer: Json) -> str:
    return "".join(
        f"<br>{_names(world, subscription)}: {subscription['status']}"
        for subscription in world.table("subscription").values()
        if subscription["customer"] == customer["id"]
    )


def _names(world: World, subscription: Json) -> str:
    products = world.table("product")
    return ", ".join(
        escape(products[item["price"]["product"]]["name"]) for item in subscription["items"]["data"]
    )


def _owed(world: World, customer: Json) -> str:
    return "".join(
        f"<br>owes {money_text(invoice['amount_remaining'], invoice['currency'])}"
        for invoice in world.table("invoice").values()
        if invoice["customer"] == customer["id"] and invoice["status"] == "open"
    )
