"""The load of a trial: clients of several accounts that ask for all shapes of answers until they are told to stop."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.crash.client import PATHS, Answer, Connection, Left, note
from tests.fakes.checker import Seen

MODEL = "nusantara-base"
REFUSED_PAUSE_S = 0.02
CLIENT_DEADLINE_S = 60
SPARE_TOKENS = 8
BESIDE_THE_TEXT_TOKENS = {"chat": 64 + 15, "responses": 64 + 16}
"""What is reserved for a prompt besides the bytes of its text: the model's overhead, and what is around the text."""
Shape: TypeAlias = tuple[str, bool]
"""An endpoint, and whether its answer is a stream."""
SHAPES: tuple[Shape, ...] = tuple(
    (endpoint, stream) for endpoint in ("chat", "responses") for stream in (False, True)
)
"""Every shape of answer that has endings of its own."""


@dataclass(frozen=True)
class Account:
    """Somebody who asks: an account, its key, and its month limit if it has one."""

    account_id: str
    key: str
    month_limit: int | None


@dataclass(frozen=True, kw_only=True)
class Load:
    """What clients do; ranges are inclusive. ``directives`` are the simulator's, one is drawn for each request.

    Of the requests the share ``leaving`` is cancelled: after so many bytes of the answer, or at any moment of the first
    ``leave_within_ms`` after it was sent. ``exact`` makes every request use just what is reserved for it, so that one
    admission too many passes the limit.
    """

    clients: int = 16
    output: tuple[int, int] = (6, 40)
    pace_ms: tuple[int, int] = (2, 25)
    shapes: Sequence[Shape] = SHAPES
    directives: Sequence[str] = ("",)
    leaving: float = 0.0
    leave_after_bytes: tuple[int, int] = (0, 3_000)
    leave_within_ms: int | None = None
    bytes_per_s: int | None = None
    requests: int | None = None
    exact: bool = False
    pause_s: float = 0.0


@dataclass
class Traffic:
    """A running load: who asks, where, and what all clients have seen so far."""

    load: Load
    accounts: Sequence[Account]
    ports: Callable[[], Sequence[int]]
    rng: random.Random
    run: str
    seen: list[Seen] = field(default_factory=list)
    refused_connections: int = 0
    stopped: bool = False
    _number: int = 0

    async def flow(self) -> None:
        """Let every client ask until the traffic is stopped, or the load's number of requests is reached."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.load.clients):
                group.create_task(self._client())

    async def answered(self, count: int) -> None:
        """Wait until so many more requests have been answered in whole; ``TimeoutError`` if that takes for ever."""
        before = self._completed()
        async with asyncio.timeout(CLIENT_DEADLINE_S):
            while self._completed() < before + count and not self.stopped:  # noqa: ASYNC110 - many clients count
                await asyncio.sleep(0.01)

    def _completed(self) -> int:
        return sum(1 for record in self.seen if record.complete)

    def _may_go_on(self) -> bool:
        limit = self.load.requests
        return not self.stopped and (limit is None or self._number < limit)

    async def _client(self) -> None:
        connections: dict[int, Connection] = {}
        try:
            while self._may_go_on():
                self._number += 1
                await self._ask_somewhere(connections)
                if self.load.pause_s:
                    await asyncio.sleep(self.load.pause_s)
        finally:
            for connection in connections.values():
                await connection.close()

    async def _ask_somewhere(self, connections: dict[int, Connection]) -> None:
        ports = self.ports()
        for gone in connections.keys() - set(ports):
            await connections.pop(gone).close()
        if not ports:
            await asyncio.sleep(REFUSED_PAUSE_S)
            return
        port = self.rng.choice(list(ports))
        connection = connections.setdefault(port, Connection(port))
        await self.ask(connection, self.rng.choice(self.load.shapes))

    async def ask(self, connection: Connection, shape: Shape, directive: str = "") -> Seen:
        """Ask once and write down what came back."""
        endpoint, stream = shape
        account = self.rng.choice(self.accounts)
        output = self.rng.randint(*self.load.output)
        record = Seen(
            marker=f"{self.run}-{self._number}-{self.rng.getrandbits(32):08x}",
            endpoint=endpoint,
            stream=stream,
            account_id=account.account_id,
            asked_output=output,
        )
        record.directive = directive or self.rng.choice(self.load.directives)
        body = self._body(record)
        leaves = self.rng.random() < self.load.leaving
        answer = Answer()
        began_s = time.monotonic()
        by_time = self.load.leave_within_ms
        try:
            async with asyncio.timeout(CLIENT_DEADLINE_S):
                await connection.post(
                    PATHS[endpoint],
                    account.key,
                    body,
                    answer,
                    leave_after_bytes=(
                        self.rng.randint(*self.load.leave_after_bytes) if leaves and by_time is None else None
                    ),
                    leave_after_s=(
                        self.rng.uniform(0, by_time) / 1_000 if leaves and by_time is not None else None
                    ),
                    bytes_per_s=self.load.bytes_per_s,
                )
        except ConnectionRefusedError:
            self.refused_connections += 1
            await asyncio.sleep(REFUSED_PAUSE_S)
            return record
        except Left:
            record.left = True
        except TimeoutError:
            record.hung = True
            await connection.close()
        except OSError:
            pass
        note(record, answer, began_s)
        self.seen.append(record)
        return record

    def _body(self, record: Seen) -> bytes:
        pace = self.rng.randint(*self.load.pace_ms)
        wanted = f"output={record.asked_output} pace_ms={pace} {record.directive}".strip()
        text = f"{record.marker} [[sim {wanted}]] " + "x" * self.rng.randint(0, 60)
        spare = SPARE_TOKENS
        if self.load.exact:
            text, spare = _with_exact_input(text, record.endpoint), 0
        body: dict[str, object] = {"model": MODEL, "stream": record.stream, "user": record.marker}
        if record.endpoint == "chat":
            body |= {
                "messages": [{"role": "user", "content": text}],
                "max_tokens": record.asked_output + spare,
            }
            if record.stream and self.rng.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
        else:
            body |= {
                "input": text,
                "max_output_tokens": record.asked_output + spare,
                "store": self.rng.random() < 0.5,
            }
        return json.dumps(body).encode()


def _with_exact_input(text: str, endpoint: str) -> str:
    """Let the model count just what the gateway reserves for a prompt, in the catalogue of these tests."""
    note = " [[sim input_tokens=000]]"
    return text + note.replace("000", str(len(text + note) + BESIDE_THE_TEXT_TOKENS[endpoint]))


async def settle_down(traffic: Traffic, flowing: "asyncio.Task[None]", *, deadline_s: float) -> None:
    """Stop the traffic and wait for the requests under way; those that do not end are written down as hung."""
    traffic.stopped = True
    done, _ = await asyncio.wait([flowing], timeout=deadline_s)
    if not done:
        flowing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flowing
        traffic.seen.append(
            Seen("unfinished traffic", "any", stream=False, account_id="", asked_output=0, hung=True)
        )
        return
    flowing.result()
