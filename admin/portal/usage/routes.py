"""The usage page and its CSV: the same numbers, from the same address."""

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from litestar import MediaType, Response, get

from admin.access.model import AccessError
from admin.portal.usage.address import (
    AN_HOUR,
    GROUPS,
    LENGTHS,
    PRESETS,
    STEPS,
    Group,
    View,
    default_view,
    view_of,
)
from admin.portal.usage.chart import LINES_MAX, SERIES_MAX, Name, chart_of, lines_of, row_of, total_of
from admin.portal.usage.requests import REQUEST_ROUTES, call_line
from admin.portal.usage.views import Month, UsagePage, month_as_of
from admin.portal.usage.words import ENDINGS, refusal_of
from admin.reports import store as reports
from admin.reports.model import Cells
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.i18n import Gettext
from admin.web.pages import NO_STORE, OK, page, problem_of
from admin.web.parts import PageRequest, Parts, parts_of, visitor_in
from billing.invoices.statement_csv import harmless
from gateway.clock import day_of, format_utc, month_of
from gateway.keys import service as keys
from gateway.keys.model import ApiKey
from gateway.ledger.model import EndReason
from gateway.quota import service as quota
from gateway.refusals import store as refusals

LATEST_SHOWN = 8
CSV_COLUMNS = ("requests", "input_tokens", "output_tokens", "total_tokens", "currency", "amount")
REST = "(other)"


@get("/usage", access=Access.PERSON)
async def usage_page(request: PageRequest) -> Response[str]:
    """Show how the month stands, and what was used in the range of the address."""
    parts, visitor = parts_of(request), visitor_in(request)
    account_id = visitor.inside.person.account_id
    now = await quota.now(parts.db)
    problem, status = None, OK
    try:
        view = view_of(request.query_params.multi_items(), now)
    except AccessError as error:
        view, problem, status = default_view(now), problem_of(visitor, error), status_of(error)
    made = await keys.list_keys(parts.db, account_id)
    name = _names(view.group, made, visitor.translator.gettext)
    cells = await _cells(parts, account_id, view, bars=SERIES_MAX)
    chart = chart_of(view, cells, name)
    refused = await refusals.by_reason(parts.db, account_id, view.span.start, view.span.end)
    latest = await reports.latest_calls(
        parts.db, account_id, since=view.span.start, key_id=None, limit=LATEST_SHOWN
    )
    shown = UsagePage(
        month=await _month(parts, account_id, now),
        view=view,
        chart=chart,
        lines=lines_of(cells, chart.series, name),
        total=total_of(cells.sums),
        presets=PRESETS,
        groups=GROUPS,
        steps={step: STEPS[step] for step in view.steps},
        refusals=[refusal_of(row.reason, row.requests) for row in refused],
        latest=[call_line(call, made, visitor.translator.gettext) for call in latest],
        has_keys=bool(made),
        problem=problem,
    )
    return page(request, "usage/usage.html", shown, status=status)


@get("/usage.csv", access=Access.PERSON, back="/usage")
async def usage_csv(request: PageRequest) -> Response[str]:
    """Download exactly the bars of the page with the same address, and their parts."""
    parts, visitor = parts_of(request), visitor_in(request)
    account_id = visitor.inside.person.account_id
    try:
        view = view_of(request.query_params.multi_items(), await quota.now(parts.db))
    except AccessError as error:
        problem = problem_of(visitor, error)
        text = f"{problem.field}: {problem.text}\n"
        return Response(text, status_code=status_of(error), media_type=MediaType.TEXT)
    made = await keys.list_keys(parts.db, account_id) if view.group is Group.KEY else []
    cells = await _cells(parts, account_id, view, bars=LINES_MAX)
    span = view.span
    name = f"usage-{span.first_day}-{span.last_day}-by-{view.group}-and-{view.step}.csv"
    response = Response(_csv(view, cells, made), status_code=OK, media_type="text/csv")
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    response.headers["cache-control"] = NO_STORE
    return response


async def _cells(parts: Parts, account_id: UUID, view: View, *, bars: int) -> Cells:
    return await reports.cells(
        parts.db,
        account_id,
        (view.span.start, view.span.end),
        bar_hours=LENGTHS[view.step] // AN_HOUR,
        group=view.group,
        places=(bars, LINES_MAX),
    )


async def _month(parts: Parts, account_id: UUID, now: datetime) -> Month:
    period, day = month_of(now), day_of(now)
    counted = await quota.counters(parts.db, account_id, [account_id], [period, day])
    used, held = counted.get((account_id, period), (0, 0))
    return month_as_of(
        now,
        used=used,
        held=held,
        limit=await keys.month_limit(parts.db, account_id, now),
        today_used=counted.get((account_id, day), (0, 0))[0],
    )


def _names(group: Group, made: Iterable[ApiKey], say: Gettext) -> Name:
    """Say how the groups of a view are called."""
    by_id = {str(key.key_id): key for key in made}

    def name(text: str) -> tuple[str, str | None]:
        if group is Group.STATUS and text in set(EndReason):
            return say(ENDINGS[EndReason(text)].name), None
        key = by_id.get(text) if group is Group.KEY else None
        return (text, None) if key is None else (key.scopes.name, f"{key.prefix}…{key.last4}")

    return name


def _csv(view: View, cells: Cells, made: Iterable[ApiKey]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = {str(key.key_id): key.scopes.name for key in made}
    by_key = view.group is Group.KEY
    writer.writerow(["time", view.group.value, *(["key_name"] if by_key else []), *CSV_COLUMNS])
    for cell in cells.parts:
        assert cell.moment is not None
        row = row_of(cell)
        group = REST if cell.group is None else cell.group
        called = [harmless(names.get(group, ""))] if by_key else []
        numbers = [getattr(row, column) for column in CSV_COLUMNS]
        writer.writerow([format_utc(cell.moment), harmless(group), *called, *numbers])
    return text.getvalue()


ROUTES = [usage_page, usage_csv, *REQUEST_ROUTES]
