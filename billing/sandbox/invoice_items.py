"""Invoice items: single amounts that wait for a customer's next invoice."""

from decimal import Decimal

from billing.sandbox.events import emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.invoice_lines import LineSpec, item_line, write_line
from billing.sandbox.rating import to_minor_units
from billing.sandbox.refusals import ParameterRefusal, Refusal
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import Json
from billing.sandbox.world import World

KIND = "invoiceitem"


def create(world: World, call: Call) -> Json:
    """Create an item of an amount, or of a unit amount and a quantity; negative amounts are credits."""
    fields = call.fields
    customer = world.live_customer(fields.need_text("customer"))
    currency = fields.choice("currency", "idr", "usd") or customer["currency"] or "usd"
    amount, unit = fields.integer("amount"), fields.decimal("unit_amount_decimal")
    quantity = fields.integer("quantity") or 1
    description, subscription = fields.text("description"), fields.text("subscription")
    period = _period(fields, world.now_of(customer))
    metadata = merged_metadata(fields)
    invoice = fields.text("invoice")
    fields.ignore("discountable")
    fields.finish()
    if (amount is None) == (unit is None):
        raise ParameterRefusal("Specify exactly one of amount and unit_amount_decimal.", param="amount")
    if amount is None:
        amount = to_minor_units(Decimal(unit or 0) * quantity)
    if subscription:
        world.find("subscription", subscription, param="subscription")
    if invoice and world.find("invoice", invoice, param="invoice")["status"] != "draft":
        raise Refusal("The invoice is no longer a draft.", param="invoice")
    spec = LineSpec(
        key="",
        amount=amount,
        currency=currency,
        description=description or "",
        start=period[0],
        end=period[1],
        quantity=Decimal(quantity),
        unit_amount_decimal=unit,
        subscription=subscription,
    )
    item = new_item(world, customer, spec, metadata=metadata)
    if invoice:
        _put_on(world, item, invoice)
    return item


def new_item(world: World, customer: Json, spec: LineSpec, *, metadata: dict[str, str] | None = None) -> Json:
    """Add a pending item, as the API and prorations both do."""
    item = world.add(
        {
            "id": world.new_id("ii"),
            "object": KIND,
            "amount": spec.amount,
            "currency": spec.currency,
            "customer": customer["id"],
            "date": world.now_of(customer),
            "description": spec.description or None,
            "discountable": not spec.proration,
            "discounts": [],
            "invoice": None,
            "livemode": False,
            "metadata": metadata or {},
            "net_amount": spec.amount,
            "parent": None,
            "period": {"end": spec.end, "start": spec.start},
            "pricing": None,
            "proration": spec.proration,
            "quantity": int(spec.quantity),
            "quantity_decimal": f"{spec.quantity:f}",
            "tax_rates": [],
            "test_clock": customer["test_clock"],
        }
    )
    world.note(item["id"]).update(
        subscription=spec.subscription,
        price=spec.price["id"] if spec.price else "",
        unit_amount_decimal=spec.unit_amount_decimal,
    )
    emit(world, "invoiceitem.created", item)
    return item


def pending_items(world: World, customer: str, currency: str, subscription: Json | None) -> list[Json]:
    """Return the items that the next invoice takes: those of its subscription and those of none."""
    wanted = {None, subscription["id"]} if subscription else {None}
    return [
        item
        for item in world.table(KIND).values()
        if item["customer"] == customer
        and item["invoice"] is None
        and item["currency"] == currency
        and world.note(item["id"])["subscription"] in wanted
    ]


def retrieve(world: World, call: Call) -> Json:
    """Return an item."""
    call.fields.finish()
    return world.find(KIND, call.id)


def delete(world: World, call: Call) -> Json:
    """Delete an item that waits for its invoice, or is on one that is still a draft."""
    call.fields.finish()
    item = world.find(KIND, call.id)
    if item["invoice"] is not None:
        _take_off(world, item, item["invoice"])
    del world.table(KIND)[item["id"]]
    emit(world, "invoiceitem.deleted", item)
    return {"id": item["id"], "object": KIND, "deleted": True}


def list_items(world: World, call: Call) -> Json:
    """List items of a customer or an invoice, or those that are pending."""
    fields = call.fields
    customer, invoice, pending = fields.text("customer"), fields.text("invoice"), fields.flag("pending")
    created = created_filter(fields)
    rows = [
        item
        for item in world.table(KIND).values()
        if created({"created": item["date"]})
        and customer in {None, item["customer"]}
        and invoice in {None, item["invoice"]}
        and pending in {None, item["invoice"] is None}
    ]
    return page_of(rows, call, "/v1/invoiceitems")


def _put_on(world: World, item: Json, invoice_id: str) -> None:
    item["invoice"] = invoice_id
    world.note(invoice_id)["fixed"].append(write_line(item_line(world, item), invoice_id))


def _take_off(world: World, item: Json, invoice_id: str) -> None:
    if world.find("invoice", invoice_id)["status"] != "draft":
        raise Refusal("The item is on an invoice that is no longer a draft.")
    note, line_id = world.note(invoice_id), write_line(item_line(world, item), invoice_id)["id"]
    note["fixed"] = [line for line in note["fixed"] if line["id"] != line_id]


def _period(fields: Fields, now: int) -> tuple[int, int]:
    group = fields.group("period")
    if group is None:
        return now, now
    return group.need_integer("start"), group.need_integer("end")


ROUTES = [
    Route("POST", "/v1/invoiceitems", create),
    Route("GET", "/v1/invoiceitems", list_items),
    Route("GET", "/v1/invoiceitems/{invoiceitem}", retrieve),
    Route("DELETE", "/v1/invoiceitems/{invoiceitem}", delete),
]
