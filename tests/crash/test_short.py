"""The short form of the crash tests: a sample of every kind of failure, judged by an independent checker.

Each test is a run of its own, with its own database, so that they can go beside each other.
"""

import json
import subprocess
import sys

import pytest

from tests.crash.load import SHAPES

DEADLINE_S = 280

pytestmark = [pytest.mark.slow, pytest.mark.timeout(DEADLINE_S + 20)]


def run(folder, only: str) -> dict:
    """Run some rows of the table and return the report."""
    report = folder / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--short", "--only", only, "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    return json.loads(report.read_text())


def test_gateways_that_are_killed_and_drained_lose_and_double_nothing(tmp_path):
    assert run(tmp_path, "F1-random,F1-points,F1-spool,F2")["interrupted"] > 0


def test_workers_that_die_before_stripe_and_versions_that_are_replaced_lose_and_double_nothing(tmp_path):
    report = run(tmp_path, "F1-stripe,F34")
    counts = {one["name"]: one["counts"] for one in report["scenarios"]}
    assert counts["F1-stripe"]["points"] == len(SHAPES)
    assert counts["F34-next"]["gateways replaced"] == 2


def test_postgres_killed_frozen_and_cut_off_loses_and_doubles_nothing(tmp_path):
    assert run(tmp_path, "F7,F8,F10,F24")["complete"] > 0


def test_redis_killed_frozen_emptied_and_restored_passes_no_limit(tmp_path):
    assert run(tmp_path, "F3,F4,F5,F6,I5")["complete"] > 0


def test_models_and_clients_that_misbehave_get_the_right_ending_and_charge(tmp_path):
    assert run(tmp_path, "F11,F19,F27,F30,F32")["complete"] > 0


def test_messages_that_two_parsers_could_read_differently_hide_no_request(tmp_path):
    figures = run(tmp_path, "F31")["scenarios"][0]["figures"]
    assert figures["cases"] >= 60
