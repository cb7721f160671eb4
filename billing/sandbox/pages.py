"""The pages that a customer sees: Checkout, the billing portal, and an invoice. Plain forms, no script."""

from html import escape

from billing.sandbox import checkout, portal
from billing.sandbox.answers import HTML, Answer, redirect
from billing.sandbox.form import decode_form
from billing.sandbox.payment_methods import CARDS, GOOD
from billing.sandbox.refusals import CardDeclined, Refusal
from billing.sandbox.routing import Request
from billing.sandbox.state import Json
from billing.sandbox.world import World, money_text

CHECKOUT, PORTAL, INVOICE = "/c/pay/", "/p/session/", "/i/"
PREFIXES = (CHECKOUT, PORTAL, INVOICE)
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem}"
    "button,select{font:inherit;padding:.4rem .8rem;margin:.2rem 0}"
    "small{color:#666}table{width:100%;border-collapse:collapse}td{border-top:1px solid #ddd;padding:.4rem 0}"
    ".bad{color:#b00020}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


def answer_page(world: World, request: Request) -> Answer:
    """Show a page, or do what its form asks for."""
    try:
        if request.path.startswith(CHECKOUT):
            return _checkout(world, request)
        if request.path.startswith(INVOICE):
            return _invoice(world, request)
        return _portal(world, request)
    except Refusal as refusal:
        return page(refusal.http_status, "Stripe sandbox", f"<p class=bad>{escape(refusal.message)}</p>")


def _checkout(world: World, request: Request) -> Answer:
    session = world.find(checkout.KIND, request.path.removeprefix(CHECKOUT))
    if request.method != "POST":
        return _checkout_page(world, session)
    world.changes += 1
    form = decode_form(request.body.decode("utf-8", "replace"))
    action = form.get("action")
    if action == "cancel":
        return redirect(_with_id(session["cancel_url"] or session["success_url"], session))
    if action == "later":
        checkout.pay_later(world, session)
        return redirect(_with_id(session["success_url"], session))
    try:
        checkout.pay(world, session, chosen_card(form))
    except CardDeclined as declined:
        return _checkout_page(world, session, problem=declined.message)
    return redirect(_with_id(session["success_url"], session))


def _with_id(url: str, session: Json) -> str:
    return url.replace("{CHECKOUT_SESSION_ID}", session["id"])


def _checkout_page(world: World, session: Json, *, problem: str | None = None) -> Answer:
    if session["status"] != "open":
        return page(200, "Checkout", f"<p>This session is {escape(session['status'])}.</p>")
    rows = "".join(
        f"<tr><td>{escape(item['description'])}<td>{_amount(item)}"
        for item in checkout.list_items(world, session)
    )
    due = checkout.due_now(world, session)
    later = "<button name=action value=later>Pay by bank transfer (arrives later)</button>" * (
        session["mode"] == "payment"
    )
    body = (
        f"<table>{rows}<tr><td><b>Due now</b><td>{money_text(due, session['currency'])}</table>"
        f"{_problem(problem)}<form method=post>{card_choice()}"
        f"<p><button name=action value=pay>Pay</button> {later}"
        "<button name=action value=cancel>Cancel</button></form>"
    )
    return page(402 if problem else 200, "Checkout", body)


def _amount(item: Json) -> str:
    if item["quantity"] is None:
        return "by usage"
    return money_text(item["amount_total"], item["currency"])


def _invoice(world: World, request: Request) -> Answer:
    """Show an invoice, or let it be paid with the card on file; its PDF is the same page here."""
    invoice = world.find("invoice", request.path.removeprefix(INVOICE).removesuffix("/pdf"))
    problem = None
    if request.method == "POST":
        world.changes += 1
        if portal.pay_invoice(world, invoice):
            return redirect(f"{INVOICE}{invoice['id']}")
        problem = "Your card was declined."
    rows = "".join(
        f"<tr><td>{escape(line['description'] or '')}<td>{money_text(line['amount'], line['currency'])}"
        for line in invoice["lines"]["data"]
    )
    pay = _button("pay", "Pay now", invoice["id"]) if invoice["status"] == "open" else ""
    body = (
        f"<p>{escape(invoice['number'] or '')} <small>{invoice['status']}</small>{_problem(problem)}"
        f"<table>{rows}<tr><td><b>Total</b><td>{money_text(invoice['total'], invoice['currency'])}</table>{pay}"
    )
    return page(402 if problem else 200, "Invoice", body)


def _portal(world: World, request: Request) -> Answer:
    session, customer = portal.open_session(world, request.path.removeprefix(PORTAL))
    if request.method != "POST":
        return _portal_page(world, session, customer)
    world.changes += 1
    form = decode_form(request.body.decode("utf-8", "replace"))
    problem = _portal_action(world, customer, form)
    if problem:
        return _portal_page(world, session, customer, problem=problem)
    return redirect(f"{PORTAL}{session['id']}")


def _portal_action(world: World, customer: Json, form: Json) -> str | None:
    """Do one thing for the customer whose session it is; return what went wrong, if anything."""
    action, target = form.get("action"), str(form.get("target", ""))
    if action == "card":
        portal.change_card(world, customer, chosen_card(form))
    elif action in {"cancel", "resume"}:
        subscription = _own(world, "subscription", target, customer)
        portal.cancel_at_period_end(world, subscription, wanted=action == "cancel")
    elif action == "pay":
        if not portal.pay_invoice(world, _own(world, "invoice", target, customer)):
            return "Your card was declined."
    else:
        return "Nothing was asked for."
    return None


def _own(world: World, kind: str, identifier: str, customer: Json) -> Json:
    value = world.find(kind, identifier)
    if value["customer"] != customer["id"]:
        raise Refusal("That belongs to somebody else.", status=404)
    return value


def _portal_page(world: World, session: Json, customer: Json, *, problem: str | None = None) -> Answer:
    subscriptions = "".join(
        _subscription_row(world, value)
        for value in world.table("subscription").values()
        if value["customer"] == customer["id"] and value["status"] in portal.LIVE
    )
    invoices = "".join(
        _invoice_row(value)
        for value in reversed(world.table("invoice").values())
        if value["customer"] == customer["id"] and value["status"] != "draft"
    )
    method = world.table("payment_method").get(customer["invoice_settings"]["default_payment_method"] or "")
    card = f"Visa ending in {method['card']['last4']}" if method else "none"
    back = (
        f"<p><a href='{escape(session['return_url'], quote=True)}'>Back</a>" if session["return_url"] else ""
    )
    body = (
        f"<p>{escape(customer['email'] or customer['id'])}{_problem(problem)}"
        f"<h2>Subscriptions</h2><table>{subscriptions}</table>"
        f"<h2>Card</h2><p>{card}<form method=post>{card_choice()} "
        f"<button name=action value=card>Use this card</button></form>"
        f"<h2>Invoices</h2><table>{invoices}</table>{back}"
    )
    return page(402 if problem else 200, "Billing portal", body)


def _subscription_row(world: World, subscription: Json) -> str:
    prices = [item["price"] for item in subscription["items"]["data"]]
    names = ", ".join(escape(world.table("product")[price["product"]]["name"]) for price in prices)
    is_ending = subscription["cancel_at_period_end"]
    action, label = ("resume", "Keep it after all") if is_ending else ("cancel", "Cancel at period end")
    state = f"{subscription['status']}{', ends with its period' if is_ending else ''}"
    return f"<tr><td>{names}<br><small>{state}</small><td>{_button(action, label, subscription['id'])}"


def _invoice_row(invoice: Json) -> str:
    amount = money_text(invoice["total"], invoice["currency"])
    pay = _button("pay", "Pay now", invoice["id"]) if invoice["status"] == "open" else ""
    return f"<tr><td>{escape(invoice['number'] or '')}<br><small>{invoice['status']}</small><td>{amount}<td>{pay}"


def _button(action: str, label: str, target: str) -> str:
    return (
        f"<form method=post><input type=hidden name=target value='{target}'>"
        f"<button name=action value={action}>{label}</button></form>"
    )


def card_choice() -> str:
    """Write the choice of test cards."""
    options = "".join(f"<option value={last4}>{escape(text)}</option>" for last4, text in CARDS.items())
    return f"<label>Card <select name=card>{options}</select></label>"


def chosen_card(form: Json) -> str:
    """Return the card that a form names; a ``Refusal`` for one that is not among the test cards."""
    last4 = str(form.get("card", GOOD))
    if last4 not in CARDS:
        raise Refusal("The sandbox does not know this card.")
    return last4


def _problem(problem: str | None) -> str:
    return f"<p class=bad role=alert>{escape(problem)}" if problem else ""


def page(status: int, title: str, body: str) -> Answer:
    """Answer with a page of this title."""
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1><p><small>Stripe sandbox: no money moves here.</small>{body}"
    )
    return Answer(status, page.encode(), HTML, (("content-security-policy", POLICY),))
