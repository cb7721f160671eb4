"""``python -m tests.crash``: break the product in every way of the table, and say whether an invariant broke.

    python -m tests.crash --short                    a sample of everything, in a few minutes
    python -m tests.crash --full --json report.json  all of it
    python -m tests.crash --only F7,F8 --seed 7      some scenarios, repeatably

The exit status is 1 when an invariant was violated, and 2 when a trial could not be carried out.
"""

import argparse
import asyncio
import contextlib
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.crash import (
    billing,
    caches,
    clients,
    databases,
    herds,
    histories,
    kills,
    machine,
    months,
    slow,
    smuggling,
    stripe_kills,
    upstreams,
    versions,
)
from tests.crash.report import print_report, say, summary, write_json
from tests.crash.scenario import Result, Scenario, run_trial
from tests.crash.stand import Gateway, Stand
from tests.fakes.supervisor import Supervisor, Unfit

SCENARIOS: tuple[Scenario, ...] = (
    *kills.SCENARIOS,
    *stripe_kills.SCENARIOS,
    *caches.SCENARIOS,
    *herds.SCENARIOS,
    *databases.SCENARIOS,
    *upstreams.SCENARIOS,
    *clients.SCENARIOS,
    *machine.SCENARIOS,
    *months.SCENARIOS,
    *smuggling.SCENARIOS,
    *slow.SCENARIOS,
    *versions.SCENARIOS,
    *histories.SCENARIOS,
)
DIALECTS = ("chat", "responses")
UNFIT = 2


def main() -> int:
    """Run the chosen scenarios and print one report."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = options.seed if options.seed is not None else secrets.randbelow(2**32)
    chosen = _chosen(options.only)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="nusagate-crash-", dir="/tmp"))
    say(f"seed {seed}, files in {folder}")
    results: list[Result] = []
    with Supervisor(folder) as supervisor, contextlib.suppress(KeyboardInterrupt):
        _Runs(supervisor, seed, full=options.full, trials=options.trials).run(chosen, results)
        results += billing.prove(folder, _proofs(options.only), seed=seed, full=options.full)
    report = summary(results, seed=seed, full=options.full, seconds=time.monotonic() - began)
    print_report(report)
    if options.json is not None:
        write_json(report, options.json)
    if report["ok"] and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    if report["unfit"]:
        return UNFIT
    return 0 if report["ok"] else 1


class _Runs:
    """All trials of one run; the scenarios share a stand as far as they can."""

    def __init__(self, supervisor: Supervisor, seed: int, *, full: bool, trials: int | None) -> None:
        self._supervisor = supervisor
        self._seed = seed
        self._full = full
        self._trials = trials
        self._stands = 0
        self._shared: dict[int, tuple[Stand, Gateway]] = {}

    def run(self, scenarios: list[Scenario], results: list[Result]) -> None:
        """Run every trial of every scenario, and go on after one that failed."""
        for scenario in scenarios:
            result = Result(scenario.name, scenario.says)
            results.append(result)
            trials = scenario.full if self._full else scenario.short
            if self._trials is not None:
                trials = self._trials
            result.skipped = "only in the full form" if trials == 0 else scenario.needs()
            if result.skipped is not None:
                continue
            for number in range(1, trials + 1):
                self._run_one(scenario, number, result)

    def _run_one(self, scenario: Scenario, number: int, result: Result) -> None:
        rng = random.Random(f"{self._seed} {scenario.name} {number}")
        began = time.monotonic()
        try:
            stand, gateway = self._stand(scenario, rng)
            _only_this_one_serves(stand, gateway, scenario)
            trial, served, violations = asyncio.run(
                run_trial(scenario, stand, gateway, rng, run=f"{scenario.name}.{number}", full=self._full)
            )
        except Exception as error:  # the machine or the harness failed: this trial proves nothing
            result.violations.append({"trial": number, "unfit": f"{type(error).__name__}: {error}"})
            if not isinstance(error, Unfit):
                traceback.print_exc()
            self._shared.pop(scenario.workers, None)
            return
        if scenario.own_stand:
            stand.stop()
        result.add(trial, served, violations, time.monotonic() - began)
        shown = ", ".join(f"{count} {how}" for how, count in trial.outcomes.items())
        broken = "" if not (violations or trial.problems) else "  VIOLATED"
        say(f"{scenario.name:12} trial {number}: {shown}{broken}")
        for violation in violations:
            say(f"    {violation}")
        for problem in trial.problems:
            say(f"    {problem}")

    def _stand(self, scenario: Scenario, rng: random.Random) -> tuple[Stand, Gateway]:
        """Find the stand for a scenario: the shared one with as many workers, or a fresh one of its own."""
        if not scenario.own_stand and scenario.workers in self._shared:
            return self._shared[scenario.workers]
        self._stands += 1
        stand = Stand(self._supervisor, f"stand{self._stands}", dialect=rng.choice(DIALECTS))
        stand.start()
        gateway = stand.add_gateway(workers=scenario.workers)
        stand.add_gateway()
        if not scenario.own_stand:
            self._shared[scenario.workers] = stand, gateway
        return stand, gateway


def _only_this_one_serves(stand: Stand, gateway: Gateway, scenario: Scenario) -> None:
    """Begin a trial as if nothing had happened before: no other gateway, and this one with the right settings."""
    for other in stand.gateways:
        if other is not gateway or scenario.env or not scenario.starts_gateway or gateway.env_differs:
            other.process.kill()
            other.serving = False


def _chosen(only: str | None) -> list[Scenario]:
    if only is None:
        return list(SCENARIOS)
    wanted = set(only.split(",")) - billing.NAMES
    chosen = [one for one in SCENARIOS if one.name in wanted or one.name.split("-")[0] in wanted]
    known = {name for one in SCENARIOS for name in (one.name, one.name.split("-")[0])}
    if unknown := wanted - known:
        raise SystemExit(f"no scenario is called {', '.join(sorted(unknown))}")
    return chosen


def _proofs(only: str | None) -> set[str]:
    return set(billing.NAMES) if only is None else billing.NAMES & set(only.split(","))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="repeat the run with this seed")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="a sample of everything (the default)")
    form.add_argument("--full", action="store_true", help="everything")
    parser.add_argument("--only", help="names of scenarios or rows, such as F1,F7-kill")
    parser.add_argument("--trials", type=int, help="how often, instead of what the form says")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    parser.add_argument("--keep", action="store_true", help="keep logs and databases even when all went well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
