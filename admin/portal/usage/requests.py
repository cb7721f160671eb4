"""The pages of settled requests: a list that is paged and filtered by its address, and each request's own account."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from admin.access.model import AccessError
from admin.portal.amounts import FormRefused
from admin.portal.usage.address import TEXT_MAX
from admin.portal.usage.views import CallLine, CallPage, CallsPage, Charged, Filters
from admin.portal.usage.words import ENDINGS, FLAWS, SOURCES
from admin.reports import store as reports
from admin.reports.model import Call, CallDetail
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.i18n import Gettext, mark
from admin.web.pages import OK, page, problem_of
from admin.web.parts import PageRequest, parts_of, visitor_in
from gateway.clock import format_utc_exact
from gateway.errors import NusagateError
from gateway.ids import FIRST_UUID, LAST_UUID, request_label
from gateway.keys import service as keys
from gateway.keys.model import ApiKey
from gateway.ledger.model import EndReason, UsageSource
from gateway.prices import service as prices
from gateway.prices.model import ModelRates, TokenClass
from gateway.quota import service as quota
from gateway.units import PICO_PER_MICRO, AmountPico, format_amount

PAGE_SIZE = 50
MODEL_LENGTH_MAX = 200
CHOICES_SINCE = timedelta(days=62)
LABEL_LENGTH = len("req_") + 32

CLASSES = {
    TokenClass.INPUT_TEXT: mark("Input"),
    TokenClass.INPUT_CACHED: mark("Input, from the cache"),
    TokenClass.INPUT_AUDIO: mark("Input, audio"),
    TokenClass.OUTPUT_TEXT: mark("Output"),
    TokenClass.OUTPUT_REASONING: mark("Output, reasoning"),
    TokenClass.OUTPUT_AUDIO: mark("Output, audio"),
}


class NoSuchRequest(NusagateError):
    """There is no settled request with this id."""

    code = "not_found"


@get("/usage/requests", access=Access.PERSON)
async def calls_page(request: PageRequest) -> Response[str]:
    """Show settled requests, the latest first."""
    parts, visitor = parts_of(request), visitor_in(request)
    account_id = visitor.inside.person.account_id
    now = await quota.now(parts.db)
    problem, status = None, OK
    try:
        filters, before = read_filters(request.query_params.multi_items())
    except AccessError as error:
        filters, before = Filters(), None
        problem, status = problem_of(visitor, error), status_of(error)
    found = await reports.calls_before(
        parts.db,
        account_id,
        before or (now + timedelta(minutes=1), LAST_UUID),
        key_id=None if filters.key is None else UUID(filters.key),
        model=filters.model,
        status=filters.status,
        limit=PAGE_SIZE,
    )
    say = visitor.translator.gettext
    made = await keys.list_keys(parts.db, account_id)
    models = await reports.models_used(parts.db, account_id, now - CHOICES_SINCE)
    shown = CallsPage(
        lines=[call_line(call, made, say) for call in found.calls],
        filters=filters,
        keys=[(str(key.key_id), f"{key.scopes.name} ({key.prefix}…{key.last4})") for key in made],
        models=[(model, model) for model in sorted({*models, *([filters.model] if filters.model else [])})],
        statuses=[(reason.value, say(said.name)) for reason, said in ENDINGS.items()],
        is_first=before is None,
        newest_query=_query(filters, None),
        older_query=_query(filters, found.calls[-1]) if found.has_older else None,
        problem=problem,
    )
    return page(request, "usage/requests.html", shown, status=status)


@get("/usage/requests/{label:str}", access=Access.PERSON)
async def call_page(request: PageRequest, label: FromPath[str]) -> Response[str]:
    """Show one request, and how it was counted."""
    parts, visitor = parts_of(request), visitor_in(request)
    account_id = visitor.inside.person.account_id
    call = await reports.find_call(parts.db, account_id, request_id_of(label))
    if call is None:
        raise NoSuchRequest
    say = visitor.translator.gettext
    book = await prices.load_book(parts.db, call.book_id)
    flaw = FLAWS.get(call.usage_flaw or "")
    ending, source = ENDINGS[EndReason(call.end_reason)], SOURCES[UsageSource(call.usage_source)]
    day = call.occurred_at.astimezone(UTC).date().isoformat()
    names = {key.key_id: key.scopes.name for key in await keys.list_keys(parts.db, account_id)}
    shown = CallPage(
        label=label,
        call=call,
        key_name=names.get(call.key_id, "-") if call.key_id else "-",
        ending=(say(ending.name), say(ending.explanation)),
        source=(say(source.name), say(source.explanation)),
        flaw=None if flaw is None else say(flaw),
        charged=charged_of(call, book.rates.get(call.model), say),
        amount=format_amount(call.amount_pico),
        raw_usage=None if call.raw_usage is None else msgspec.json.format(call.raw_usage, indent=2),
        day_query=urlencode({"range": "custom", "start": day, "end": day}),
    )
    return page(request, "usage/request.html", shown)


def call_line(call: Call, made: Sequence[ApiKey], say: Gettext) -> CallLine:
    """Write a request as a line of a table."""
    names = {key.key_id: key.scopes.name for key in made}
    return CallLine(
        call=call,
        label=request_label(call.request_id),
        key_name=names.get(call.key_id, "-") if call.key_id else "-",
        ending=say(ENDINGS[EndReason(call.end_reason)].name),
        source=say(SOURCES[UsageSource(call.usage_source)].name),
    )


def read_filters(query: Iterable[tuple[str, str]]) -> tuple[Filters, tuple[datetime, UUID] | None]:
    """Read what an address chooses and where its page begins; ``FormRefused`` names what cannot be right."""
    given: dict[str, str] = {}
    for name, value in query:
        if name not in {"key", "model", "status", "before", "after_id"}:
            raise FormRefused(
                "This page does not know %(name)s.", param=name[:TEXT_MAX], name=name[:TEXT_MAX]
            )
        if name in given:
            raise FormRefused("This value is there twice.", param=name)
        if value:
            given[name] = value
    if "status" in given and given["status"] not in set(EndReason):
        raise FormRefused("This status is not known.", param="status")
    if "model" in given and ("\0" in given["model"] or len(given["model"]) > MODEL_LENGTH_MAX):
        raise FormRefused("This is not the name of a model.", param="model")
    if "key" in given:
        _uuid(given["key"], "key")
    filters = Filters(key=given.get("key"), model=given.get("model"), status=given.get("status"))
    return filters, _cursor(given)


def request_id_of(label: str) -> UUID:
    """Read a request's id as clients know it; ``NoSuchRequest`` where it is none."""
    try:
        if len(label) != LABEL_LENGTH or not label.startswith("req_"):
            raise NoSuchRequest
        return UUID(label.removeprefix("req_"))
    except ValueError:
        raise NoSuchRequest from None


def charged_of(call: CallDetail, rates: ModelRates | None, say: Gettext) -> list[Charged]:
    """List the kinds of token of a request with their prices; they sum to its amount."""
    if rates is None:
        return []
    given = rates.given()
    lines = []
    for token_class, name in CLASSES.items():
        tokens = getattr(call.counts, token_class.value)
        if tokens == 0:
            continue
        plain = TokenClass.INPUT_TEXT if token_class.startswith("input") else TokenClass.OUTPUT_TEXT
        rate = given.get(token_class, given[plain])
        lines.append(
            Charged(
                name=say(name),
                tokens=tokens,
                rate=format_amount(AmountPico(rate * PICO_PER_MICRO)),
                amount=format_amount(AmountPico(tokens * rate)),
            )
        )
    return lines


def _query(filters: Filters, oldest: Call | None) -> str:
    values: Mapping[str, str | None] = msgspec.structs.asdict(filters) | (
        {}
        if oldest is None
        else {"before": format_utc_exact(oldest.occurred_at), "after_id": request_label(oldest.request_id)}
    )
    return urlencode({name: value for name, value in values.items() if value is not None})


def _cursor(given: Mapping[str, str]) -> tuple[datetime, UUID] | None:
    if "before" not in given:
        return None
    try:
        moment = datetime.fromisoformat(given["before"])
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise FormRefused("Write a moment as 2026-12-31T23:00:00Z.", param="before") from None
    label = given.get("after_id", "")
    return moment, _uuid(label.removeprefix("req_"), "after_id") if label else FIRST_UUID


def _uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise FormRefused("This is not an id.", param=name) from None


REQUEST_ROUTES = [calls_page, call_page]
