"""B1-B3: what billing claims, proved at full length: no unit of usage lost or sent twice, events in any order, a month.

The proofs are tests on a real Postgres and the Stripe sandbox, and `make test` runs them in a small form. Here they run
as processes of their own, as long as the claim says, and hand in their figures by a file.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.crash.report import say
from tests.crash.scenario import Result

REPORT = "NUSAGATE_PROOF_REPORT"
SEED = "NUSAGATE_PROOF_SEED"
DEADLINE_S = 7_200
SHOWN_LINES = 25
FOLDER = "tests/integration"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One claim of billing: the test that proves it, and how long it goes on in either form, by variables."""

    name: str
    says: str
    test: str
    short: Mapping[str, str]
    full: Mapping[str, str]


PROOFS = (
    Proof(
        name="B1",
        says="3 of 10 requests to Stripe fail and workers die at every point: its sums equal the ledger, to the unit",
        test=f"{FOLDER}/test_sync_proof.py::test_after_faults_kills_and_days_stripe_has_exactly_what_the_ledger_says",
        short={"NUSAGATE_PROOF_BATCHES": "140"},
        full={"NUSAGATE_PROOF_BATCHES": "10000"},
    ),
    Proof(
        name="B2",
        says="Stripe's events come many times, in any order, among forged ones: everything is as if they came once",
        test=f"{FOLDER}/test_billing_webhooks.py::test_deliveries_in_any_order_and_number_lead_to_the_same_state",
        short={"NUSAGATE_PROOF_DELIVERIES": "500"},
        full={"NUSAGATE_PROOF_DELIVERIES": "5000"},
    ),
    Proof(
        name="B3",
        says="a month ends while requests run, in rupiah and dollars: ledger, statement and invoice agree, to the minor unit",
        test=f"{FOLDER}/test_billing_month.py::test_a_month_that_ends_while_requests_run_is_billed_to_the_minor_unit",
        short={"NUSAGATE_PROOF_PEOPLE": "6"},
        full={"NUSAGATE_PROOF_PEOPLE": "200"},
    ),
)
NAMES = frozenset(proof.name for proof in PROOFS)


def prove(folder: Path, names: Collection[str], *, seed: int, full: bool) -> list[Result]:
    """Run the proofs that were named, one after the other."""
    return [run(proof, folder, seed=seed, full=full) for proof in PROOFS if proof.name in names]


def run(proof: Proof, folder: Path, *, seed: int, full: bool) -> Result:
    """Run one proof; a test that fails is a violation, and one that did not end is one, too."""
    result, began = Result(proof.name, proof.says), time.monotonic()
    figures, log = folder / f"{proof.name}.json", folder / f"{proof.name}.log"
    length = proof.full if full else proof.short
    environ = {**os.environ, **length, SEED: str(seed), REPORT: str(figures)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--timeout",
        str(DEADLINE_S),
        "-p",
        "no:xdist",
        proof.test,
    ]
    with log.open("wb") as output:
        done = subprocess.run(
            command, env=environ, stdout=output, stderr=output, timeout=DEADLINE_S, check=False
        )
    result.trials, result.seconds = 1, round(time.monotonic() - began, 1)
    if figures.exists():
        result.figures = json.loads(figures.read_text())
    if done.returncode != 0 or not result.figures:
        lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        result.violations.append({"trial": 1, "invariant": proof.says, "count": 1, "examples": lines})
    say(f"{proof.name:12} {result.figures}{'  VIOLATED' if result.violations else ''}")
    return result
