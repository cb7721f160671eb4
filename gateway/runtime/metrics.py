"""Every metric of the product, declared in one file, so that a dashboard has one place to look them up.

Labels hold only values from closed sets (codes, endings, models of the catalogue), never what a client sent.
"""

from collections import defaultdict
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client import values as _values

disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

MEDIA_TYPE = "text/plain; version=0.0.4"
"""Of the exposition; the framework adds the charset by itself."""

REGISTRY = CollectorRegistry()

requests_total = Counter(
    "nusagate_requests_total", "Requests by endpoint and status.", ["endpoint", "status"], registry=REGISTRY
)
refusals_total = Counter(
    "nusagate_refusals_total", "Refused requests by error code.", ["code"], registry=REGISTRY
)
refusals_uncounted_total = Counter(
    "nusagate_refusals_uncounted_total",
    "Refusals that were not counted for their account, because too many counts waited to be written.",
    registry=REGISTRY,
)
endings_total = Counter(
    "nusagate_endings_total",
    "Admitted requests by how they ended.",
    ["model", "end_reason"],
    registry=REGISTRY,
)
tokens_total = Counter("nusagate_tokens_total", "Settled tokens.", ["model", "direction"], registry=REGISTRY)
request_seconds = Histogram(
    "nusagate_request_seconds", "Admission to settlement.", ["endpoint"], buckets=SECONDS, registry=REGISTRY
)
requests_in_flight = Gauge(
    "nusagate_requests_in_flight", "Requests being served.", registry=REGISTRY, multiprocess_mode="livesum"
)
usage_flaws_total = Counter(
    "nusagate_usage_flaws_total",
    "Usage blocks that could not be taken as they were.",
    ["flaw"],
    registry=REGISTRY,
)
quota_overshoot_tokens_total = Counter(
    "nusagate_quota_overshoot_tokens_total", "Tokens served above a reservation.", registry=REGISTRY
)
quota_engine = Gauge(
    "nusagate_quota_engine",
    "Processes whose limits this engine decides.",
    ["engine"],
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
quota_engine_switches_total = Counter(
    "nusagate_quota_engine_switches_total",
    "Changes of the engine that decides limits, by the new one.",
    ["engine"],
    registry=REGISTRY,
)
quota_rebuilds_total = Counter(
    "nusagate_quota_rebuilds_total", "Accounts read from Postgres for Redis.", registry=REGISTRY
)
quota_stale_total = Counter(
    "nusagate_quota_stale_total",
    "Admissions of Redis that Postgres did not record, because Redis did not know everything.",
    registry=REGISTRY,
)
settle_failures_total = Counter(
    "nusagate_settle_failures_total", "Settlements that did not commit at once.", registry=REGISTRY
)
operational_errors_total = Counter(
    "nusagate_operational_errors_total",
    "Expected failures of the things we stand on.",
    ["kind"],
    registry=REGISTRY,
)
key_lookups_total = Counter(
    "nusagate_key_lookups_total", "Key look-ups by where they were answered.", ["answer"], registry=REGISTRY
)
spooled_total = Counter(
    "nusagate_spooled_total", "Settlements kept on disk because Postgres was away.", registry=REGISTRY
)
spool_refused_total = Counter(
    "nusagate_spool_refused_total", "Spooled settlements that Postgres refused for good.", registry=REGISTRY
)
spool_files = Gauge(
    "nusagate_spool_files", "Files of the local spool.", registry=REGISTRY, multiprocess_mode="max"
)
database_up = Gauge(
    "nusagate_database_up",
    "Whether Postgres answers a gateway; 0 of the other processes.",
    registry=REGISTRY,
    multiprocess_mode="min",
)
sweeps_total = Counter("nusagate_sweeps_total", "Abandoned requests resolved.", registry=REGISTRY)
job_runs_total = Counter(
    "nusagate_job_runs_total", "Background jobs by name and outcome.", ["job", "outcome"], registry=REGISTRY
)
ledger_violations = Gauge(
    "nusagate_ledger_violations",
    "Rows that break an invariant, by invariant.",
    ["invariant"],
    registry=REGISTRY,
    multiprocess_mode="max",
)
usage_days_behind = Gauge(
    "nusagate_usage_days_behind",
    "UTC days that ended long enough ago to be closed, and are not.",
    registry=REGISTRY,
    multiprocess_mode="max",
)

stripe_requests_total = Counter(
    "nusagate_stripe_requests_total",
    "Meter events sent to Stripe, by what came of it.",
    ["outcome"],
    registry=REGISTRY,
)
stripe_reads_total = Counter(
    "nusagate_stripe_reads_total", "Reads of Stripe, which are rationed.", registry=REGISTRY
)
stripe_circuit_open = Gauge(
    "nusagate_stripe_circuit_open",
    "1 while nothing is sent because Stripe refused the key.",
    registry=REGISTRY,
    multiprocess_mode="max",
)
stripe_batches = Gauge(
    "nusagate_stripe_batches",
    "Batches that are not confirmed, by state.",
    ["state"],
    registry=REGISTRY,
    multiprocess_mode="max",
)
stripe_oldest_unsent_seconds = Gauge(
    "nusagate_stripe_oldest_unsent_seconds",
    "Age of the oldest usage that Stripe has not accepted.",
    registry=REGISTRY,
    multiprocess_mode="max",
)
stripe_parked_accounts = Gauge(
    "nusagate_stripe_parked_accounts",
    "Accounts whose customer Stripe does not know any more.",
    registry=REGISTRY,
    multiprocess_mode="max",
)
reconcile_findings_open = Gauge(
    "nusagate_reconcile_findings_open",
    "Differences between Stripe and the ledger, by kind.",
    ["kind"],
    registry=REGISTRY,
    multiprocess_mode="max",
)
webhooks_total = Counter(
    "nusagate_webhooks_total",
    "Events of Stripe's that came in, by what became of them.",
    ["outcome"],
    registry=REGISTRY,
)
webhooks_waiting = Gauge(
    "nusagate_webhooks_waiting",
    "Events of Stripe's that are kept and not worked off.",
    registry=REGISTRY,
    multiprocess_mode="max",
)
webhooks_failed_total = Counter(
    "nusagate_webhooks_failed_total", "Events of Stripe's that were given up.", registry=REGISTRY
)


_children: dict[tuple[object, ...], Histogram] = {}
_counted: defaultdict[tuple[Any, ...], int] = defaultdict(int)


def observe(metric: Histogram, *labels: str, value: float) -> None:
    """Add to a histogram; its child is kept, because looking it up by its labels costs more than to observe."""
    child: Histogram | None = _children.get((metric, *labels))
    if child is None:
        child = _children[metric, *labels] = metric.labels(*labels)
    child.observe(value)


def count(metric: Counter | Gauge, *labels: str, by: int = 1) -> None:
    """Count for every request: kept in a dict, at a fifth of what the library takes, until ``publish``."""
    _counted[metric, *labels] += by


def publish() -> None:
    """Give what was counted to the library: whoever reads or writes the exposition out of it must call this before."""
    counted = list(_counted.items())
    _counted.clear()
    for (metric, *labels), number in counted:
        (metric.labels(*labels) if labels else metric).inc(number)


def exposition() -> bytes:
    """Write all metrics in the Prometheus text format, summed over the workers where there are several."""
    publish()
    if _values.ValueClass.__name__ == "MmapedValue":
        merged = CollectorRegistry()
        multiprocess.MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)
    return generate_latest(REGISTRY)
