"""Checks what goes over the wire against Stripe's OpenAPI document, requests and answers alike."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import stripe
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from stripe._http_client import RequestsClient

from billing.sandbox.form import decode_form

DOCUMENT = json.loads((Path(__file__).parent / "openapi.json").read_text())
# What the SDK's version of the API has and the document's version lacks.
AHEAD_OF_DOCUMENT = {"POST /v1/subscriptions/{}/pause"}
FIRST_ERROR = 400


class ContractBroken(AssertionError):
    """A request or an answer that Stripe's document does not allow."""


@cache
def operations() -> dict[str, tuple[re.Pattern[str], str]]:
    """Every operation with the pattern of its path, literal paths before those with ids."""
    names = sorted(DOCUMENT["operations"], key=lambda name: name.count("{"))
    return {
        name: (re.compile(re.sub(r"\{\w+\}", "[^/]+", name.split()[1])), name.split()[0]) for name in names
    }


def operation_of(method: str, path: str) -> str | None:
    """Name the operation that a request calls; ``None`` if the document does not have it yet."""
    for name, (pattern, verb) in operations().items():
        if verb == method and pattern.fullmatch(path):
            return name
    nameless = re.sub(r"(?<=subscriptions/)[^/]+", "{}", f"{method} {path}")
    if nameless in AHEAD_OF_DOCUMENT:
        return None
    raise ContractBroken(f"Stripe has no {method} {path}")


def schema(node: Any, *, closed: bool) -> Any:
    """Turn OpenAPI 3.0 into JSON Schema; ``closed`` refuses fields that the document does not name."""
    if isinstance(node, list):
        return [schema(item, closed=closed) for item in node]
    if not isinstance(node, dict):
        return node
    # Stripe's "one of" holds special and general errors, of which one answer matches both.
    node = {"anyOf" if key == "oneOf" else key: schema(value, closed=closed) for key, value in node.items()}
    if "$ref" in node and isinstance(node["$ref"], str):
        node["$ref"] = node["$ref"].replace("#/components/schemas/", "#/$defs/")
    if closed and node.get("type") == "object" and "properties" in node:
        node.setdefault("additionalProperties", False)
    if node.pop("nullable", False) is True:
        return {"anyOf": [node, {"type": "null"}]}
    return node


@cache
def validator(operation: str, part: str, *, closed: bool) -> Draft202012Validator:
    """Make the validator of a part of an operation: request, response or error."""
    root = schema(DOCUMENT["operations"][operation][part], closed=closed)
    defs = {name: schema(body, closed=closed) for name, body in DOCUMENT["schemas"].items()}
    return Draft202012Validator({**root, "$defs": defs})


def complain(validator_: Draft202012Validator, value: Any, what: str) -> None:
    """Raise with the most telling error, if there is one."""
    error = best_match(validator_.iter_errors(value))
    if error is not None:
        where = "/".join(str(step) for step in error.absolute_path)
        raise ContractBroken(f"{what}: at {where or 'the top'}: {error.message[:300]}")


def check_request(method: str, url: str, body: Any, operation: str) -> None:
    """Check the parameters of a request, each by the type that the document gives it."""
    known = DOCUMENT["operations"][operation]
    query = decode_form(urlsplit(url).query)
    if method == "DELETE":
        # The document has these in a body; the SDKs send them in the query.
        complain(validator(operation, "request", closed=True), typed(query, known["request"]), operation)
        return
    unknown = query.keys() - {name.removesuffix("[]") for name in known["query"]}
    if unknown:
        raise ContractBroken(f"{operation} has no query {sorted(unknown)}")
    for name, value in query.items():
        rule = known["query"].get(name, {})
        complain(Draft202012Validator(schema(rule, closed=True)), typed(value, rule), f"{operation} ?{name}")
    if method != "POST":
        return
    if "/v2/" in url:
        complain(validator(operation, "request", closed=True), json.loads(body or "{}"), operation)
    else:
        form = decode_form(body or "")
        complain(validator(operation, "request", closed=True), typed(form, known["request"]), operation)


def typed(value: Any, rule: dict[str, Any]) -> Any:
    """Give the texts of a form the types that the document expects of them, where they fit."""
    for option in rule.get("anyOf", ()):
        candidate = typed(value, option)
        if Draft202012Validator(schema(option, closed=True)).is_valid(candidate):
            return candidate
    if isinstance(value, dict):
        inner, rest = rule.get("properties", {}), rule.get("additionalProperties")
        other = rest if isinstance(rest, dict) else {}
        return {name: typed(child, inner.get(name, other)) for name, child in value.items()}
    if isinstance(value, list):
        return [typed(child, rule.get("items", {})) for child in value]
    return typed_leaf(value, rule.get("type"))


def typed_leaf(text: str, kind: str | None) -> Any:
    """Give one text its type."""
    if kind == "integer" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind == "number":
        return float(text)
    if kind == "boolean" and text in {"true", "false"}:
        return text == "true"
    return text


class CheckedClient(RequestsClient):
    """The SDK's own HTTP client, which fails a test on the first breach of the contract."""

    def __init__(self, *, closed: bool, timeout_s: float = 10.0) -> None:
        super().__init__(timeout=timeout_s)
        self._closed = closed
        self.checked = 0

    def request(self, method, url, headers=None, post_data=None):
        """Send a request, checked on its way out and its answer on its way in."""
        verb = method.upper()
        operation = operation_of(verb, urlsplit(url).path)
        content, status, answered = super().request(method, url, headers, post_data)
        if operation is not None:
            if status < FIRST_ERROR:
                check_request(verb, url, post_data, operation)
            part = "response" if status < FIRST_ERROR else "error"
            complain(
                validator(operation, part, closed=self._closed), json.loads(content), f"{operation} {status}"
            )
            self.checked += 1
        return content, status, answered


def checked_client(
    key: str, address: str | None, *, retries: int = 0, timeout_s: float = 10.0
) -> stripe.StripeClient:
    """The official client, whose every request and answer is checked; no address means Stripe itself."""
    addresses = {"api": address, "meter_events": address} if address else {}
    return stripe.StripeClient(
        key,
        base_addresses=addresses,
        http_client=CheckedClient(closed=address is not None, timeout_s=timeout_s),
        max_network_retries=retries,
    )
