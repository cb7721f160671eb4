"""``python -m billing.sandbox --port 12111``: a sandbox of its own, for tests and for the curious."""

import argparse
import asyncio
import contextlib
import os
import signal
from pathlib import Path

from billing.sandbox.serve import WebhookTarget, running
from billing.settings import THIN_WEBHOOK_SECRET, WEBHOOK_SECRET

DEFAULT_PORT = 12111


def main() -> None:
    """Read the command line and serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m billing.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--state", type=Path, help="file that keeps customers over restarts")
    parser.add_argument(
        "--clock", type=Path, help="file that says how far this time is ahead of the machine's"
    )
    parser.add_argument(
        "--webhook", action="append", default=[], metavar="URL", help="snapshot events go here"
    )
    parser.add_argument(
        "--thin-webhook", action="append", default=[], metavar="URL", help="thin events go here"
    )
    for option, variable in (("--secret", WEBHOOK_SECRET), ("--thin-secret", THIN_WEBHOOK_SECRET)):
        default = os.environ.get(variable, "whsec_sandbox")
        parser.add_argument(option, default=default, help=f"signs events; {variable} without it")
    asyncio.run(_main(parser.parse_args()))


async def _main(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    targets = [WebhookTarget(url, options.secret) for url in options.webhook]
    targets += [WebhookTarget(url, options.thin_secret, thin=True) for url in options.thin_webhook]
    with contextlib.suppress(asyncio.CancelledError):
        async with running(
            options.host,
            options.port,
            state_path=options.state,
            clock_path=options.clock,
            webhooks=targets,
        ):
            print(f"Stripe sandbox on http://{options.host}:{options.port}", flush=True)  # noqa: T201 - its one line
            await stop.wait()


if __name__ == "__main__":
    main()
