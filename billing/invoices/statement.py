"""Our own statement of a month: for every model, tokens times rate = amount, exact; rounded once, where the sum is billed.

It is made from the ledger alone. Beside it stands what Stripe bills for the same month, so that anybody can compare:
Stripe multiplies what our meter counted by a fixed price, and rounds the line once, half away from zero, too. Both come
to the same amount of minor units, because half a minor unit is a whole number of the meter's units.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from billing.invoices.model import Invoice, InvoiceLine
from billing.stripe.money import STRIPE_MONEY
from gateway.clock import Month
from gateway.errors import NusagateError
from gateway.prices.model import PriceBook, TokenClass, cost
from gateway.units import PICO_DIGITS, AmountPico, Currency, TokenCounts

BILLED_STATUSES = frozenset({"open", "paid", "uncollectible"})
"""Invoices that say for good what is owed; a draft may change, a void one counts for nothing."""


class UsageSum(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger holds for one model under one price book in a month."""

    currency: Currency
    billable: bool
    book_id: str
    model: str
    requests: int
    counts: TokenCounts
    amount_pico: AmountPico


class TokenLine(msgspec.Struct, frozen=True, kw_only=True):
    """One class of tokens: ``tokens`` times ``rate_micro_per_mtok`` = ``amount_pico``, exactly."""

    token_class: TokenClass
    tokens: int
    rate_micro_per_mtok: int
    amount_pico: AmountPico


class ModelLine(msgspec.Struct, frozen=True, kw_only=True):
    """One model under one price book."""

    model: str
    book_id: str
    requests: int
    tokens: tuple[TokenLine, ...]
    amount_pico: AmountPico


class CorrectionLine(msgspec.Struct, frozen=True, kw_only=True):
    """What was put right, and why; below zero where it was in the customer's favour."""

    kind: str
    reason: str
    model: str
    entries: int
    amount_pico: AmountPico


class PlanLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of Stripe's that is not usage: the plan, or a part of it."""

    description: str
    amount_minor: int
    invoice_number: str | None


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A month of one account in one currency. Amounts end in their unit: pico-currency, or Stripe's minor units.

    ``billed`` is paid by use, ``included`` is covered by the plan, ``credit_pico`` of it was paid in advance, and
    ``written_off_pico`` of it came too late for Stripe and is not billed. ``stripe_usage_minor`` is ``None`` until
    Stripe's invoice for the month is final.
    """

    account_id: UUID
    email: str
    period: Month
    currency: Currency
    closed_at: datetime | None
    billed: tuple[ModelLine, ...]
    included: tuple[ModelLine, ...]
    corrections: tuple[CorrectionLine, ...]
    plan: tuple[PlanLine, ...]
    usage_pico: AmountPico
    credit_pico: AmountPico
    written_off_pico: AmountPico
    usage_minor: int
    plan_minor: int
    total_minor: int
    stripe_usage_minor: int | None

    @property
    def agrees(self) -> bool | None:
        """Whether Stripe bills the same for the usage; ``None`` while it has not billed it."""
        return None if self.stripe_usage_minor is None else self.stripe_usage_minor == self.usage_minor


class StatementBroken(NusagateError):
    """The ledger and its price books do not agree."""

    code = "statement_broken"


def to_minor(amount_pico: int, currency: Currency) -> int:
    """Round an amount to Stripe's minor units, half away from zero; below zero nothing is billed."""
    minor_pico: int = 10 ** (PICO_DIGITS - STRIPE_MONEY[currency].minor_exponent)
    return (2 * max(0, amount_pico) + minor_pico) // (2 * minor_pico)


def model_line(usage: UsageSum, book: PriceBook) -> ModelLine:
    """Show how an amount came about; ``StatementBroken`` if it is not what tokens and rates come to."""
    lines = tuple(
        _token_line(book, usage.model, token_class, tokens)
        for token_class in TokenClass
        if (tokens := getattr(usage.counts, token_class.value))
    )
    if sum(line.amount_pico for line in lines) != usage.amount_pico:
        raise StatementBroken(
            f"The ledger's amount for {usage.model} is not tokens times rate of {book.book_id}."
        )
    return ModelLine(
        model=usage.model,
        book_id=usage.book_id,
        requests=usage.requests,
        tokens=lines,
        amount_pico=usage.amount_pico,
    )


def plan_lines(
    invoices: Iterable[Invoice], metered: frozenset[str], start: datetime, end: datetime
) -> list[PlanLine]:
    """Choose the lines of invoices that are for this month and not for usage."""
    return [
        PlanLine(description=line.description, amount_minor=line.amount_minor, invoice_number=invoice.number)
        for invoice in invoices
        if invoice.status in BILLED_STATUSES
        for line in invoice.lines
        if line.price_id not in metered and start <= line.period_start < end
    ]


def stripe_usage(
    invoices: Iterable[Invoice], metered: frozenset[str], start: datetime, end: datetime
) -> int | None:
    """Sum what final invoices bill for this month's usage, in minor units; ``None`` while none does."""
    lines = [
        line.amount_minor
        for invoice in invoices
        if invoice.status in BILLED_STATUSES
        for line in invoice.lines
        if _is_usage_of(line, metered, start, end)
    ]
    return sum(lines) if lines else None


def compose(
    *,
    account_id: UUID,
    email: str,
    period: Month,
    currency: Currency,
    closed_at: datetime | None,
    usage: Sequence[tuple[bool, ModelLine]],
    corrections: Sequence[CorrectionLine],
    plan: Sequence[PlanLine],
    credit_pico: int,
    written_off_pico: int,
    stripe_usage_minor: int | None,
) -> Statement:
    """Put a statement together; ``usage`` says of each line whether it is billed. Here is the one rounding."""
    billed = tuple(line for is_billed, line in usage if is_billed)
    usage_pico = AmountPico(
        sum(line.amount_pico for line in billed) + sum(line.amount_pico for line in corrections)
    )
    # What credit paid for below a unit was carried on to what Stripe bills.
    owed_pico = usage_pico - STRIPE_MONEY[currency].whole_units_pico(credit_pico)
    usage_minor = to_minor(owed_pico - min(written_off_pico, max(owed_pico, 0)), currency)
    plan_minor = sum(line.amount_minor for line in plan)
    return Statement(
        account_id=account_id,
        email=email,
        period=period,
        currency=currency,
        closed_at=closed_at,
        billed=billed,
        included=tuple(line for is_billed, line in usage if not is_billed),
        corrections=tuple(corrections),
        plan=tuple(plan),
        usage_pico=usage_pico,
        credit_pico=AmountPico(credit_pico),
        written_off_pico=AmountPico(written_off_pico),
        usage_minor=usage_minor,
        plan_minor=plan_minor,
        total_minor=usage_minor + plan_minor,
        stripe_usage_minor=stripe_usage_minor,
    )


def _token_line(book: PriceBook, model: str, token_class: TokenClass, tokens: int) -> TokenLine:
    """Price one class by the one cost function; one token in pico-currency is a million in micro-currency."""
    return TokenLine(
        token_class=token_class,
        tokens=tokens,
        rate_micro_per_mtok=cost(book, model, TokenCounts(**{token_class.value: 1})),
        amount_pico=cost(book, model, TokenCounts(**{token_class.value: tokens})),
    )


def _is_usage_of(line: InvoiceLine, metered: frozenset[str], start: datetime, end: datetime) -> bool:
    return line.price_id in metered and start <= line.period_start < end
