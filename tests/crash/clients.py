"""F19, F20, F30, F32: clients that leave, hardly read, hardly write, or leave in hordes."""

import asyncio
import json
import time

from tests.crash.caches import redis_of
from tests.crash.load import Load
from tests.crash.scenario import AT_REST_S, Scenario, Trial

LEFT = frozenset({"complete", "left", "insufficient_quota"})
MEMORY_MAX_MIB = 64
HEADERS_MAX_S = 40
SLOW_SOCKETS = 200
STORM = 20_000
STORMING = Load(clients=32, leaving=0.2, leave_within_ms=25, output=(4, 30), pace_ms=(0, 1))


async def leave_anywhere(trial: Trial) -> None:
    """Clients leave before the first byte, after it, and in the middle; half of them at least."""
    await asyncio.sleep(40 if trial.full else 5)


async def hardly_read(trial: Trial) -> None:
    """Clients take one byte a second of answers that are larger than any buffer on the way."""
    before_mib = trial.gateway.resident_mib()
    await asyncio.sleep(12)
    grown_mib = trial.gateway.resident_mib() - before_mib
    trial.figure("grown_mib", grown_mib)
    trial.expect(grown_mib <= MEMORY_MAX_MIB, f"memory grew by {grown_mib} MiB")
    trial.traffic.stopped = True


async def storm_of_cancellations(trial: Trial) -> None:
    """One request in five is cancelled within milliseconds, inside the calls to Postgres and Redis."""
    await _storm(trial, "requests in a storm")


async def storm_with_redis(trial: Trial) -> None:
    """The same with Redis deciding, whose replies must not reach the next caller either."""
    async with redis_of(trial) as redis:
        await asyncio.to_thread(trial.gateway.start, {"NUSAGATE_REDIS_URL": redis.url})
        flowing = asyncio.create_task(trial.traffic.flow())
        await _storm(trial, "requests in a storm with redis")
        trial.traffic.stopped = True
        await flowing
        await asyncio.to_thread(trial.gateway.drain)


async def _storm(trial: Trial, counted_as: str) -> None:
    wanted = STORM if trial.full else STORM // 40
    while len(trial.traffic.seen) < wanted:  # noqa: ASYNC110 - many clients count
        await asyncio.sleep(0.05)
    trial.count(counted_as, len(trial.traffic.seen))
    trial.count("cancelled", sum(record.left for record in trial.traffic.seen))


async def hardly_write(trial: Trial) -> None:
    """Clients send their headers or their bodies a byte at a time; they are cut off, and others do not notice."""
    began = time.monotonic()
    key = trial.traffic.accounts[-1].key
    kinds = [b"POST /v1/responses HTTP/1.1\r\nhost: x\r\nx-slow: "] if trial.full else []
    kinds.append(
        f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        "content-type: application/json\r\ncontent-length: 100000\r\n\r\n".encode()
    )
    count = SLOW_SOCKETS if trial.full else 20
    closed = await asyncio.gather(*(_drip(trial.gateway.port, kind) for kind in kinds for _ in range(count)))
    trial.figure("slow_closed_in_s", max(closed))
    trial.expect(max(closed) < HEADERS_MAX_S, f"a slow client was served for {max(closed):.0f} s")
    trial.expect(time.monotonic() - began < HEADERS_MAX_S + 10, "slow clients were not cut off")


async def _drip(port: int, head: bytes) -> float:
    """Send a byte now and then; return after how long the other side had enough."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    try:
        while time.monotonic() - began < HEADERS_MAX_S:
            writer.write(b"x")
            await writer.drain()
            try:
                async with asyncio.timeout(0.5):
                    if not await reader.read(4096) or reader.at_eof():
                        break
            except TimeoutError:
                continue
    except OSError:
        pass
    finally:
        writer.transport.abort()
    return time.monotonic() - began


async def send_huge_bodies(trial: Trial) -> None:
    """Send bodies of 100 MB, announced and unannounced: refused before they are read whole."""
    key = trial.traffic.accounts[-1].key
    before_mib = trial.gateway.resident_mib()
    for announced in (True, False):
        status = await _upload(trial.gateway.port, key, 100_000_000, announced=announced)
        trial.expect(status in (413, None), f"a body of 100 MB was answered {status}")
    trial.figure("grown_mib", trial.gateway.resident_mib() - before_mib)
    await trial.traffic.answered(3)


async def _upload(port: int, key: str, size: int, *, announced: bool) -> int | None:
    """Send a body of ``size`` bytes; return the status, ``None`` if the connection was cut without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = f"content-length: {size}" if announced else "transfer-encoding: chunked"
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\n{length}\r\n\r\n"
    )
    piece = json.dumps("x" * 65_000).encode()
    chunk = piece if announced else f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    try:
        writer.write(head.encode())
        for _ in range(size // len(piece)):
            writer.write(chunk)
            async with asyncio.timeout(20):
                await writer.drain()
            if reader._buffer:  # type: ignore[attr-defined]
                break
        async with asyncio.timeout(20):
            return int((await reader.readline()).split()[1])
    except (OSError, IndexError, TimeoutError):
        return None
    finally:
        writer.transport.abort()


SCENARIOS = (
    Scenario(
        name="F19",
        says="clients that leave at any stage: exactly one entry or one recorded release each",
        strike=leave_anywhere,
        load=Load(clients=16, leaving=0.6, leave_after_bytes=(0, 6_000), pace_ms=(1, 20)),
        allowed=LEFT,
        accounts=(4, 4),
        full=3,
    ),
    Scenario(
        name="F20",
        says="clients that read a byte a second: bounded memory, and an end",
        strike=hardly_read,
        load=Load(
            clients=6,
            bytes_per_s=1,
            output=(6_000, 9_000),
            pace_ms=(0, 0),
            leaving=1.0,
            leave_after_bytes=(10, 14),
            shapes=(("chat", True), ("responses", True)),
        ),
        accounts=(0, 3),
        full=2,
    ),
    Scenario(
        name="F30",
        says="slow headers and bodies are cut off, and others are served meanwhile",
        strike=hardly_write,
        idle_s=AT_REST_S,
        load=Load(clients=3, pace_ms=(1, 5), pause_s=0.05),
        accounts=(0, 2),
        full=1,
    ),
    Scenario(
        name="F15-bodies",
        says="huge request bodies are refused before they are read whole",
        strike=send_huge_bodies,
        idle_s=AT_REST_S,
        load=Load(clients=2, pace_ms=(1, 5), pause_s=0.05),
        accounts=(0, 2),
        short=0,
        full=1,
    ),
    Scenario(
        name="F32",
        says="a storm of cancellations inside the calls to the databases mixes nobody's bytes",
        strike=storm_of_cancellations,
        idle_s=AT_REST_S,
        load=STORMING,
        accounts=(0, 12),
        allowed=LEFT,
        full=1,
        strike_full_s=1_500,
    ),
    Scenario(
        name="F32-redis",
        says="the same with Redis deciding",
        strike=storm_with_redis,
        idle_s=AT_REST_S,
        load=STORMING,
        accounts=(0, 12),
        allowed=LEFT,
        starts_gateway=False,
        flows_at_once=False,
        full=1,
        strike_full_s=1_500,
    ),
)
