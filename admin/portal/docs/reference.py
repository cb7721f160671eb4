"""The reference: the OpenAPI document, read into what a page shows of each operation."""

import json
import shlex
from typing import Any

import msgspec

from admin.portal.docs.markdown import slug_of

METHODS = ("get", "post", "delete")
JSON = "application/json"
EVENTS = "text/event-stream"
NOTES = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "maxLength": "≤ {} characters",
    "minItems": "≥ {} items",
    "maxItems": "≤ {} items",
    "maxProperties": "≤ {} pairs",
    "default": "default {}",
    "format": "{}",
}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter or a field of a body: its type and bounds in the words of the document."""

    name: str
    place: str
    kind: str
    notes: str
    required: bool
    deprecated: bool


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path."""

    slug: str
    method: str
    path: str
    summary: str
    streams: bool
    fields: list[Field]
    curl: str
    answer: str | None
    statuses: dict[str, list[str]]
    """Each status that is an error, with its codes."""


def read_operations(document: dict[str, Any], codes: dict[int, list[str]]) -> list[Operation]:
    """Read every operation of an OpenAPI document; ``codes`` are the codes of each status."""
    base = document["servers"][0]["url"]
    return [
        _operation(base, method, path, operations, codes)
        for path, operations in document["paths"].items()
        for method in METHODS
        if method in operations
    ]


def _operation(
    base: str, method: str, path: str, operations: dict[str, Any], codes: dict[int, list[str]]
) -> Operation:
    described = operations[method]
    given = [*operations.get("parameters", ()), *described.get("parameters", ())]
    body = described.get("requestBody", {}).get("content", {}).get(JSON, {})
    content = described["responses"]["200"]["content"]
    answer = content[JSON].get("example")
    return Operation(
        slug=slug_of(f"{method} {path}"),
        method=method.upper(),
        path=path,
        summary=described["summary"],
        streams=EVENTS in content,
        fields=[
            *(_field(one["name"], one["in"], one["schema"], one.get("required", False)) for one in given),
            *_body_fields(body.get("schema", {})),
        ],
        curl=_curl(base, method.upper(), path, body.get("example")),
        answer=None if answer is None else _json(answer),
        statuses={status: codes[int(status)] for status in described["responses"] if int(status) in codes},
    )


def _body_fields(schema: dict[str, Any]) -> list[Field]:
    required = schema.get("required", ())
    return [
        _field(name, "body", of_field, name in required)
        for name, of_field in schema.get("properties", {}).items()
    ]


def _field(name: str, place: str, schema: dict[str, Any], required: bool) -> Field:  # noqa: FBT001 - one of four facts
    notes = [text.format(_word(schema[key])) for key, text in NOTES.items() if key in schema]
    return Field(
        name=name,
        place=place,
        kind=_kind(schema),
        notes=", ".join(notes),
        required=required,
        deprecated=schema.get("deprecated", False),
    )


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(_word(value) for value in schema["enum"])
    kinds = schema.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    items = schema.get("items")
    named = [f"array of {_kind(items)}" if kind == "array" and items else kind for kind in kinds]
    return " | ".join(named)


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _curl(base: str, method: str, path: str, example: object) -> str:
    named = path.replace("{model_id}", "nusantara-base").replace("{response_id}", "$RESPONSE_ID")
    verb = "" if method == "GET" or example is not None else f"-X {method} "
    lines = [f"curl {verb}{base}{named}", '  -H "Authorization: Bearer $NUSAGATE_API_KEY"']
    if example is not None:
        lines += ['  -H "Content-Type: application/json"', f"  -d {shlex.quote(_json(example))}"]
    return " \\\n".join(lines)
