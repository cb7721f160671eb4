"""A statement as CSV: one line for each class of tokens, every amount exact; then the sums, rounded as they are billed."""

import csv
import io

from billing.invoices.statement import ModelLine, Statement
from billing.stripe.money import STRIPE_MONEY
from gateway.units import PICO_PER_MICRO, AmountPico, Currency, format_amount

COLUMNS = (
    "section",
    "model",
    "price_book",
    "token_class",
    "tokens",
    "rate_per_million",
    "amount",
    "currency",
)


def statement_csv(statement: Statement) -> str:
    """Write a statement as CSV, with a header and Unix line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    currency = statement.currency
    for section, lines in (("billed", statement.billed), ("included", statement.included)):
        for line in lines:
            writer.writerows(_model_rows(section, line, currency))
    for correction in statement.corrections:
        amount = format_amount(correction.amount_pico)
        writer.writerow(
            (correction.kind, correction.model, "", harmless(correction.reason), "", "", amount, currency)
        )
    for fee in statement.plan:
        writer.writerow(
            (
                "plan",
                "",
                "",
                harmless(fee.description),
                "",
                "",
                format_minor(fee.amount_minor, currency),
                currency,
            )
        )
    sums = (
        ("usage_exact", format_amount(statement.usage_pico)),
        ("paid_from_credit", format_amount(statement.credit_pico)),
        ("written_off", format_amount(statement.written_off_pico)),
        ("usage_total", format_minor(statement.usage_minor, currency)),
        ("total", format_minor(statement.total_minor, currency)),
    )
    writer.writerows((name, "", "", "", "", "", amount, currency) for name, amount in sums)
    return text.getvalue()


def format_minor(amount_minor: int, currency: Currency) -> str:
    """Write minor units as a decimal of the currency's unit: 999,900 in rupiah is ``9999.00``."""
    exponent = STRIPE_MONEY[currency].minor_exponent
    sign = "-" if amount_minor < 0 else ""
    units, rest = divmod(abs(amount_minor), int(10**exponent))
    return f"{sign}{units}.{rest:0{exponent}d}"


def rate_text(rate_micro_per_mtok: int) -> str:
    """Write a rate for a million tokens as a decimal of the currency's unit."""
    return format_amount(AmountPico(rate_micro_per_mtok * PICO_PER_MICRO))


def _model_rows(section: str, line: ModelLine, currency: Currency) -> list[tuple[object, ...]]:
    return [
        (
            section,
            line.model,
            line.book_id,
            part.token_class.value,
            part.tokens,
            rate_text(part.rate_micro_per_mtok),
            format_amount(part.amount_pico),
            currency,
        )
        for part in line.tokens
    ]


def harmless(text: str) -> str:
    """Keep a text from being a formula where a spreadsheet opens the file."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
