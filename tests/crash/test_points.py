"""Every place where the product can be made to die is in the matrix, and is a place in the code."""

import re
from pathlib import Path

from gateway.runtime.failpoints import NAMES
from tests.crash import points
from tests.crash.__main__ import SCENARIOS
from tests.crash.load import SHAPES

ROOT = Path(__file__).parents[2]
CALL = re.compile(r'\bfailpoint\("([a-z_.]+)"\)')


def test_every_name_is_in_the_matrix_and_no_other():
    assert points.MATRIX.keys() == NAMES - points.COMMANDS
    assert points.COMMANDS < NAMES


def test_every_point_is_visited_in_every_shape_that_it_has():
    """Four shapes each; only the point within an event has no meaning for an answer without events."""
    fewer = {name: shapes for name, shapes in points.MATRIX.items() if set(shapes) != set(SHAPES)}
    assert fewer == {"request.in_event": (("chat", True), ("responses", True))}


def test_the_scenarios_visit_the_whole_matrix():
    visited = [name for scenario in SCENARIOS for name in scenario.points]
    assert sorted(visited) == sorted(NAMES - points.COMMANDS)


def test_every_name_is_somewhere_in_the_code_and_every_place_has_a_name():
    sources = [path for room in ("gateway", "billing", "admin") for path in (ROOT / room).rglob("*.py")]
    assert {name for path in sources for name in CALL.findall(path.read_text())} == NAMES
