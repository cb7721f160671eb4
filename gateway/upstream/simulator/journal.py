"""The simulator's journal: what was served, on disk before the last byte of it is sent.

One JSON object a line and never a word of a prompt. Lines that arrive while a write is on its way are
written together by the next one, so a busy simulator shares one fsync among many answers.
"""

import asyncio
import os
from pathlib import Path
from typing import Literal

import msgspec

Ending = Literal["complete", "client_gone", "error", "reset"]


class JournalLine(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: what its usage says or would have said, and how much of it was handed to the network."""

    request_id: str | None
    id: str
    at: str
    dialect: str
    stream: bool
    model: str
    input_tokens: int
    output_tokens: int
    usage: str
    ending: Ending
    delivered_tokens: int


class Journal:
    """An append-only file, or nothing at all when the path is ``None``."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, line: JournalLine) -> None:
        """Return when the line is on disk; ``OSError`` if it could not be written."""
        if self._path is None:
            return
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((msgspec.json.encode(line) + b"\n", written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting(self._path))
        await asyncio.shield(written)

    async def _write_waiting(self, path: Path) -> None:
        """Write batches until nobody waits."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(_append, path, b"".join(line for line, _ in batch))
            except OSError as error:
                for _, written in batch:
                    written.set_exception(error)
            else:
                for _, written in batch:
                    written.set_result(None)


def _append(path: Path, lines: bytes) -> None:
    """Append and fsync, in a thread."""
    with path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
