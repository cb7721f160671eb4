"""The benchmark: ``python -m tests.bench`` starts all it needs, prints a table and one JSON document, and stops.

No figure is asserted: machines differ and share their cores. What counts is the ratio to nginx in the same run.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import asyncpg
import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.billing import sync_million
from tests.bench.machine import describe_machine, load_average
from tests.bench.nginx import nginx_version
from tests.bench.pages import pages
from tests.bench.scenarios import SCENARIOS, Figure, Pace
from tests.bench.stand import BenchFailed, Stand, running_stand

Scenario = Callable[[Stand, Pace], list[Figure]]
NAMED_ONLY: tuple[Scenario, ...] = (sync_million, pages)
"""Scenarios that take too long for a run of everything."""
TIME_LIMIT_S = 300
ENTRIES = 10_000_000
QUIET_LOAD = 0.3
console = Console(stderr=True)


class Report(msgspec.Struct, frozen=True):
    """The JSON document of a run."""

    measured_at: str
    command: str
    load_before: float
    machine: dict[str, object]
    figures: list[Figure]


def main() -> int:
    """Run what was asked for; returns the exit status."""
    options = read_options()
    pace = Pace(
        load_s=options.seconds,
        warm_up_s=max(1, options.seconds // 4),
        open_loop_s=options.seconds,
        open_streams=options.streams,
        entries=options.entries,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(options.limit)
    load_before = load_average()
    if load_before > QUIET_LOAD:
        console.print(f"The load of this machine is {load_before:.2f} already: the figures will be too low.")
    figures: list[Figure] = []
    try:
        with running_stand(redis=options.redis) as stand:
            machine = describe_machine(*asyncio.run(versions(stand)))
            for scenario in _chosen(options.only):
                console.print(f"[dim]{scenario.__name__} …")
                figures += scenario(stand, pace)
    except BenchFailed as error:
        console.print(f"[bold]{error}")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    report = Report(
        datetime.now(UTC).isoformat(timespec="seconds"),
        "python -m tests.bench " + " ".join(sys.argv[1:]),
        round(load_before, 2),
        machine,
        figures,
    )
    Console().print(table_of(report))
    write(report, options.json)
    return 0


def _chosen(only: list[str] | None) -> list[Scenario]:
    """Choose the scenarios whose names contain one of ``only``; without it all but those that must be named."""
    if only is None:
        return list(SCENARIOS)
    return [one for one in (*SCENARIOS, *NAMED_ONLY) if any(name in one.__name__ for name in only)]


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the JSON document here, not to the output"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"of {[one.__name__ for one in (*SCENARIOS, *NAMED_ONLY)]}"
    )
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement (default 5)")
    parser.add_argument("--streams", type=int, default=1_000, help="open streams for the memory figure")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="size of the ledger for `pages`")
    parser.add_argument("--redis", action="store_true", help="let a Redis decide the limits")
    parser.add_argument(
        "--limit", type=int, default=TIME_LIMIT_S, help="seconds after which the run is given up"
    )
    return parser.parse_args()


def table_of(report: Report) -> Table:
    """Lay the figures out for a terminal."""
    table = Table(title=f"Nusagate on {report.machine['cpu']}, {report.measured_at}")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("unit")
    table.add_column("of nginx", justify="right")
    table.add_column("goal")
    table.add_column("note")
    for figure in report.figures:
        value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.2f}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.3f}"
        table.add_row(figure.name, value, figure.unit, ratio, figure.goal or "", figure.note or "")
    return table


def write(report: msgspec.Struct, path: Path | None) -> None:
    """Write the document to a file, or to the output."""
    document = msgspec.json.format(msgspec.json.encode(report)).decode()
    if path is None:
        sys.stdout.write(document + "\n")
    else:
        path.write_text(document + "\n")


async def versions(stand: Stand) -> tuple[str, str]:
    """Ask the database and nginx what they are."""
    connection = await asyncpg.connect(stand.database_url)
    try:
        return str(await connection.fetchval("SHOW server_version")), nginx_version()
    finally:
        await connection.close()


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise BenchFailed("The run took too long and was given up; --limit sets its bound in seconds.")


if __name__ == "__main__":
    sys.exit(main())
