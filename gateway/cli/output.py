"""What a command prints: exactly one JSON document with ``--json``, and something friendly without."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import rich_click as click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.clock import format_utc

ABSENT = "-"
PIPE_WIDTH = 240
"""Columns of a page that nobody folds: a pipe or a file."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)


def emit(document: Mapping[str, Any], *, as_json: bool, note: str | None = None) -> None:
    """Print an answer; the note is for people only."""
    if as_json:
        click.echo(msgspec.json.encode(document))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(_pairs(document))
    if note:
        console.print(Text(note, style="yellow"))


@contextmanager
def waiting() -> Iterator[Callable[[str], None]]:
    """Say on a terminal what is being waited for, in one line that goes away; say nothing to a pipe."""
    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(text))


def _render(value: Any) -> RenderableType:
    if isinstance(value, Mapping):
        return _pairs(value) if value else Text(ABSENT)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and isinstance(value[0], Mapping):
            return _rows(value)
        return Text(", ".join(map(str, value)) or ABSENT)
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(f"{value:,}")
    if isinstance(value, datetime):
        return Text(format_utc(value))
    return Text(ABSENT if value is None else str(value))


def _pairs(document: Mapping[str, Any]) -> RenderableType:
    """A document of one list is that list; anything else is a name and a value a line."""
    if len(document) == 1:
        (value,) = document.values()
        if isinstance(value, Sequence) and not isinstance(value, str):
            return _render(value)
    grid = Table.grid(padding=(0, 2))
    for name, value in document.items():
        grid.add_row(Text(_title(name), style="bold"), _render(value))
    return grid


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(_title(name), overflow="fold")
    for row in rows:
        table.add_row(*(_render(value) for value in row.values()))
    return table


def _title(name: str) -> str:
    return str(name).replace("_", " ")
