"""Invoices as Stripe has them, and our own statements of a month, as a page and as CSV."""

from litestar import Response, get
from litestar.params import FromPath

from admin.access.model import AccessError
from admin.portal.billing.views import InvoicePage, StatementPage
from admin.web.admission import Access
from admin.web.pages import NO_STORE, page
from admin.web.parts import PageRequest, parts_of, visitor_in
from billing.invoices import store
from billing.invoices.statement import Statement
from billing.invoices.statement_csv import statement_csv
from billing.invoices.statements import statement_of
from gateway.clock import Month, month_of, month_start


class InvoiceUnknown(AccessError):
    """There is no such invoice."""

    code = "invoice_not_found"


@get("/billing/invoices/{invoice_id:str}", access=Access.PERSON)
async def invoice_page(request: PageRequest, invoice_id: FromPath[str]) -> Response[str]:
    """Show an invoice with its lines, and where Stripe has it."""
    parts, visitor = parts_of(request), visitor_in(request)
    invoice = await store.find_invoice(parts.db, visitor.inside.person.account_id, invoice_id)
    if invoice is None:
        raise InvoiceUnknown
    return page(request, "billing/invoice.html", InvoicePage(invoice=invoice))


@get("/billing/statement", access=Access.PERSON)
async def statement_page(request: PageRequest) -> Response[str]:
    """Show the statement of a month; that of this month shows it so far."""
    statement = await _statement(request)
    view = StatementPage(statement=statement, month=month_start(statement.period))
    return page(request, "billing/statement.html", view)


@get("/billing/statement.csv", access=Access.PERSON, back="/billing")
async def statement_download(request: PageRequest) -> Response[str]:
    """Download the statement of a month."""
    statement = await _statement(request)
    response = Response(statement_csv(statement), status_code=200, media_type="text/csv")
    response.headers["content-disposition"] = f'attachment; filename="statement-{statement.period}.csv"'
    response.headers["cache-control"] = NO_STORE
    return response


async def _statement(request: PageRequest) -> Statement:
    """Make the statement of the month in the address; ``InvalidValue`` where it is none."""
    parts, visitor = parts_of(request), visitor_in(request)
    period = Month(request.query_params.get("month") or month_of(parts.door.clock.now()))
    return await statement_of(parts.db, visitor.inside.person.account_id, period)


ROUTES = [invoice_page, statement_page, statement_download]
