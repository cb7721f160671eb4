"""Reading a request's parameters, with Stripe's own words for what is wrong with them.

A handler names every parameter that it takes; ``finish`` then refuses the rest, as Stripe does, so that a
misspelt parameter fails here and not in production.
"""

import re
from collections.abc import Mapping
from typing import Any

from billing.sandbox.refusals import ParameterRefusal

MAX_TEXT = 5_000
MAX_METADATA = 50
DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,12})?")


class Fields:
    """The parameters of one request, or of one object inside it."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix
        self._known: set[str] = {"expand"}
        self._children: list[Fields] = []

    def name_of(self, name: str) -> str:
        """Write a parameter's name as Stripe does, ``items[0][price]``."""
        return f"{self._prefix}[{name}]" if self._prefix else name

    def has(self, name: str) -> bool:
        """Tell whether a parameter was sent, even if empty."""
        self._known.add(name)
        return name in self._values

    def raw(self, name: str) -> Any:
        """Return a parameter as it was decoded."""
        self._known.add(name)
        return self._values.get(name)

    def text(self, name: str, *, longest: int = MAX_TEXT) -> str | None:
        """Read text; an empty one clears a field and reads as ``None``."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, dict | list):
            raise ParameterRefusal(f"Invalid string: {value}", param=self.name_of(name))
        if len(str(value)) > longest:
            raise ParameterRefusal(
                f"Invalid string: must be at most {longest} characters",
                param=self.name_of(name),
                stripe_code="parameter_invalid_string_length",
            )
        return str(value)

    def need_text(self, name: str, *, longest: int = MAX_TEXT) -> str:
        """Read text that must be there."""
        value = self.text(name, longest=longest)
        if value is None:
            raise self._missing(name)
        return value

    def integer(self, name: str) -> int | None:
        """Read a whole number."""
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?\d{1,18}", value):
            raise ParameterRefusal(
                f"Invalid integer: {value}",
                param=self.name_of(name),
                stripe_code="parameter_invalid_integer",
            )
        return int(value)

    def need_integer(self, name: str) -> int:
        """Read a whole number that must be there."""
        value = self.integer(name)
        if value is None:
            raise self._missing(name)
        return value

    def decimal(self, name: str) -> str | None:
        """Read a decimal number of at most 12 places, kept as the text that it is."""
        value = self.text(name)
        if value is not None and not DECIMAL.fullmatch(value):
            raise ParameterRefusal(f"Invalid decimal: {value}", param=self.name_of(name))
        return value

    def flag(self, name: str) -> bool | None:
        """Read true or false."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in {"true", "false"}:
            raise ParameterRefusal(f"Invalid boolean: {value}", param=self.name_of(name))
        return value.lower() == "true"

    def choice(self, name: str, *options: str) -> str | None:
        """Read one of the named values."""
        value = self.text(name)
        if value is not None and value not in options:
            raise ParameterRefusal(
                f"Invalid {name}: must be one of {', '.join(options)}", param=self.name_of(name)
            )
        return value

    def group(self, name: str) -> "Fields | None":
        """Read an object of parameters; an empty one clears a field and reads as ``None``."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, dict):
            raise ParameterRefusal("Invalid object", param=self.name_of(name))
        return self._child(value, self.name_of(name))

    def need_group(self, name: str) -> "Fields":
        """Read an object of parameters that must be there."""
        child = self.group(name)
        if child is None:
            raise self._missing(name)
        return child

    def rows(self, name: str) -> "list[Fields]":
        """Read a list of objects of parameters."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None or value == "":
            return []
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise ParameterRefusal("Invalid array", param=self.name_of(name))
        return [self._child(row, f"{self.name_of(name)}[{index}]") for index, row in enumerate(value)]

    def texts(self, name: str) -> list[str]:
        """Read a list of texts."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None or value == "":
            return []
        if not isinstance(value, list):
            raise ParameterRefusal("Invalid array", param=self.name_of(name))
        return [str(item) for item in value]

    def mapping(self, name: str) -> dict[str, str] | None:
        """Read names and texts (metadata, a meter event's payload); ``None`` when not sent."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return None
        if value == "":
            return {}
        if isinstance(value, list):
            value = {str(index): item for index, item in enumerate(value)}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise ParameterRefusal("Invalid hash: every value must be a string", param=self.name_of(name))
        if len(value) > MAX_METADATA:
            raise ParameterRefusal(f"Invalid hash: at most {MAX_METADATA} keys", param=self.name_of(name))
        return value

    def ignore(self, *names: str) -> None:
        """Accept parameters that change nothing here."""
        self._known.update(names)

    def finish(self) -> None:
        """Refuse every parameter that was not asked for, in this object and in those inside it."""
        for name in self._values:
            if name not in self._known:
                raise ParameterRefusal(
                    f"Received unknown parameter: {self.name_of(name)}",
                    param=self.name_of(name),
                    stripe_code="parameter_unknown",
                )
        for child in self._children:
            child.finish()

    def _child(self, value: dict[str, Any], name: str) -> "Fields":
        child = Fields(value, name)
        self._children.append(child)
        return child

    def _missing(self, name: str) -> ParameterRefusal:
        return ParameterRefusal(
            f"Missing required param: {self.name_of(name)}.",
            param=self.name_of(name),
            stripe_code="parameter_missing",
        )


def merged_metadata(fields: Fields, current: dict[str, str] | None = None) -> dict[str, str]:
    """Apply ``metadata`` as Stripe does: given keys are set, empty ones removed, the whole cleared by ``""``."""
    given = fields.mapping("metadata")
    if given is None:
        return dict(current or {})
    if given == {}:
        return {}
    merged = dict(current or {}) | given
    return {key: value for key, value in merged.items() if value != ""}
