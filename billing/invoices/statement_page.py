"""A statement as one HTML page that prints well: no script, no asset, nothing fetched from anywhere."""

from collections.abc import Iterable
from html import escape

from billing.invoices.statement import CorrectionLine, ModelLine, PlanLine, Statement
from billing.invoices.statement_csv import format_minor, rate_text
from gateway.clock import format_utc
from gateway.units import AmountPico, Currency, format_amount

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 0; padding-left: .6rem; }
tfoot td { font-weight: 600; border-bottom: 0; } .note { color: #767676; font-size: .85rem; }
@media print {
  :root { color-scheme: light; } body { margin: 0; max-width: none; font-size: 10.5pt; }
  thead { display: table-header-group; } tr { break-inside: avoid; } h2 { break-after: avoid; }
  @page { margin: 18mm; }
}
"""
CLASSES = {
    "input_text": "input",
    "input_cached": "input, cached",
    "input_audio": "input, audio",
    "output_text": "output",
    "output_reasoning": "output, reasoning",
    "output_audio": "output, audio",
}


def statement_page(statement: Statement) -> str:
    """Write a statement as an HTML document."""
    money = statement.currency.upper()
    head = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Statement {statement.period}</title><style>{STYLE}</style><h1>Statement {statement.period}</h1>"
        f"<p>{escape(statement.email)}<br><span class=note>Account {statement.account_id} · all amounts in {money} · "
        f"months are in UTC · {_state(statement)}</span>"
    )
    parts = [
        head,
        _usage("Usage that is billed", statement.billed, statement.currency),
        _corrections(statement.corrections),
        _sum(statement),
        _plan(statement.plan, statement.currency),
        _usage("Usage that the plan includes", statement.included, statement.currency),
        f"<h2>Total</h2><p><strong>{money} {_grouped(format_minor(statement.total_minor, statement.currency))}</strong>",
        _stripe(statement),
    ]
    return "".join(parts)


def _state(statement: Statement) -> str:
    return (
        f"closed {format_utc(statement.closed_at)}"
        if statement.closed_at
        else "not closed: it may still change"
    )


def _usage(title: str, lines: Iterable[ModelLine], currency: Currency) -> str:
    rows = "".join(
        f"<tr><td>{escape(line.model)}<br><span class=note>price book {escape(line.book_id)}</span>"
        f"<td>{CLASSES[part.token_class]}<td class=n>{part.tokens:,}<td class=n>{_grouped(rate_text(part.rate_micro_per_mtok))}"
        f"<td class=n>{_exact(part.amount_pico)}"
        for line in lines
        for part in line.tokens
    )
    if not rows:
        return ""
    head = "<th>Model<th>Tokens<th class=n>Number<th class=n>&times; rate per million<th class=n>= amount"
    return f"<h2>{title}</h2>{_table(head, rows, f'in {currency.upper()}')}"


def _corrections(lines: Iterable[CorrectionLine]) -> str:
    rows = "".join(
        f"<tr><td>{escape(line.kind)}<td>{escape(line.reason)}<br><span class=note>{escape(line.model)}</span>"
        f"<td class=n>{line.entries:,}<td class=n>{_exact(line.amount_pico)}"
        for line in lines
    )
    head = "<th>Correction<th>Reason<th class=n>Entries<th class=n>Amount"
    return f"<h2>Put right</h2>{_table(head, rows)}" if rows else ""


def _sum(statement: Statement) -> str:
    if not (statement.billed or statement.corrections):
        return ""
    rounded = _grouped(format_minor(statement.usage_minor, statement.currency))
    paid = f", of which {_exact(statement.credit_pico)} was paid from credit" if statement.credit_pico else ""
    given = f", and {_exact(statement.written_off_pico)} is not billed" if statement.written_off_pico else ""
    return f"<p>Sum of usage: {_exact(statement.usage_pico)}{paid}{given}; billed, rounded once: <strong>{rounded}</strong>"


def _plan(lines: Iterable[PlanLine], currency: Currency) -> str:
    rows = "".join(
        f"<tr><td>{escape(line.description)}<td>{escape(line.invoice_number or '')}"
        f"<td class=n>{_grouped(format_minor(line.amount_minor, currency))}"
        for line in lines
    )
    return f"<h2>Plan</h2>{_table('<th>For<th>Invoice<th class=n>Amount', rows)}" if rows else ""


def _stripe(statement: Statement) -> str:
    if statement.stripe_usage_minor is None:
        return "<p class=note>The invoice for this month's usage is not final yet."
    billed = _grouped(format_minor(statement.stripe_usage_minor, statement.currency))
    verdict = "the same" if statement.agrees else "which differs; please ask us"
    return f"<p class=note>The invoice bills {billed} for usage: {verdict}."


def _table(head: str, rows: str, caption: str = "") -> str:
    note = f"<caption class=note>{caption}</caption>" if caption else ""
    return f"<div class=scroll><table>{note}<thead><tr>{head}<tbody>{rows}</table></div>"


def _exact(amount_pico: AmountPico) -> str:
    return _grouped(format_amount(amount_pico))


def _grouped(decimal: str) -> str:
    """Group the digits before the point by thousands."""
    sign = "-" if decimal.startswith("-") else ""
    units, point, rest = decimal.removeprefix("-").partition(".")
    return f"{sign}{int(units):,}{point}{rest}"
