"""Every metric of the product, declared in one file, so that a dashboard has one place to look them up.

Labels hold only values from closed sets (codes, endings, models of the catalogue), never what a client sent.
"""

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

REGISTRY = CollectorRegistry()

requests_total = Counter(
    "nusagate_requests_total", "Requests by endpoint and status.", ["endpoint", "status"], registry=REGISTRY
)
refusals_total = Counter(
    "nusagate_refusals_total", "Refused requests by error code.", ["code"], registry=REGISTRY
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
    "nusagate_database_up", "Whether Postgres answers.", registry=REGISTRY, multiprocess_mode="min"
)
sweeps_total = Counter(
    "nusagate_sweeps_total", "Abandoned requests resolved.", ["outcome"], registry=REGISTRY
)
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


def exposition() -> bytes:
    """Write all metrics in the Prometheus text format, summed over the workers where there are several."""
    if _values.ValueClass.__name__ == "MmapedValue":
        merged = CollectorRegistry()
        multiprocess.MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)
    return generate_latest(REGISTRY)
