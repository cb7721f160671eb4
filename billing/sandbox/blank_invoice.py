"""An invoice before it says anything: the fields that every invoice of Stripe's has."""

from billing.sandbox.state import Json
from billing.sandbox.world import list_object

ZERO = (
    "amount_due",
    "amount_overpaid",
    "amount_paid",
    "amount_paid_off_stripe",
    "amount_remaining",
    "amount_shipping",
    "attempt_count",
    "post_payment_credit_notes_amount",
    "pre_payment_credit_notes_amount",
    "subtotal",
    "subtotal_excluding_tax",
    "total",
    "total_excluding_tax",
)
NOTHING = (
    "account_country",
    "account_name",
    "account_tax_ids",
    "application",
    "automatically_finalizes_at",
    "custom_fields",
    "customer_shipping",
    "default_payment_method",
    "default_source",
    "description",
    "due_date",
    "effective_at",
    "ending_balance",
    "footer",
    "from_invoice",
    "hosted_invoice_url",
    "invoice_pdf",
    "last_finalization_error",
    "latest_revision",
    "next_payment_attempt",
    "number",
    "on_behalf_of",
    "receipt_number",
    "rendering",
    "shipping_cost",
    "shipping_details",
    "statement_descriptor",
    "webhooks_delivered_at",
)
LISTS = (
    "customer_tax_ids",
    "default_tax_rates",
    "discounts",
    "total_discount_amounts",
    "total_pretax_credit_amounts",
    "total_taxes",
)
TRANSITIONS = ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")
TAX = ("disabled_reason", "liability", "provider", "status")
PAYMENT = ("default_mandate", "payment_method_options", "payment_method_types")


def blank_invoice(
    identifier: str,
    customer: Json,
    subscription: Json | None,
    *,
    currency: str,
    reason: str,
    period: tuple[int, int],
    now: int,
) -> Json:
    """Write a draft without lines; times in Unix seconds."""
    return {
        "id": identifier,
        "object": "invoice",
        **dict.fromkeys(ZERO, 0),
        **dict.fromkeys(NOTHING),
        **{name: [] for name in LISTS},
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {"enabled": False, **dict.fromkeys(TAX)},
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": currency,
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_tax_exempt": "none",
        "issuer": {"type": "self"},
        "lines": list_object(f"/v1/invoices/{identifier}/lines", []),
        "livemode": False,
        "metadata": {},
        "parent": _parent(subscription),
        "payment_settings": dict.fromkeys(PAYMENT),
        "period_end": period[1],
        "period_start": period[0],
        "starting_balance": customer["balance"],
        "status": "draft",
        "status_transitions": dict.fromkeys(TRANSITIONS),
        "test_clock": customer["test_clock"],
    }


def _parent(subscription: Json | None) -> Json | None:
    if subscription is None:
        return None
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
