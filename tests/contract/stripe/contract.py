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
AHEAD_OF_DOCUMENT = {
    "POST /v1/subscriptions/{subscription}/pause": "POST /v1/subscriptions/{subscription}/resume"
}
"""What the SDK's version of the API has and the document's lacks, and the operation that answers with the same."""
EVENTS = {"GET /v1/events", "GET /v1/events/{id}"}
FIRST_ERROR = 400
NOT_FOUND = 404
V2_ERROR = {"$ref": "#/components/schemas/v2.error"}


class ContractBroken(AssertionError):
    """A request or an answer that Stripe's document does not allow."""


@cache
def operations() -> dict[str, tuple[re.Pattern[str], str]]:
    """Every operation with the pattern of its path, literal paths before those with ids."""
    names = sorted([*DOCUMENT["operations"], *AHEAD_OF_DOCUMENT], key=lambda name: name.count("{"))
    return {
        name: (re.compile(re.sub(r"\{\w+\}", "[^/]+", name.split()[1])), name.split()[0]) for name in names
    }


def operation_of(method: str, path: str) -> str:
    """Name the operation that a request calls."""
    for name, (pattern, verb) in operations().items():
        if verb == method and pattern.fullmatch(path):
            return name
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
def definitions(*, closed: bool) -> dict[str, Any]:
    """Turn all schemas that others refer to into JSON Schema."""
    return {name: schema(body, closed=closed) for name, body in DOCUMENT["schemas"].items()}


@cache
def validator(operation: str, part: str, *, closed: bool) -> Draft202012Validator:
    """Make the validator of a part of an operation: request, response or error."""
    root = schema(DOCUMENT["operations"][operation][part], closed=closed)
    return Draft202012Validator({**root, "$defs": definitions(closed=closed)})


def check_error(operation: str, status: int, answer: Any, *, closed: bool) -> None:
    """Check a refusal: by the operation's errors, and by the very one that the document has for its code."""
    complain(validator(operation, "error", closed=closed), answer, f"{operation} {status}")
    listed = DOCUMENT["operations"][operation]["error"].get("oneOf", [V2_ERROR])
    named = {code: rule for rule in listed for code in codes_of(rule)}
    code = answer["error"].get("code")
    if status == NOT_FOUND and "not_found" in named and code != "not_found":
        raise ContractBroken(f"{operation} {status}: the document calls this not_found, not {code}")
    if code in named:
        # Open, because the document leaves out the ``type`` by which the SDK knows some of them.
        rule = {**schema(named[code], closed=False), "$defs": definitions(closed=False)}
        complain(Draft202012Validator(rule), answer, f"{operation} {status} {code}")


@cache
def snapshot_validator(kind: str, *, closed: bool) -> Draft202012Validator:
    """Make the validator of the object that an event is about."""
    if kind not in DOCUMENT["schemas"]:
        raise ContractBroken(f"the document has no object {kind}")
    root = {"$ref": f"#/$defs/{kind}"}
    return Draft202012Validator({**root, "$defs": definitions(closed=closed)})


def check_snapshots(answer: Any, *, closed: bool) -> None:
    """Check the objects inside v1's events, which the document leaves open; Stripe's own may be of any kind."""
    for event in answer["data"] if answer["object"] == "list" else [answer]:
        snapshot = event["data"]["object"]
        if closed or snapshot["object"] in DOCUMENT["schemas"]:
            complain(snapshot_validator(snapshot["object"], closed=closed), snapshot, event["type"])


def codes_of(rule: dict[str, str]) -> list[str]:
    """Return the codes of an error that the document describes by itself; none for the general error."""
    error = DOCUMENT["schemas"][rule["$ref"].rpartition("/")[2]]["properties"]["error"]
    return error.get("properties", {}).get("code", {}).get("enum", [])


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
    sent = json.loads(body or "{}") if "/v2/" in url else typed(decode_form(body or ""), known["request"])
    if known["request"] == {"type": "object"} and sent:
        raise ContractBroken(f"{operation} takes no parameters, not {sorted(sent)}")
    complain(validator(operation, "request", closed=True), sent, operation)


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


def check_exchange(
    method: str, url: str, body: Any, answered: tuple[int, bytes | str], *, closed: bool
) -> tuple[str, str]:
    """Check a request and its answer; return the operation and the part of the contract that the answer kept."""
    verb, (status, content) = method.upper(), answered
    operation, answer = operation_of(verb, urlsplit(url).path), json.loads(content)
    answers_like = AHEAD_OF_DOCUMENT.get(operation, operation)
    if status >= FIRST_ERROR:
        check_error(answers_like, status, answer, closed=closed)
        return operation, "error"
    if operation not in AHEAD_OF_DOCUMENT:
        check_request(verb, url, body, operation)
    complain(validator(answers_like, "response", closed=closed), answer, f"{operation} {status}")
    if operation in EVENTS:
        check_snapshots(answer, closed=closed)
    return operation, "response"


def hold_to_contract(transport: stripe.HTTPClient) -> None:
    """Have what the product itself sends to a sandbox checked, and what it gets; it is sent all the same."""
    send = transport.request_async

    async def request_async(method, url, headers, post_data=None):
        content, status, answered = await send(method, url, headers, post_data)
        check_exchange(method, url, post_data, (status, content), closed=True)
        return content, status, answered

    transport.request_async = request_async


class CheckedClient(RequestsClient):
    """The SDK's own HTTP client, which fails a test on the first breach of the contract."""

    def __init__(self, *, closed: bool, timeout_s: float = 10.0) -> None:
        super().__init__(timeout=timeout_s)
        self._closed = closed
        self.checked: set[tuple[str, str]] = set()
        """The operations that were called, each with the part of the contract that its answer kept."""

    def request(self, method, url, headers=None, post_data=None):
        """Send a request, checked on its way out and its answer on its way in."""
        content, status, answered = super().request(method, url, headers, post_data)
        self.checked.add(check_exchange(method, url, post_data, (status, content), closed=self._closed))
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
