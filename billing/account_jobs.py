"""The background work around accounts: Stripe's events, what time alone changes, caps, and the closing of months."""

from datetime import timedelta

from billing.caps.alerts import warn_of_plans
from billing.caps.service import keep_caps
from billing.credit.service import draw_all
from billing.invoices.closing import advance_all
from billing.settings import StripeLimits, StripeSettings
from billing.stripe.client import Stripe
from billing.stripe.clock import plan_clock
from billing.subscriptions.entitlements import review_due
from billing.subscriptions.refreshing import refresh_all
from billing.webhooks import service as webhooks
from gateway.clock import Clock
from gateway.db.pool import Pool
from gateway.runtime.jobs import Job

WEBHOOKS_EVERY_S = 0.25
"""A plan that was bought must be in force within a second, on every gateway."""
REVIEW_EVERY_S = 15
HOUR_S = 3_600
COMPARE_EVERY_S = 6 * HOUR_S
"""Events may be lost; a page of a hundred subscriptions is one of the reads that Stripe rations."""

CAPS_EVERY_S = 2
CREDIT_EVERY_S = 60
ALERTS_EVERY_S = 60


def spending_jobs(clock: Clock, settings: StripeSettings | None) -> list[Job[Pool]]:
    """List the jobs that a worker runs whether there is Stripe or not."""
    limits = settings.limits if settings else StripeLimits()
    grace = timedelta(days=limits.payment_grace_days)
    of_plans = plan_clock(clock, settings) if settings else clock
    return [
        Job("caps", CAPS_EVERY_S, lambda db: keep_caps(db, clock)),
        Job("plan_alerts", ALERTS_EVERY_S, lambda db: warn_of_plans(db, clock)),
        Job("credit", CREDIT_EVERY_S, lambda db: draw_all(db, clock, grace, of_plans)),
    ]


def account_jobs(db: Pool, clock: Clock, stripe: Stripe, settings: StripeSettings) -> list[Job[Pool]]:
    """List the jobs that a worker runs where there is Stripe."""
    grace = timedelta(days=settings.limits.payment_grace_days)
    of_plans = plan_clock(clock, settings)
    processor = webhooks.Processor(db, of_plans, stripe, settings)
    return [
        Job("stripe_webhooks", WEBHOOKS_EVERY_S, lambda _: processor.run()),
        Job("stripe_webhooks_clear", HOUR_S, lambda db: webhooks.clear(db, clock)),
        Job("entitlements", REVIEW_EVERY_S, lambda db: review_due(db, of_plans, grace)),
        Job("stripe_subscriptions", COMPARE_EVERY_S, lambda db: refresh_all(db, of_plans, stripe, grace)),
        Job("months", HOUR_S, lambda db: advance_all(db, clock)),
    ]
