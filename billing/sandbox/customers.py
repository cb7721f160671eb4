"""Customers: created, changed, listed, and deleted in the way that leaves a stub behind."""

from billing.sandbox.events import changed, emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import Json
from billing.sandbox.subscription_cycle import end_now
from billing.sandbox.world import World

KIND = "customer"
TEXTS = ("description", "email", "name", "phone")
ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def create(world: World, call: Call) -> Json:
    """Create a customer; ``test_clock`` puts it in a time of its own."""
    fields = call.fields
    texts = {name: fields.text(name) for name in TEXTS}
    address = _address(fields)
    metadata = merged_metadata(fields)
    test_clock = fields.text("test_clock")
    _ignore_the_rest(fields)
    fields.finish()
    if test_clock:
        world.find("test_helpers.test_clock", test_clock, param="test_clock")
    return new_customer(world, texts, metadata=metadata, address=address, test_clock=test_clock)


def new_customer(
    world: World,
    texts: dict[str, str | None],
    *,
    metadata: dict[str, str],
    address: Json | None = None,
    test_clock: str | None = None,
) -> Json:
    """Add a customer, as the API and Checkout both do."""
    identifier = world.new_id("cus")
    created = world.now() if test_clock is None else world.now_of({"test_clock": test_clock})
    customer = world.add(
        {
            "id": identifier,
            "object": KIND,
            "address": address,
            "balance": 0,
            "created": created,
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": texts.get("description"),
            "discount": None,
            "email": texts.get("email"),
            "invoice_prefix": identifier[-8:].upper(),
            "invoice_settings": {
                "custom_fields": None,
                "default_payment_method": None,
                "footer": None,
                "rendering_options": None,
            },
            "livemode": False,
            "metadata": metadata,
            "name": texts.get("name"),
            "next_invoice_sequence": 1,
            "phone": texts.get("phone"),
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": test_clock,
        }
    )
    emit(world, "customer.created", customer)
    return customer


def retrieve(world: World, call: Call) -> Json:
    """Return a customer; a deleted one is a stub with ``deleted: true``."""
    call.fields.finish()
    return world.find(KIND, call.id)


def update(world: World, call: Call) -> Json:
    """Change a customer; a deleted one cannot be changed."""
    fields = call.fields
    world.find(KIND, call.id)
    customer = world.live_customer(call.id, param="id")
    fresh: Json = {name: fields.text(name) for name in TEXTS if fields.has(name)}
    if fields.has("address"):
        fresh["address"] = _address(fields)
    fresh["metadata"] = merged_metadata(fields, customer["metadata"])
    balance = fields.integer("balance")
    if balance is not None:
        fresh["balance"] = balance
    settings = fields.group("invoice_settings")
    if settings is not None:
        method = settings.text("default_payment_method")
        settings.ignore("custom_fields", "footer", "rendering_options")
        if method:
            world.find("payment_method", method, param="invoice_settings[default_payment_method]")
        fresh["invoice_settings"] = {**customer["invoice_settings"], "default_payment_method": method}
    _ignore_the_rest(fields)
    fields.finish()
    before = changed(customer, fresh)
    emit(world, "customer.updated", customer, before=before)
    return customer


def delete(world: World, call: Call) -> Json:
    """Delete a customer: its subscriptions end at once, and nothing can be sent for it any more."""
    call.fields.finish()
    world.find(KIND, call.id)
    customer = world.live_customer(call.id, param="id")
    for subscription in list(world.table("subscription").values()):
        if subscription["customer"] == customer["id"] and subscription["status"] != "canceled":
            end_now(world, subscription, reason="cancellation_requested")
    emit(world, "customer.deleted", customer)
    stub = {"id": customer["id"], "object": KIND, "deleted": True}
    world.table(KIND)[customer["id"]] = stub
    return stub


def list_customers(world: World, call: Call) -> Json:
    """List customers that are not deleted; those of a test clock only when it is named."""
    fields = call.fields
    email, test_clock = fields.text("email"), fields.text("test_clock")
    created = created_filter(fields)
    rows = [
        customer
        for customer in world.table(KIND).values()
        if not customer.get("deleted")
        and created(customer)
        and customer["test_clock"] == test_clock
        and (email is None or customer["email"] == email)
    ]
    return page_of(rows, call, "/v1/customers")


def _address(fields: Fields) -> Json | None:
    group = fields.group("address")
    if group is None:
        return None
    return {name: group.text(name) for name in ADDRESS}


def _ignore_the_rest(fields: Fields) -> None:
    fields.ignore("preferred_locales", "shipping", "tax", "tax_exempt", "tax_id_data", "invoice_prefix")
    fields.ignore("payment_method", "invoice_settings", "balance", "business_name", "individual_name")


ROUTES = [
    Route("POST", "/v1/customers", create),
    Route("GET", "/v1/customers", list_customers),
    Route("GET", "/v1/customers/{customer}", retrieve),
    Route("POST", "/v1/customers/{customer}", update),
    Route("DELETE", "/v1/customers/{customer}", delete),
]
