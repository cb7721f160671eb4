"""The description of this API in OpenAPI 3.1, made from the same tables that the code answers from."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

from gateway.http.error_table import ERRORS
from gateway.http.openapi_examples import ANSWERS, REQUESTS
from gateway.ledger.store import USAGE_GROUPS, USERS_MAX

JSON = "application/json"
EVENTS = "text/event-stream"

STRING: dict[str, Any] = {"type": "string"}
OBJECT: dict[str, Any] = {"type": "object"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
NUMBER_0_TO_1: dict[str, Any] = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}

RESPONSES_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string", "description": "A model of GET /v1/models."},
        "input": {
            "description": "Text, or the items of a conversation.",
            "anyOf": [STRING, {"type": "array", "items": OBJECT}],
        },
        "max_output_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1, "deprecated": True},
        "instructions": TEXT_OR_NULL,
        "temperature": {**NUMBER_0_TO_1, "default": 0.7},
        "top_p": {**NUMBER_0_TO_1, "default": 1.0},
        "stream": {"type": ["boolean", "null"], "default": False},
        "tools": {"type": ["array", "null"], "items": OBJECT, "maxItems": 128},
        "tool_choice": {"anyOf": [STRING, OBJECT], "default": "auto"},
        "parallel_tool_calls": {"type": ["boolean", "null"], "default": True},
        "truncation": {"enum": ["auto", "disabled", None], "default": "disabled"},
        "user": {"type": ["string", "null"], "maxLength": 512},
        "metadata": {
            "type": ["object", "null"],
            "maxProperties": 16,
            "additionalProperties": {"type": "string", "maxLength": 512},
        },
        "store": {"type": ["boolean", "null"], "default": True},
        "previous_response_id": TEXT_OR_NULL,
        "text": {"type": ["object", "null"]},
        "reasoning": {"type": ["object", "null"]},
        "background": {"enum": [False, None]},
        "service_tier": TEXT_OR_NULL,
        "max_tool_calls": {"type": ["integer", "null"]},
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
        "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
        "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
        "safety_identifier": TEXT_OR_NULL,
        "prompt_cache_key": TEXT_OR_NULL,
        "include": {"type": ["array", "null"], "items": STRING},
        "stream_options": {"type": ["object", "null"]},
        "conversation": {"type": "null"},
    },
}

CHAT_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": STRING,
        "messages": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role"]}},
        "stream": {"type": ["boolean", "null"]},
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "n": {"type": ["integer", "null"], "minimum": 1},
        "user": {"type": ["string", "null"], "maxLength": 512},
    },
}

EMBEDDINGS_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["model", "input"],
    "additionalProperties": False,
    "properties": {
        "model": STRING,
        "input": {"anyOf": [STRING, {"type": "array", "minItems": 1}]},
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"type": "integer", "minimum": 1},
        "user": STRING,
    },
}


@cache
def openapi_document(api_url: str) -> dict[str, Any]:
    """Describe the API that is served at ``api_url``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nusagate",
            "version": version("nusagate"),
            "description": "An OpenAI-compatible API with exact metering and hard limits.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": api_url}],
        "security": [{"bearer": []}, {"header": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {"Error": _error_schema()},
            "responses": {_answer_name(status): _error_answer(status) for status in _statuses()},
        },
    }


def _paths() -> dict[str, Any]:
    response_id = {"name": "response_id", "in": "path", "required": True, "schema": STRING}
    model_id = {"name": "model_id", "in": "path", "required": True, "schema": STRING}
    paths: dict[str, Any] = {
        "/v1/responses": {"post": _inference("Create a response", RESPONSES_BODY, streams=True)},
        "/v1/chat/completions": {"post": _inference("Create a chat completion", CHAT_BODY, streams=True)},
        "/v1/embeddings": {"post": _inference("Create embeddings", EMBEDDINGS_BODY, streams=False)},
        "/v1/responses/{response_id}": {
            "parameters": [response_id],
            "get": _operation("Return a stored response", [401, 403, 404]),
            "delete": _operation("Forget a stored response", [401, 403, 404]),
        },
        "/v1/responses/{response_id}/input_items": {
            "parameters": [response_id],
            "get": _operation(
                "Page through what a response was made from",
                [400, 401, 403, 404],
                [
                    _query("order", {"enum": ["asc", "desc"], "default": "desc"}),
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
                    _query("after", STRING),
                ],
            ),
        },
        "/v1/responses/{response_id}/cancel": {
            "parameters": [response_id],
            "post": _operation("Cancel a running response", [400, 401, 403, 404]),
        },
        "/v1/models": {"get": _operation("List the models that this key may use", [401, 403])},
        "/v1/models/{model_id}": {
            "parameters": [model_id],
            "get": _operation("Show one model", [401, 403, 404]),
        },
        "/v1/auth/key": {"get": _operation("Describe the calling key", [401, 403])},
        "/v1/usage": {
            "get": _operation(
                "Sum the account's usage",
                [400, 401, 403],
                [
                    _query("start", {"type": "string", "format": "date-time"}),
                    _query("end", {"type": "string", "format": "date-time"}),
                    _query("group_by", {"enum": list(USAGE_GROUPS), "default": "model"}),
                ],
            )
            | {
                "description": f"By `user`, the {USERS_MAX:,} end users with most tokens have rows of their own; all others are together "
                "in the row whose `group` is null, so that the rows always sum to all usage that named an end user."
            }
        },
    }
    _add_examples(paths)
    return paths


def _add_examples(paths: dict[str, Any]) -> None:
    for path, operations in paths.items():
        for method, operation in operations.items():
            if (request := REQUESTS.get((method, path))) is not None:
                operation["requestBody"]["content"][JSON]["example"] = request
            if (answer := ANSWERS.get((method, path))) is not None:
                operation["responses"]["200"]["content"][JSON]["example"] = answer


def _inference(summary: str, body: dict[str, Any], *, streams: bool) -> dict[str, Any]:
    content = {JSON: {"schema": OBJECT}} | ({EVENTS: {"schema": STRING}} if streams else {})
    return {
        "summary": summary,
        "parameters": [
            {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "responses": {"200": {"description": "The answer", "content": content}, **_errors(_statuses())},
    }


def _operation(
    summary: str, statuses: list[int], parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    answers = {"200": {"description": "The answer", "content": {JSON: {"schema": OBJECT}}}}
    operation: dict[str, Any] = {"summary": summary, "responses": answers | _errors([*statuses, 503])}
    return operation | ({"parameters": parameters} if parameters else {})


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _statuses() -> list[int]:
    return sorted({row.status for row in ERRORS.values()})


def _errors(statuses: list[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{_answer_name(status)}"} for status in statuses}


def _answer_name(status: int) -> str:
    return f"Error{status}"


def causes_of(status: int, say: Callable[[str], str] = str) -> str:
    """List the codes of a status with their causes as Markdown, each sentence as ``say`` says it."""
    return "\n".join(f"- `{code}`: {say(row.cause)}" for code, row in ERRORS.items() if row.status == status)


def _error_answer(status: int) -> dict[str, Any]:
    error = {"schema": {"$ref": "#/components/schemas/Error"}}
    return {"description": causes_of(status), "content": {JSON: error}}


def _error_schema() -> dict[str, Any]:
    quota = {
        "type": "object",
        "properties": {
            **dict.fromkeys(("limit", "used", "held", "remaining", "required"), COUNT),
            **dict.fromkeys(("resets_at", "period", "scope"), STRING),
        },
    }
    return {
        "type": "object",
        "required": ["error", "request_id"],
        "properties": {
            "request_id": STRING,
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": STRING,
                    "type": STRING,
                    "param": TEXT_OR_NULL,
                    "code": {"enum": sorted(ERRORS)},
                    "limit": STRING,
                    "quota": quota,
                },
            },
        },
    }
