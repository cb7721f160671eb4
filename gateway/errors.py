"""The base of every error this product raises on purpose.

An error is a class with a stable ``code``; its docstring is its default message. Which HTTP status and
shape a code has is decided in one table (``gateway.http.error_table``), so a room that raises an error
knows nothing of HTTP.
"""

from typing import ClassVar


class NusagateError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n\n", maxsplit=1)[0].strip()
        self.param = param
        super().__init__(self.message)


class ConfigurationError(NusagateError):
    """A setting is missing or wrong; the message names it."""

    code = "configuration_error"


class RequestError(NusagateError):
    """The request is not valid."""

    code = "invalid_request_error"


class InvalidJson(RequestError):
    """The body is not valid JSON."""

    code = "invalid_json"


class MissingParameter(RequestError):
    """A required parameter is missing."""

    code = "missing_required_parameter"


class InvalidValue(RequestError):
    """A parameter has a value it cannot have."""

    code = "invalid_value"


class UnknownParameter(RequestError):
    """A parameter is not known."""

    code = "unknown_parameter"
