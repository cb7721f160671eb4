"""Collecting an invoice after its first day, and what it does to a subscription when that fails."""

from billing.sandbox.events import changed, emit
from billing.sandbox.invoicing import collect, finalize, mark_uncollectible, subscription_of, void
from billing.sandbox.state import Json
from billing.sandbox.subscription_cycle import end_now
from billing.sandbox.world import World

NEVER_RENEWED = {"incomplete", "incomplete_expired", "canceled"}


def finalize_and_collect(world: World, invoice: Json) -> None:
    """End a draft's grace: finalize it, then collect it, unless collecting is paused."""
    subscription = subscription_of(world, invoice)
    finalize(world, invoice)
    if invoice["status"] != "open":
        return
    pause = subscription["pause_collection"] if subscription else None
    if pause is None:
        collect_or_dun(world, invoice)
    elif pause["behavior"] == "void":
        void(world, invoice)
    else:
        mark_uncollectible(world, invoice)


def collect_or_dun(world: World, invoice: Json) -> bool:
    """Try to collect; a failure makes the subscription past due, the last one what the settings say."""
    if collect(world, invoice):
        return True
    subscription = subscription_of(world, invoice)
    if subscription is None or subscription["status"] in NEVER_RENEWED:
        return False
    is_last = invoice["next_payment_attempt"] is None
    outcome = world.settings.after_last_retry if is_last else "past_due"
    if outcome == "canceled":
        end_now(world, subscription, reason="payment_failed")
        return False
    before = changed(subscription, {"status": outcome})
    if before:
        emit(world, "customer.subscription.updated", subscription, before=before)
    return False
