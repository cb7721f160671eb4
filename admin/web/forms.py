"""Forms: URL-encoded bodies of known fields, each once, within limits; anything else is refused by name."""

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from admin.web.parts import PageRequest
from gateway.errors import InvalidValue, UnknownParameter

FIELDS_MAX = 50
FORM_TYPE = "application/x-www-form-urlencoded"
TOKEN_FIELD = "csrf"  # noqa: S105 - the name of a field

Form = TypeVar("Form", bound=msgspec.Struct)


async def read_form(request: PageRequest, kind: type[Form]) -> Form:
    """Read the form of a request; ``UnknownParameter`` or ``InvalidValue`` names the field.

    A field of several values is one whose type is ``tuple[str, ...]``.
    """
    values = await form_values(request)
    values.pop(TOKEN_FIELD, None)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    given: dict[str, Any] = {}
    for name, found in values.items():
        if name not in fields:
            raise UnknownParameter(f"Unknown field: {name[:50]!r}.", param=name[:50])
        several = str(fields[name].type).startswith("tuple")
        if not several and len(found) > 1:
            raise InvalidValue(f"The field {name!r} was sent twice.", param=name)
        given[name] = found if several else found[0]
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"The form is not complete: {error}.") from None


async def form_values(request: PageRequest) -> dict[str, list[str]]:
    """Return the values of each field of a request's form."""
    kept: dict[str, list[str]] | None = request.scope["state"].get("form")
    if kept is not None:
        return kept
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != FORM_TYPE:
        raise InvalidValue("A form must be sent URL-encoded.", param="content-type")
    try:
        text = (await request.body()).decode("utf-8")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=FIELDS_MAX)
    except (ValueError, UnicodeDecodeError):
        raise InvalidValue("The form cannot be read.") from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    request.scope["state"]["form"] = values
    return values
