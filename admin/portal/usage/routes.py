"""The usage page and its CSV: the same rows, from the same address."""

import csv
import io
from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response, get

from admin.portal.usage.views import (
    ENDINGS,
    GROUPS,
    PRESETS,
    Group,
    Line,
    Month,
    Preset,
    Span,
    UsagePage,
    group_of,
    span_of,
    total_of,
)
from admin.reports import store as reports
from admin.web.admission import Access
from admin.web.pages import NO_STORE, page
from admin.web.parts import PageRequest, Parts, parts_of, visitor_in
from gateway.accounts import service as accounts
from gateway.clock import day_of, month_end, month_of
from gateway.keys import service as keys
from gateway.keys.model import ApiKey
from gateway.ledger import store as ledger
from gateway.ledger.model import UsageRow
from gateway.quota import model as quota_model
from gateway.quota import service as quota

LATEST_SHOWN = 8
CSV_COLUMNS = ("group", "requests", "input_tokens", "output_tokens", "total_tokens", "currency", "amount")


@get("/usage", access=Access.PERSON)
async def usage_page(request: PageRequest) -> Response[str]:
    """Show how the month stands, and what was used in the range of the address."""
    parts, account_id = parts_of(request), visitor_in(request).inside.person.account_id
    now = await quota.now(parts.db)
    span, group, rows = await _rows(request, now)
    made = {str(key.key_id): key for key in await keys.list_keys(parts.db, account_id)}
    month = await _month(parts, account_id, now)
    view = UsagePage(
        month=month,
        span=span,
        group=group,
        presets=PRESETS,
        groups=GROUPS,
        lines=[_line(row, group, made) for row in rows],
        total=total_of(rows),
        latest=await reports.latest_calls(
            parts.db, account_id, since=span.start, key_id=None, limit=LATEST_SHOWN
        ),
        endings=ENDINGS,
        key_names={key_id: key.scopes.name for key_id, key in made.items()},
        has_keys=bool(made),
        query=_query(span, group),
    )
    return page(request, "usage/usage.html", view)


@get("/usage.csv", access=Access.PERSON, back="/usage")
async def usage_csv(request: PageRequest) -> Response[str]:
    """Download exactly the rows of the page with the same address."""
    span, group, rows = await _rows(request, await quota.now(parts_of(request).db))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow([_harmless(row.group), *(getattr(row, name) for name in CSV_COLUMNS[1:])])
    name = f"usage-{span.first_day}-{span.last_day}-by-{group}.csv"
    response = Response(text.getvalue(), status_code=200, media_type="text/csv")
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    response.headers["cache-control"] = NO_STORE
    return response


async def _rows(request: PageRequest, now: datetime) -> tuple[Span, Group, list[UsageRow]]:
    query = request.query_params
    span = span_of(query.get("range"), query.get("start"), query.get("end"), now)
    group = group_of(query.get("by"))
    account_id = visitor_in(request).inside.person.account_id
    rows = await ledger.usage(parts_of(request).db, account_id, group, span.start, span.end)
    return span, group, rows


async def _month(parts: Parts, account_id: UUID, now: datetime) -> Month:
    account = await accounts.get(parts.db, account_id)
    period, day = month_of(now), day_of(now)
    counted = await quota.counters(parts.db, account_id, [account_id], [period, day])
    used, held = counted.get((account_id, period), (0, 0))
    limit, resets_at = account.limits.monthly_tokens, month_end(period)
    return Month(
        used=used,
        held=held,
        limit=limit,
        remaining=None if limit is None else max(0, limit - used - held),
        resets_at=resets_at,
        days_left=(resets_at - now).days + 1,
        today_used=counted.get((account_id, day), (0, 0))[0],
        forecast=quota_model.forecast(used, now),
    )


def _line(row: UsageRow, group: Group, made: dict[str, ApiKey]) -> Line:
    if group in {Group.DAY, Group.HOUR}:
        return Line(label=row.group, moment=datetime.fromisoformat(row.group).replace(tzinfo=UTC), row=row)
    key = made.get(row.group) if group is Group.KEY else None
    if key is None:
        return Line(label=row.group, row=row)
    return Line(label=key.scopes.name, detail=f"{key.prefix}…{key.last4}", row=row)


def _query(span: Span, group: Group) -> str:
    """Write the address of a view, so that the download and the tabs keep it."""
    values = {"range": span.preset.value, "by": group.value}
    if span.preset is Preset.CUSTOM:
        values |= {"start": span.first_day, "end": span.last_day}
    return urlencode(values)


def _harmless(text: str) -> str:
    """Keep a spreadsheet from running an end user's name as a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


ROUTES = [usage_page, usage_csv]
