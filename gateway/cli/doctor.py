"""``nusagate doctor``: is everything that a gateway stands on there, and if not, what is missing."""

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable

import msgspec
import rich_click as click

from gateway.cli.output import emit, json_option
from gateway.cli.session import CLOCK, command_environment
from gateway.db.migrate import pending
from gateway.db.pool import Connection, open_connection
from gateway.errors import NusagateError
from gateway.prices.service import books_at
from gateway.quota import service as quota_service
from gateway.quota.redis_server import examine
from gateway.runtime.settings import Settings, load_settings
from gateway.upstream.catalogue import Catalogue, Upstream, load_catalogue

CLOCK_SKEW_MAX_S = 5
UPSTREAM_TIMEOUT_S = 3


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@click.command(epilog="Example: nusagate doctor --json")
@json_option
def doctor(*, as_json: bool) -> int:
    """Check configuration, Postgres, migrations, prices, Redis, upstreams and the clock."""
    checks = asyncio.run(_examine())
    emit({"checks": [msgspec.to_builtins(check) for check in checks]}, as_json=as_json)
    return 0 if all(check.ok for check in checks) else 1


async def _examine() -> list[Check]:
    environ = command_environment()
    try:
        settings = load_settings(environ)
        catalogue = load_catalogue(settings.config_path, environ)
    except NusagateError as error:
        return [Check("configuration", ok=False, detail=error.message)]
    models = ", ".join(sorted(catalogue.models))
    checks = [Check("configuration", ok=True, detail=f"{settings.config_path}: {models}")]
    checks += await _examine_database(settings, catalogue)
    checks.append(await _redis(settings))
    for upstream in {
        upstream.name: upstream for model in catalogue.models.values() for upstream in model.upstreams
    }.values():
        checks.append(await asyncio.to_thread(_upstream, upstream))
    return checks


async def _examine_database(settings: Settings, catalogue: Catalogue) -> list[Check]:
    try:
        connection = await open_connection(
            settings.database_url, settings.limits, application="nusagate-doctor"
        )
    except ValueError:
        # The text of this error may show parts of the address, and so of its password.
        return [Check("postgres", ok=False, detail="NUSAGATE_DATABASE_URL is not an address of a database")]
    except Exception as error:  # no such database, no such user, a wrong password: what it is there to tell
        return [
            Check("postgres", ok=False, detail=f"cannot be reached: {str(error) or type(error).__name__}")
        ]
    try:
        version = await connection.fetchval("SHOW server_version")
        checks = [Check("postgres", ok=True, detail=f"version {version}")]
        missing = await pending(connection)
        checks.append(
            Check(
                "migrations",
                ok=not missing,
                detail=f"missing: {', '.join(missing)}" if missing else "complete",
            )
        )
        if not missing:
            checks.append(await _guarded("prices", lambda: _prices(connection, catalogue)))
        checks.append(await _guarded("clock", lambda: _clock(connection)))
        return checks
    finally:
        await connection.close(timeout=1)


async def _guarded(name: str, look: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await look()
    except (OSError, NusagateError) as error:
        return Check(name, ok=False, detail=str(error))


async def _prices(connection: Connection, catalogue: Catalogue) -> Check:
    books = await books_at(connection, await quota_service.now(connection), None)
    if not books:
        return Check("prices", ok=False, detail="no price book is in force; run `nusagate seed`")
    unpriced = sorted(
        f"{model} in {book.currency}"
        for book in books
        for model in catalogue.models
        if model not in book.rates
    )
    detail = f"no price for {', '.join(unpriced)}" if unpriced else ", ".join(book.book_id for book in books)
    return Check("prices", ok=not unpriced, detail=detail)


async def _clock(connection: Connection) -> Check:
    skew_s = abs((await quota_service.now(connection) - CLOCK.now()).total_seconds())
    return Check("clock", ok=skew_s <= CLOCK_SKEW_MAX_S, detail=f"{skew_s:.1f} s from the database's clock")


async def _redis(settings: Settings) -> Check:
    if settings.redis_url is None:
        return Check("redis", ok=True, detail="not configured; limits run on Postgres")
    try:
        report = await examine(settings.redis_url)
    except NusagateError as error:
        return Check("redis", ok=False, detail=error.message)
    skew_s = abs((report.now - CLOCK.now()).total_seconds())
    faults = [*report.faults]
    if skew_s > CLOCK_SKEW_MAX_S:
        faults.append(f"its clock is {skew_s:.1f} s off")
    warning = "; warning: it persists, and limits need no dump of it" if report.persists else ""
    return Check(
        "redis",
        ok=not faults,
        detail=f"version {report.version}, {report.role}: {', '.join(faults) or 'answers'}{warning}",
    )


def _upstream(upstream: Upstream) -> Check:
    name = f"upstream {upstream.name}"
    headers = {"authorization": f"Bearer {upstream.api_key}"} if upstream.api_key else {}
    request = urllib.request.Request(f"{upstream.base_url}/models", headers=headers)  # noqa: S310 - the catalogue allows http and https only
    try:
        with urllib.request.urlopen(request, timeout=UPSTREAM_TIMEOUT_S) as answer:  # noqa: S310 - as above
            return Check(name, ok=True, detail=f"{upstream.base_url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        return Check(name, ok=error.code < 500, detail=f"{upstream.base_url} answers {error.code}")  # noqa: PLR2004 - a status
    except (OSError, http.client.HTTPException) as error:
        return Check(name, ok=False, detail=f"{upstream.base_url} cannot be reached: {type(error).__name__}")
