"""The local spool: settlements that Postgres could not take, kept on disk until it can.

A client must not lose the end of its answer because the database is away, and the entry must not be lost because the
gateway dies before the database is back. So a settlement is appended to a file and fsynced before the answer ends, and
replayed when Postgres answers again. Settling is idempotent, so replaying twice, or after all, changes nothing.

Each process writes files of its own and holds a lock on the one it writes. Whoever finds an unlocked file replays it,
so the spool of a process that died is replayed by the next one on the same machine.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec

from gateway.db.pool import is_poison
from gateway.errors import ConfigurationError, NusagateError
from gateway.ids import request_label
from gateway.ledger.model import Settlement
from gateway.runtime import metrics
from gateway.runtime.batcher import Batcher
from gateway.runtime.failpoints import failpoint
from gateway.runtime.logging import describe, get_logger

log = get_logger("spool")

Settle: TypeAlias = Callable[[Sequence[Settlement]], Awaitable[object]]
"""Commits a batch of settlements."""

SUFFIX = ".jsonl"
REPLAY_BATCH = 200
ENCODER = msgspec.json.Encoder()
DECODER = msgspec.json.Decoder(Settlement)


class SpoolFailed(NusagateError):
    """The request could not be recorded anywhere, so its answer was cut short."""

    code = "internal_error"


class Spool:
    """The spool of one process in a folder that all processes of a machine share."""

    def __init__(self, folder: Path, *, max_batch: int, max_queue: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"NUSAGATE_SPOOL_DIR cannot be made: {folder}: {error.strerror}"
            ) from error
        self.broken = False
        self._folder = folder
        self._descriptor: int | None = None
        self._writing = asyncio.Lock()
        self._batcher = Batcher(
            self._write, max_batch=max_batch, max_queue=max_queue, is_poison=lambda _error: False
        )

    async def append(self, settlement: Settlement) -> None:
        """Keep a settlement; it is on disk when this returns. ``SpoolFailed`` when it is not."""
        try:
            await self._batcher.submit(settlement)
        except OSError as error:
            raise SpoolFailed from error

    async def replay(self, settle: Settle) -> int:
        """Settle everything that is spooled and not being written; return how many settlements there were."""
        # A file that is being written is let go after that: its number might be another file's by then.
        async with self._writing:
            self._let_go()
        replayed = 0
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with _locked(path) as ours:
                if ours:
                    replayed += await self._replay_file(path, settle)
        return replayed

    def waiting(self) -> int:
        """Count the files that wait for a replay."""
        return sum(1 for _ in self._folder.glob(f"*{SUFFIX}"))

    def probe(self) -> None:
        """Find out whether the spool can be written, and remember it."""
        path = self._folder / f".probe-{os.getpid()}"
        try:
            with path.open("wb", buffering=0) as file:
                file.write(b"\0" * 4096)
                os.fsync(file.fileno())
            path.unlink()
        except OSError as error:
            if not self.broken:
                log.error("spool broken", **describe(error))
            self.broken = True
            return
        self.broken = False

    async def set_aside(self, settlement: Settlement, error: Exception) -> None:
        """Keep a settlement that cannot be recorded, for a person to look at."""
        log.error("settlement refused", request_id=request_label(settlement.request_id), **describe(error))
        await self._refuse(ENCODER.encode(settlement))

    async def close(self) -> None:
        """Finish writing and let go of the file."""
        await self._batcher.close()
        self._let_go()

    async def _write(self, batch: list[Settlement]) -> Sequence[None]:
        lines = b"".join(ENCODER.encode(settlement) + b"\n" for settlement in batch)
        async with self._writing:
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError:
                # After a failed fsync the kernel may have dropped the pages, so this file is never written again.
                self.broken = True
                self._let_go()
                raise
        metrics.spooled_total.inc(len(batch))
        failpoint("spool.after_write")
        return [None] * len(batch)

    def _append(self, lines: bytes) -> None:
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        end = os.fstat(self._descriptor).st_size
        try:
            view = memoryview(lines)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def _open(self) -> None:
        while self._descriptor is None:
            path = self._folder / f"{time.time_ns()}-{os.getpid()}{SUFFIX}"
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if os.fstat(self._descriptor).st_nlink == 0:
                # Between its making and its lock somebody took it for a dead process' file, and removed it.
                self._let_go()
        _sync_folder(self._folder)

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def _replay_file(self, path: Path, settle: Settle) -> int:
        settlements, unreadable = _read(path)
        for line in unreadable:
            log.error("settlement unreadable", path=path.name)
            await self._refuse(line)
        for start in range(0, len(settlements), REPLAY_BATCH):
            failpoint("spool.before_replay")
            await self._settle(settlements[start : start + REPLAY_BATCH], settle)
        failpoint("spool.after_replay")
        _remove(path)
        log.warning("spool replayed", count=len(settlements))
        return len(settlements)

    async def _settle(self, batch: Sequence[Settlement], settle: Settle) -> None:
        """Settle a batch; a settlement that Postgres refuses for good is set aside, so that it holds up no other."""
        try:
            await settle(batch)
        except Exception as error:
            if not is_poison(error):
                raise
            if len(batch) == 1:
                await self.set_aside(batch[0], error)
                return
            for settlement in batch:
                await self._settle([settlement], settle)

    async def _refuse(self, line: bytes) -> None:
        """Set a line aside that a person has to look at; it is never thrown away."""
        metrics.spool_refused_total.inc()
        await asyncio.to_thread(self._append_refused, line)

    def _append_refused(self, line: bytes) -> None:
        with (self._folder / "refused").open("ab") as file:
            file.write(line + b"\n")
            os.fsync(file.fileno())


def _read(path: Path) -> tuple[list[Settlement], list[bytes]]:
    """Read a file's settlements, and the whole lines that are none; a torn last line was never promised to anybody."""
    settlements: list[Settlement] = []
    unreadable: list[bytes] = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            settlements.append(DECODER.decode(line))
        except msgspec.DecodeError:
            unreadable.append(line)
    return settlements, unreadable


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a file's lock for a while, if nobody else does and the file is still there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path.exists()
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    path.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
