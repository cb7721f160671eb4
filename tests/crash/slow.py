"""F27 and F30 with the tools that others use: slowhttptest for slow clients, h2load for many at once."""

import asyncio
import re
import shutil
import time
from pathlib import Path

from tests.crash.load import MODEL, PATHS, Load
from tests.crash.scenario import AT_REST_S, Scenario, Trial

SLOW_CONNECTIONS = 200
SLOW_TEST_S = 60
HELD_MAX_S = 40
PROBE_S = 5
HERD = 2_000
HERD_MAX_S = 120
AVAILABLE = re.compile(r"service available:\s*(\w+)")
DONE = re.compile(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded")
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
MODES = {
    "slow headers": ("-H", "-t", "POST"),
    "slow bodies": ("-B", "-s", "8192", "-f", "application/json"),
    "slow reading": ("-X", "-w", "1", "-y", "8", "-n", "2", "-z", "1"),
}
"""What slowhttptest is told for each kind of slowness."""


def needs_slowhttptest() -> str | None:
    """The tool of Debian."""
    return None if shutil.which("slowhttptest") else "slowhttptest is not installed"


def needs_h2load() -> str | None:
    """The tool of Debian's nghttp2-client."""
    return None if shutil.which("h2load") else "h2load is not installed"


async def be_slow(trial: Trial) -> None:
    """Hold connections in each way; the tool's own probe, and clients beside it, are answered all the while.

    What counts is what the gateway holds: the tool itself learns late that its connections are closed.
    """
    # The tool has no option for a header of one's own, but it writes its cookie as it is told.
    key = trial.traffic.accounts[-1].key
    for name, options in MODES.items():
        before, served = trial.gateway.descriptors(), _served(trial)
        tool = asyncio.create_task(
            _run(
                ["slowhttptest", *options, "-c", str(SLOW_CONNECTIONS), "-r", "100", "-i", "5", "-p", str(PROBE_S),
                 "-l", str(SLOW_TEST_S), "-j", f"a=b\r\nauthorization: Bearer {key}",
                 "-u", f"http://127.0.0.1:{trial.gateway.port}{PATHS['chat']}"],
                deadline_s=SLOW_TEST_S + 30,
            )
        )  # fmt: skip
        held_s = await _held_s(trial, before)
        said = await tool
        trial.count("slow connections", SLOW_CONNECTIONS)
        trial.figure(f"{name}: held, s", held_s)
        trial.expect(0 < held_s < HELD_MAX_S, f"{name}: connections were held for {held_s:.0f} s")
        available = AVAILABLE.findall(said)
        trial.expect(
            bool(available) and set(available) == {"YES"}, f"{name}: the service was available: {available}"
        )
        trial.expect(_served(trial) > served, f"{name}: nobody else was served meanwhile")


async def _held_s(trial: Trial, before: int) -> float:
    """For how long the gateway held most of the connections that came; 0 if they never did."""
    many, began, came = before + SLOW_CONNECTIONS // 2, time.monotonic(), None
    while (now := time.monotonic()) - began < SLOW_TEST_S - 1:
        holds_many = await asyncio.to_thread(trial.gateway.descriptors) > many
        if holds_many and came is None:
            came = now
        if came is not None and not holds_many:
            return now - came
        await asyncio.sleep(0.5)
    return 0 if came is None else SLOW_TEST_S


def _served(trial: Trial) -> int:
    return sum(record.complete for record in trial.traffic.seen)


async def come_as_a_herd(trial: Trial) -> None:
    """Let h2load open 2,000 connections to a gateway that has just been started, and ask once on each."""
    await asyncio.to_thread(trial.gateway.kill)
    await asyncio.to_thread(trial.gateway.start, trial.stand.patient)
    body = trial.stand.folder / "herd.json"
    text = '{"model":"%s","max_tokens":8,"messages":[{"role":"user","content":"[[sim output=4]]"}]}'
    body.write_text(text % MODEL)
    herd = HERD if trial.full else HERD // 10
    said = await _run(
        ["h2load", "--h1", "-n", str(herd), "-c", str(herd), "-d", str(body), "-H", "content-type: application/json",
         "-H", f"authorization: Bearer {trial.traffic.accounts[-1].key}",
         f"http://127.0.0.1:{trial.gateway.port}{PATHS['chat']}"],
        deadline_s=HERD_MAX_S,
    )  # fmt: skip
    done = DONE.search(said)
    answered = int(done[2]) if done else 0
    trial.figure("h2load: answered of a herd", answered)
    trial.expect(answered == herd, f"h2load: {answered} of {herd} were answered; {said[-300:]}")


async def _run(arguments: list[str], *, deadline_s: float) -> str:
    """Run a tool to its end and return what it said; it is ended when it takes too long."""
    tool = await asyncio.create_subprocess_exec(
        *arguments, cwd=Path("/tmp"), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(deadline_s):
            said, _ = await tool.communicate()
    finally:
        if tool.returncode is None:
            tool.kill()
            await tool.wait()
    return COLOUR.sub("", said.decode(errors="replace"))


SCENARIOS = (
    Scenario(
        name="F30-tool",
        says="slowhttptest holds connections with slow headers, bodies and reads: cut off, others are served",
        strike=be_slow,
        idle_s=AT_REST_S,
        load=Load(clients=2, pace_ms=(1, 5), pause_s=0.05),
        accounts=(0, 2),
        needs=needs_slowhttptest,
        short=0,
        full=1,
    ),
    Scenario(
        name="F27-tool",
        says="h2load comes with 2,000 connections right after a restart: all are answered",
        strike=come_as_a_herd,
        idle_s=AT_REST_S,
        load=Load(clients=0),
        accounts=(0, 1),
        needs=needs_h2load,
        short=0,
        full=1,
    ),
)
