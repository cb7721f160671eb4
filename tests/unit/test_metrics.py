"""What a request counts is in the exposition, exactly once."""

from collections.abc import Iterator

import pytest

from gateway.runtime import metrics


def shown(line: str) -> int:
    """Read one sample of the exposition; what nobody counted yet is 0."""
    for sample in metrics.exposition().decode().splitlines():
        name, _, value = sample.rpartition(" ")
        if name == line:
            return int(float(value))
    return 0


REFUSALS = 'nusagate_refusals_total{code="insufficient_quota"}'
IN_FLIGHT = "nusagate_requests_in_flight"


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    metrics.publish()
    yield
    metrics.publish()


def test_what_was_counted_is_shown_once() -> None:
    before = shown(REFUSALS)
    metrics.count(metrics.refusals_total, "insufficient_quota")
    metrics.count(metrics.refusals_total, "insufficient_quota", by=3)
    assert shown(REFUSALS) == before + 4
    assert shown(REFUSALS) == before + 4


def test_a_gauge_goes_up_and_down_with_what_is_counted() -> None:
    before = shown(IN_FLIGHT)
    metrics.count(metrics.requests_in_flight)
    metrics.count(metrics.requests_in_flight)
    metrics.count(metrics.requests_in_flight, by=-1)
    assert shown(IN_FLIGHT) == before + 1
    metrics.count(metrics.requests_in_flight, by=-1)
    assert shown(IN_FLIGHT) == before


def test_other_labels_are_other_counts() -> None:
    before = shown('nusagate_requests_total{endpoint="responses",status="admitted"}')
    metrics.count(metrics.requests_total, "chat_completions", "admitted")
    metrics.count(metrics.requests_total, "responses", "401")
    assert shown('nusagate_requests_total{endpoint="responses",status="admitted"}') == before


def test_a_histogram_is_shown_at_once() -> None:
    line = 'nusagate_request_seconds_bucket{endpoint="embeddings",le="0.1"}'
    before = shown(line)
    metrics.observe(metrics.request_seconds, "embeddings", value=0.03)
    assert shown(line) == before + 1
