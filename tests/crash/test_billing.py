"""The proofs of billing are found where they are named, and a test that fails is a violation."""

from pathlib import Path

import pytest

from tests.crash.billing import PROOFS, Proof, run

GOOD = """
from tests.plugins.proof import SEED, hand_in, length

def test_it():
    hand_in(batches=length("batches", 1), seed=SEED)
"""
BAD = """
def test_it():
    assert 1 == 2, "a unit is missing"
"""
SILENT = """
def test_it():
    pass
"""


def ran(folder, code):
    path = folder / "test_made_up.py"
    path.write_text(code)
    proof = Proof(
        name="B0", says="it holds", test=f"{path}::test_it", short={}, full={"NUSAGATE_PROOF_BATCHES": "9"}
    )
    return run(proof, folder, seed=3, full=True)


@pytest.mark.slow
def test_a_proof_that_holds_hands_in_its_figures(tmp_path):
    result = ran(tmp_path, GOOD)
    assert (result.trials, result.figures, result.violations) == (1, {"batches": 9, "seed": 3}, [])


@pytest.mark.slow
@pytest.mark.parametrize(("code", "shown"), [(BAD, "a unit is missing"), (SILENT, "1 passed")])
def test_a_proof_that_fails_or_proves_nothing_is_a_violation(tmp_path, code, shown):
    (violation,) = ran(tmp_path, code).violations
    assert violation["invariant"] == "it holds"
    assert any(shown in line for line in violation["examples"])


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)
def test_every_proof_names_a_test_that_exists(proof):
    path, _, name = proof.test.partition("::")
    assert f"async def {name}(" in Path(path).read_text()
    assert proof.short.keys() == proof.full.keys()
