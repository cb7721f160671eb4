"""Logs: one JSON object a line, with the request's id, and only fields that are known to be harmless.

Redaction works by allow-list: a field that is not in ``SAFE_FIELDS`` is written as ``[redacted]``, so a key or
a prompt cannot reach a log because somebody forgot about it.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

SAFE_FIELDS = frozenset(
    {
        "account_id", "attempt", "code", "count", "customer", "detail", "endpoint", "engine", "error_type", "event", "job", "level",
        "notice", "path", "period", "plan", "reason", "request_id", "room", "setting", "state", "status", "timestamp", "types",
        "upstream",
    }
)  # fmt: skip
REDACTED = "[redacted]"


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace every field that is not known to be safe; a traceback is reduced to where it happened."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["error_type"] = type(error).__name__
        event["detail"] = _where(error)
    for name in event:
        if name not in SAFE_FIELDS:
            event[name] = REDACTED
    return event


def _where(error: BaseException) -> str:
    frames = []
    step = error.__traceback__
    while step is not None:
        frames.append(
            f"{step.tb_frame.f_code.co_qualname}:{step.tb_lineno}"
            if hasattr(step.tb_frame.f_code, "co_qualname")
            else ""
        )
        step = step.tb_next
    return " < ".join(reversed(frames[-6:]))


def configure_logging(*, json_lines: bool) -> None:
    """Set up structlog for this process: JSON lines on standard error, or readable lines for a terminal."""
    renderer: Any = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger(room: str) -> Any:
    """Return the logger of a room; its name is on every line."""
    return structlog.get_logger(room=room)


def describe(error: BaseException) -> Mapping[str, str]:
    """Describe an error without its text, which may hold what somebody sent us."""
    return {"error_type": type(error).__name__, "detail": _where(error)}
