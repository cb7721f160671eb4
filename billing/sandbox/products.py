"""Products: the names that prices hang on."""

from billing.sandbox.events import changed, emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.refusals import Refusal
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import Json
from billing.sandbox.world import World

KIND = "product"


def create(world: World, call: Call) -> Json:
    """Create a product; its id may be the caller's own."""
    fields = call.fields
    identifier = fields.text("id")
    if identifier in world.table(KIND):
        raise Refusal("Product already exists.", param="id", stripe_code="resource_already_exists")
    product = _new(world, fields, identifier)
    _ignore_the_rest(fields)
    fields.ignore("default_price_data")
    fields.finish()
    return _kept(world, product)


def create_inline(world: World, fields: Fields) -> Json:
    """Create the product that a price brings with it (``product_data``)."""
    product = _new(world, fields, None)
    fields.ignore("tax_code", "statement_descriptor", "images")
    return _kept(world, product)


def retrieve(world: World, call: Call) -> Json:
    """Return a product."""
    call.fields.finish()
    return world.find(KIND, call.id)


def update(world: World, call: Call) -> Json:
    """Change a product."""
    fields = call.fields
    product = world.find(KIND, call.id)
    fresh: Json = {
        name: fields.text(name) for name in ("name", "description", "unit_label") if fields.has(name)
    }
    active = fields.flag("active")
    if active is not None:
        fresh["active"] = active
    default_price = fields.text("default_price")
    if default_price:
        fresh["default_price"] = world.find("price", default_price, param="default_price")["id"]
    fresh["metadata"] = merged_metadata(fields, product["metadata"])
    _ignore_the_rest(fields)
    fields.finish()
    before = changed(product, fresh)
    product["updated"] = world.now()
    emit(world, "product.updated", product, before=before)
    return product


def delete(world: World, call: Call) -> Json:
    """Delete a product that no price uses."""
    call.fields.finish()
    product = world.find(KIND, call.id)
    if any(price["product"] == product["id"] for price in world.table("price").values()):
        raise Refusal("This product cannot be deleted because it has one or more user-created prices.")
    del world.table(KIND)[product["id"]]
    emit(world, "product.deleted", product)
    return {"id": product["id"], "object": KIND, "deleted": True}


def list_products(world: World, call: Call) -> Json:
    """List products, active ones or some ids if asked."""
    active, ids = call.fields.flag("active"), call.fields.texts("ids")
    created = created_filter(call.fields)
    call.fields.ignore("shippable", "url")
    rows = [
        product
        for product in world.table(KIND).values()
        if created(product) and active in {None, product["active"]} and (not ids or product["id"] in ids)
    ]
    return page_of(rows, call, "/v1/products")


def _new(world: World, fields: Fields, identifier: str | None) -> Json:
    active = fields.flag("active")
    now = world.now()
    return {
        "id": identifier or world.new_id("prod"),
        "object": KIND,
        "active": active is not False,
        "created": now,
        "default_price": None,
        "description": fields.text("description"),
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": merged_metadata(fields),
        "name": fields.need_text("name"),
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "unit_label": fields.text("unit_label"),
        "updated": now,
        "url": None,
    }


def _kept(world: World, product: Json) -> Json:
    world.add(product)
    emit(world, "product.created", product)
    return product


def _ignore_the_rest(fields: Fields) -> None:
    fields.ignore("images", "marketing_features", "package_dimensions", "shippable", "statement_descriptor")
    fields.ignore("tax_code", "url", "type", "default_price")


ROUTES = [
    Route("POST", "/v1/products", create),
    Route("GET", "/v1/products", list_products),
    Route("GET", "/v1/products/{id}", retrieve),
    Route("POST", "/v1/products/{id}", update),
    Route("DELETE", "/v1/products/{id}", delete),
]
