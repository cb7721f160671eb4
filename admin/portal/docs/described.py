"""The OpenAPI document in a reader's language: the same names and shapes, with its sentences from the catalogue."""

from typing import Any

from admin.web.i18n import Gettext
from gateway.http.openapi import causes_of, openapi_document

SENTENCES = frozenset({"summary", "description"})


def described(api_url: str, say: Gettext) -> dict[str, Any]:
    """Return the document of the API that is served at ``api_url``, each sentence as ``say`` says it."""
    document = openapi_document(api_url)
    answers = {
        name: {**answer, "description": causes_of(int(name.removeprefix("Error")), say)}
        for name, answer in document["components"]["responses"].items()
    }
    return {
        key: {**value, "responses": answers} if key == "components" else _said(value, say)
        for key, value in document.items()
    }


def _said(value: Any, say: Gettext) -> Any:
    if isinstance(value, list):
        return [_said(one, say) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: say(one) if key in SENTENCES and isinstance(one, str) else _said(one, say)
        for key, one in value.items()
    }
