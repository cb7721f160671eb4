"""The one report of a run: what was done how often, which numbers were reached, and every violation."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash.points import MATRIX
from tests.crash.scenario import Result

WIDTH = 118

GOALS = {
    "interrupted": ("interrupted requests, none lost and none double", 3_000),
    "complete": ("complete answers, each with its final entry (I4)", 20_000),
    "requests in a storm": ("requests in a storm of cancellations, one in five cancelled", 20_000),
    "requests in a storm with redis": ("the same with Redis deciding", 20_000),
    "connections at once": ("connections at once after a restart", 2_000),
    "requests at the boundary": ("requests at the turn of the month, none in a wrong one", 5_000),
    "postgres kills": ("times that Postgres was killed, nothing lost", 20),
    "rounds": ("rounds of 1,000 at once at the limit, four workers, no overshoot", 100),
    "rounds with redis": ("the same with Redis deciding", 100),
    "rounds with chaos": ("the same with Redis killed, frozen, emptied and restored meanwhile", 100),
    "points": ("failpoints in every shape of answer", sum(len(shapes) for shapes in MATRIX.values())),
    "smuggling cases": ("raw messages, each direct and behind nginx", 120),
    "histories": ("simulated histories, none broken", 100_000),
    "planted bugs": ("planted bugs, each found within 30 s", 5),
}
"""What the full form has to reach, by what is counted."""


def summary(results: list[Result], *, seed: int, full: bool, seconds: float) -> dict[str, Any]:
    """Put everything together; ``ok`` means that trials took place and no invariant was violated."""
    ran = [result for result in results if result.skipped is None]
    broken = [one for result in results for one in result.violations if "unfit" not in one]
    unfit = [one for result in results for one in result.violations if "unfit" in one]
    counts: Counter[str] = Counter()
    for result in ran:
        counts.update(result.counts)
        counts.update(complete=result.complete, interrupted=result.interrupted)
    return {
        "seed": seed,
        "form": "full" if full else "short",
        "seconds": round(seconds, 1),
        "ok": bool(ran) and not broken and not unfit,
        "trials": sum(result.trials for result in ran),
        "requests": sum(result.requests for result in ran),
        "served": sum(result.served for result in ran),
        "complete": counts["complete"],
        "interrupted": counts["interrupted"],
        "violations": len(broken),
        "unfit": len(unfit),
        "reached": {
            name: {"what": what, "reached": counts[name], "goal": goal}
            for name, (what, goal) in GOALS.items()
            if counts[name]
        },
        "scenarios": [vars(result) for result in results],
    }


def say(line: str) -> None:
    """Tell the person who watches."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_report(report: dict[str, Any]) -> None:
    """Print a table for a person, and which numbers this run has reached."""
    say("\n" + "-" * WIDTH)
    say(
        f"{'scenario':14}{'trials':>7}{'requests':>10}{'complete':>10}{'interrupted':>13}{'seconds':>9}  violations"
    )
    for result in report["scenarios"]:
        if result["skipped"] is not None:
            say(f"{result['name']:14}skipped: {result['skipped']}")
            continue
        say(
            f"{result['name']:14}{result['trials']:>7}{result['requests']:>10}{result['complete']:>10}"
            f"{result['interrupted']:>13}{result['seconds']:>9}  {len(result['violations'])}"
        )
        figures = {**result["counts"], **result["figures"]}
        say(f"{'':14}" + ", ".join(f"{name} {value}" for name, value in figures.items()))
        for violation in result["violations"]:
            say(f"{'':14}{violation}")
    say("-" * WIDTH)
    for one in report["reached"].values():
        say(f"{one['reached']:>9,} of {one['goal']:>7,}  {one['what']}")
    say("-" * WIDTH)
    say(
        f"seed {report['seed']}, {report['form']} form, {report['seconds']} s: {report['trials']} trials, "
        f"{report['requests']} requests, {report['complete']} complete, {report['interrupted']} interrupted, "
        f"{report['violations']} violations, {report['unfit']} trials that could not be carried out"
    )


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write the report for a program."""
    path.write_text(json.dumps(report, indent=2) + "\n")
