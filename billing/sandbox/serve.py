"""Runs a sandbox: a server on this machine, a ticker that lets time pass, and a file that outlives both."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
from granian.constants import Interfaces
from granian.server.embed import Server

from billing.sandbox import idempotency
from billing.sandbox.app import Application
from billing.sandbox.clock import VirtualClock
from billing.sandbox.destinations import LOOPBACK, forget_registered, register
from billing.sandbox.sender import Sender
from billing.sandbox.state import load_state, replace_file, save_state
from billing.sandbox.timeline import catch_up
from billing.sandbox.world import World
from gateway.clock import Clock
from gateway.errors import ConfigurationError

TICK_S = 0.5
LOG = logging.getLogger(__name__)


class WebhookTarget(msgspec.Struct, frozen=True):
    """Where events go from the start; ``thin`` chooses v2's events, which is how meter errors come."""

    url: str
    secret: str
    thin: bool = False
    events: tuple[str, ...] = ("*",)


def open_world(
    *,
    public_url: str,
    state_path: Path | None = None,
    clock_path: Path | None = None,
    webhooks: Sequence[WebhookTarget] = (),
    clock: Clock | None = None,
) -> World:
    """Make a world from its file, or an empty one; ``ConfigurationError`` for an empty webhook secret."""
    state = load_state(state_path)
    own_clock = VirtualClock(clock, offset_s=state.clock_offset_s, stopped_at=state.clock_stopped_at)
    world = World(state, clock=own_clock, public_url=public_url)
    if clock_path is not None:
        own_clock.when_moved = lambda ahead_s: replace_file(clock_path, str(ahead_s).encode())
        own_clock.tell()
    forget_registered(world)
    for target in webhooks:
        if not target.secret:
            raise ConfigurationError(f"the webhook secret for {target.url} is empty")
        register(world, url=target.url, secret=target.secret, thin=target.thin, events=list(target.events))
    return world


async def serve(
    host: str,
    port: int,
    *,
    state_path: Path | None = None,
    clock_path: Path | None = None,
    webhooks: Sequence[WebhookTarget] = (),
    clock: Clock | None = None,
) -> None:
    """Serve until cancelled, then write the state. Only loopback addresses: there is no real authentication."""
    async with running(
        host, port, state_path=state_path, clock_path=clock_path, webhooks=webhooks, clock=clock
    ):
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def running(
    host: str,
    port: int,
    *,
    state_path: Path | None = None,
    clock_path: Path | None = None,
    webhooks: Sequence[WebhookTarget] = (),
    clock: Clock | None = None,
) -> AsyncIterator[World]:
    """Serve while the context is open, in the caller's event loop, and hand out the world that is served."""
    if host not in LOOPBACK:
        raise ConfigurationError(f"the Stripe sandbox listens on this machine only, not on {host}")
    world = open_world(
        public_url=f"http://{host}:{port}",
        state_path=state_path,
        clock_path=clock_path,
        webhooks=webhooks,
        clock=clock,
    )
    sender = Sender(world)
    server = Server(
        Application(world, sender), address=host, port=port, interface=Interfaces.ASGI, log_enabled=False
    )
    serving = asyncio.create_task(server.serve())
    ticking = asyncio.create_task(_tick(world, sender, state_path))
    ticking.add_done_callback(_tell_why)
    try:
        yield world
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        server.stop()  # type: ignore[no-untyped-call]
        await serving
        _save(world, state_path)


async def _tick(world: World, sender: Sender, state_path: Path | None) -> None:
    """Twice a second, and when there is something to deliver: do what is due, deliver, and write what changed."""
    saved = world.changes
    while True:
        catch_up(world)
        idempotency.prune(world)
        await sender.send_due()
        if world.changes != saved:
            saved = world.changes
            _save(world, state_path)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(world.delivery_waits.wait(), TICK_S)
        world.delivery_waits.clear()


def _tell_why(ticking: asyncio.Task[None]) -> None:
    """Say at once that time stands still; the exception itself comes when the server stops."""
    if not ticking.cancelled() and ticking.exception() is not None:
        LOG.error("the Stripe sandbox no longer lets time pass", exc_info=ticking.exception())


def _save(world: World, state_path: Path | None) -> None:
    if state_path is None:
        return
    world.state.clock_offset_s = world.clock.offset_s
    world.state.clock_stopped_at = world.clock.stopped_at
    save_state(state_path, world.state)
