"""Which function answers which request, and how lists are cut into pages."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from billing.sandbox.fields import Fields
from billing.sandbox.refusals import NoSuchObject, ParameterRefusal, Refusal
from billing.sandbox.state import Json
from billing.sandbox.world import World, list_object

MAX_PAGE = 100
DEFAULT_PAGE = 10
V2_PAGE = 20


class Request(msgspec.Struct, frozen=True):
    """One HTTP request; header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    request_id: str

    @property
    def is_v2(self) -> bool:
        """Tell whether this is Stripe's v2 API: JSON in, other errors, other idempotency."""
        return self.path.startswith("/v2/")

    @property
    def idempotency_key(self) -> str | None:
        """The key that the client gave this request."""
        return self.headers.get("idempotency-key") or None


class Call(msgspec.Struct, frozen=True):
    """What a handler gets: the parameters, and the ids from the path in their order."""

    fields: Fields
    ids: tuple[str, ...]

    @property
    def id(self) -> str:
        """The first id from the path."""
        return self.ids[0]


Handler = Callable[[World, Call], Json]


class Route(msgspec.Struct, frozen=True):
    """A method and a path such as ``/v1/customers/{customer}``, and who answers there."""

    method: str
    path: str
    handle: Handler


class UnknownUrl(Refusal):
    """Unrecognized request URL."""

    status = 404
    stored = False


class Router:
    """Finds the route of a request; literal paths win over those with ids."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(sorted(routes, key=lambda route: route.path.count("{")))
        """Everything that can be asked for."""
        self._patterns = [(route, re.compile(_pattern(route.path))) for route in self.routes]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """Return the route and the ids in the path; ``UnknownUrl`` if there is none."""
        for route, pattern in self._patterns:
            match = pattern.fullmatch(path)
            if match and route.method == method:
                return route, match.groups()
        raise UnknownUrl(f"Unrecognized request URL ({method}: {path}).")


def _pattern(path: str) -> str:
    return re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(path))


def page_of(rows: Iterable[Json], call: Call, url: str) -> Json:
    """Cut a list, newest first, into the page that ``limit``, ``starting_after`` and ``ending_before`` name."""
    fields = call.fields
    limit = _limit(fields)
    after, before = fields.text("starting_after"), fields.text("ending_before")
    fields.finish()
    if after and before:
        raise ParameterRefusal(
            "You cannot use both starting_after and ending_before.", param="starting_after"
        )
    newest_first = list(rows)
    newest_first.reverse()
    if after:
        start = _index(newest_first, after, "starting_after") + 1
        kept = newest_first[start : start + limit]
        return list_object(url, kept, has_more=start + limit < len(newest_first))
    if before:
        end = _index(newest_first, before, "ending_before")
        start = max(0, end - limit)
        return list_object(url, newest_first[start:end], has_more=start > 0)
    return list_object(url, newest_first[:limit], has_more=len(newest_first) > limit)


def page_v2(rows: list[Json], fields: Fields, url: str, kept: Mapping[str, str]) -> Json:
    """Cut a list, newest first, into the page that v2's ``limit`` and ``page`` name.

    The next page has a URL, which repeats the filters that are ``kept``.
    """
    limit, start = _limit(fields, V2_PAGE), fields.integer("page") or 0
    fields.finish()
    following = start + limit
    query = urlencode({"page": following, "limit": limit, **kept})
    next_url = f"{url}?{query}" if following < len(rows) else None
    return {"data": rows[start:following], "next_page_url": next_url, "previous_page_url": None}


def listed(name: str, values: list[str]) -> dict[str, str]:
    """Write a list as the parameters of a URL."""
    return {f"{name}[{index}]": value for index, value in enumerate(values)}


def created_filter(fields: Fields) -> Callable[[Json], bool]:
    """Read the ``created`` filter of a list, a moment or a range with gt, gte, lt and lte."""
    if not fields.has("created"):
        return lambda _row: True
    value: Any = fields.raw("created")
    if not isinstance(value, dict):
        exact = fields.integer("created")
        return lambda row: row["created"] == exact
    bounds = fields.need_group("created")
    above, from_, below, to = (bounds.integer(name) for name in ("gt", "gte", "lt", "lte"))
    return lambda row: (
        (above is None or row["created"] > above)
        and (from_ is None or row["created"] >= from_)
        and (below is None or row["created"] < below)
        and (to is None or row["created"] <= to)
    )


def _limit(fields: Fields, default: int = DEFAULT_PAGE) -> int:
    limit = fields.integer("limit")
    if limit is None:
        return default
    if not 1 <= limit <= MAX_PAGE:
        raise ParameterRefusal(f"Invalid integer: limit must be between 1 and {MAX_PAGE}", param="limit")
    return limit


def _index(rows: list[Json], identifier: str, param: str) -> int:
    for index, row in enumerate(rows):
        if row["id"] == identifier:
            return index
    raise NoSuchObject("object", identifier, param=param)
