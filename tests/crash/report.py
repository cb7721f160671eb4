"""The one report of a run: what was done how often, what clients saw, and every violation."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.crash.scenario import Result

WIDTH = 118


def summary(results: list[Result], *, seed: int, full: bool, seconds: float) -> dict[str, Any]:
    """Put everything together; ``ok`` means that trials took place and no invariant was violated."""
    ran = [result for result in results if result.skipped is None]
    broken = [one for result in results for one in result.violations if "unfit" not in one]
    unfit = [one for result in results for one in result.violations if "unfit" in one]
    return {
        "seed": seed,
        "form": "full" if full else "short",
        "seconds": round(seconds, 1),
        "ok": bool(ran) and not broken and not unfit,
        "trials": sum(result.trials for result in ran),
        "requests": sum(result.requests for result in ran),
        "served": sum(result.served for result in ran),
        "complete": sum(result.complete for result in ran),
        "interrupted": sum(result.interrupted for result in ran),
        "violations": len(broken),
        "unfit": len(unfit),
        "scenarios": [vars(result) for result in results],
    }


def say(line: str) -> None:
    """Tell the person who watches."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_report(report: dict[str, Any]) -> None:
    """Print a table for a person."""
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
        for violation in result["violations"]:
            say(f"{'':14}{violation}")
    say("-" * WIDTH)
    say(
        f"seed {report['seed']}, {report['form']} form, {report['seconds']} s: {report['trials']} trials, "
        f"{report['requests']} requests, {report['complete']} complete, {report['interrupted']} interrupted, "
        f"{report['violations']} violations, {report['unfit']} trials that could not be carried out"
    )


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write the report for a program."""
    path.write_text(json.dumps(report, indent=2) + "\n")
