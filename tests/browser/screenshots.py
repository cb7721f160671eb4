"""The pictures of the README, made again from a demo account: ``python -m tests.browser.screenshots``.

With ``--all FOLDER`` every page of the portal is taken, in both themes, on a desktop and on a phone, to be looked at.
"""

import argparse
import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.checks import arrive
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Installation, running

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DEMO = Path(__file__).with_name("demo.sql")
ADDRESS = "sari@example.com"
KEYS = ("web app", "nightly batch", "support bot", "old laptop")
DESKTOP, PHONE = (1280, 800), (390, 844)
BYTES_MAX = 150_000

NAMED = """
([own, shown]) => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) walk.currentNode.data = walk.currentNode.data.replaceAll(own, shown);
}
"""
"""A port that is free today is not what a reader should see."""


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One picture: what is opened, and how it is looked at."""

    name: str
    path: str
    theme: str = "light"
    size: tuple[int, int] = DESKTOP
    whole: bool = False
    before: Callable[[Page], None] | None = None
    """What is done on the page first."""


def ask(page: Page) -> None:
    """Ask the model in the playground, and wait for the receipt."""
    page.locator("main textarea").last.fill("Jelaskan dalam satu kalimat: apa itu nusantara?")
    page.locator("#send").click()
    page.locator("#receipt").get_by_text("Worth").wait_for()


def in_indonesian(page: Page) -> None:
    """Choose the language, which the account keeps: such a picture is the last one."""
    page.locator('footer button[name="language"][value="id"]').click()
    page.locator('html[lang="id"]').wait_for()


README = (
    Shot(name="front", path="/"),
    Shot(name="usage", path="/usage?by=model", theme="dark"),
    Shot(name="playground", path="/playground", before=ask),
    Shot(name="limits-in-the-docs", path="/docs/limits", theme="dark"),
    Shot(name="start-on-a-phone", path="/start", size=PHONE, theme="dark"),
    Shot(name="usage-on-a-phone", path="/usage", size=PHONE, before=in_indonesian),
)


def make_demo(product: Installation, browser: Browser) -> dict:
    """Sign Sari up, let her buy a plan and make keys, write what she used, and return her cookies."""
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    product.sign_up(page, ADDRESS)
    product.buy(page, "Pro")
    page.goto(f"{product.url}/start")
    for name in KEYS:
        page.goto(f"{product.url}/keys/new")
        page.locator("#name").fill(name)
        page.locator("main form button.button").last.click()
        page.locator("#new-key").wait_for()
    page.goto(f"{product.url}/keys")
    page.get_by_role("link", name="Revoke old laptop").click()
    page.get_by_role("button", name="Revoke the key").click()
    # The browser's driver has the event loop of this thread.
    with ThreadPoolExecutor(1) as another:
        another.submit(lambda: asyncio.run(write_usage(product.database_url))).result()
    state = context.storage_state()
    context.close()
    return state


async def write_usage(database_url: str) -> None:
    """Write a month and a half of usage for the demo account."""
    connection = await asyncpg.connect(database_url)
    account_id = await connection.fetchval("SELECT account_id FROM person WHERE email = $1", ADDRESS)
    now = datetime.now(UTC)
    async with connection.transaction():
        for month in range(3):
            await connection.execute(
                "SELECT ensure_ledger_partitions($1::timestamptz - $2 * interval '1 month', 1)", now, month
            )
        for statement in DEMO.read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                wanted = [value for name, value in (("$1", now), ("$2", account_id)) if name in statement]
                text = statement if "$1" in statement else statement.replace("$2", "$1")
                await connection.execute(text, *wanted)
    await connection.close()


def take(browser: Browser, product: Installation, state: dict | None, shot: Shot, file: Path) -> None:
    """Open a page and write its picture."""
    width, height = shot.size
    context = browser.new_context(
        storage_state=state,
        viewport={"width": width, "height": height},
        device_scale_factor=1.5 if shot.size == PHONE and not shot.whole else 1,
        color_scheme=shot.theme,
        locale="en-GB",
        timezone_id="Asia/Jakarta",
        reduced_motion="reduce",
    )
    page = context.new_page()
    arrive(page, product.url + shot.path)
    if shot.before is not None:
        shot.before(page)
    page.evaluate(NAMED, [product.gateway_url, "https://api.example.com"])
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=file, full_page=shot.whole)
    context.close()
    if file.parent == IMAGES and file.stat().st_size > BYTES_MAX:
        raise SystemExit(f"{file.name} has more than {BYTES_MAX} bytes")


def all_shots(browser: Browser, product: Installation, state: dict) -> Iterator[Shot]:
    """Every page, as a reviewer looks at it, with what belongs to the demo account in its address."""
    from tests.browser.test_every_page import INSIDE, PUBLIC, filled  # noqa: PLC0415 - its fixtures are not wanted here

    context = browser.new_context(storage_state=state)
    page = context.new_page()
    addresses = {path: filled(page, product.url, path) for path in [*PUBLIC, *INSIDE]}
    context.close()
    for route, path in addresses.items():
        name = re.sub(r"\W+", "-", route).strip("-") or "front"
        for theme in ("light", "dark"):
            for size in (DESKTOP, PHONE):
                yield Shot(name=f"{name}-{size[0]}-{theme}", path=path, theme=theme, size=size, whole=True)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER", dest="folder")
    folder = parser.parse_args().folder
    with running() as product, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        state = make_demo(product, browser)
        public = {"/", "/login", "/signup", "/reset"}
        for shot in README if folder is None else all_shots(browser, product, state):
            target = (folder or IMAGES) / f"{shot.name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            take(browser, product, None if shot.path in public else state, shot, target)
        browser.close()


if __name__ == "__main__":
    main()
