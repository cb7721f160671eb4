"""The chart of usage in a real browser: drawn over its own picture, zoomed with the mouse and the keyboard, and no need."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.slow

COLOURED = """
() => {
  const canvas = document.querySelector(".plot canvas");
  const swatch = getComputedStyle(document.querySelector("[data-swatch='1']")).backgroundColor.match(/\\d+/g).map(Number);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let found = 0;
  for (let at = 0; at < pixels.length; at += 4)
    if (pixels[at] === swatch[0] && pixels[at + 1] === swatch[1] && pixels[at + 2] === swatch[2]) found += 1;
  return found;
}
"""
MEASURED = "figure, .plot, .axis-x, .table-scroll"


@pytest.fixture
def opened(installation, chromium, inside):
    """Opens the usage page of somebody with a call, in a browser that reports every fault."""
    contexts = []

    def open_page(query="", **options):
        context = chromium.new_context(
            storage_state=inside, locale="en-GB", reduced_motion="reduce", **options
        )
        watched = Watched(context)
        contexts.append(watched)
        page = watched.page()
        page.goto(f"{installation.url}/usage{query}")
        return page

    yield open_page
    for watched in contexts:
        watched.check()
        watched.context.close()


def plot_box(page) -> dict[str, float]:
    """Where the plot is, all of it in sight."""
    page.locator("[data-plot]").scroll_into_view_if_needed()
    return page.locator("[data-plot]").bounding_box()


def query_of(page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def facts_of(page) -> tuple[int, int]:
    """How many bars the chart has room for, and the place of the first one with usage."""
    return page.evaluate(
        """() => {
          const { start, end, step } = document.querySelector("[data-chart]").dataset;
          const bar = document.querySelector("[data-bar]").dataset.bar;
          return [(end - start) / step, (bar - start) / step];
        }"""
    )


def day_of(page, place: int) -> str:
    start = int(page.locator("[data-chart]").get_attribute("data-start"))
    return datetime.fromtimestamp(start + place * 86_400, UTC).date().isoformat()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_bars_have_the_colours_of_the_table(opened, theme):
    page = opened(color_scheme=theme)
    expect(page.locator(".plot canvas")).to_be_visible()
    assert page.evaluate(COLOURED) > 50


def test_nothing_moves_when_the_script_takes_over(opened):
    drawn = opened()
    expect(drawn.locator(".plot canvas")).to_be_visible()
    expect(drawn.locator(".plot .bars")).to_have_count(0)
    still = opened(java_script_enabled=False)
    assert still.locator(".plot rect").count() == 1
    boxes = [one.bounding_box() for one in still.locator(MEASURED).all()]
    assert boxes == [one.bounding_box() for one in drawn.locator(MEASURED).all()]


def test_dragging_over_days_shows_these_days(opened):
    page = opened()
    days, _ = facts_of(page)
    box = plot_box(page)
    page.mouse.move(box["x"] + box["width"] * 2.5 / days, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 9.5 / days, box["y"] + 40, steps=5)
    first, last = day_of(page, 2), day_of(page, 9)
    page.mouse.up()
    page.wait_for_url("**/usage?range=custom**")
    assert query_of(page) == {"range": "custom", "by": "model", "start": first, "end": last}
    page.go_back()
    assert query_of(page) == {}


def test_a_click_on_a_bar_shows_its_day_by_the_hour(opened):
    page = opened("?by=status")
    days, used = facts_of(page)
    day = day_of(page, used)
    box = plot_box(page)
    page.mouse.click(box["x"] + box["width"] * (used + 0.5) / days, box["y"] + 40)
    page.wait_for_url("**step=hour**")
    assert query_of(page) == {"range": "custom", "by": "status", "start": day, "end": day, "step": "hour"}
    assert facts_of(page)[0] == 24


def test_dragging_over_hours_shows_these_hours(opened):
    page = opened("?range=today")
    expect(page.locator(".plot canvas")).to_be_visible()
    box = plot_box(page)
    page.mouse.move(box["x"] + box["width"] * 3.5 / 24, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 5.5 / 24, box["y"] + 40, steps=5)
    page.mouse.up()
    page.wait_for_url("**/usage?range=custom**")
    assert [query_of(page)[name][-3:] for name in ("start", "end")] == ["T03", "T05"]


def test_the_bars_are_told_under_the_mouse(opened):
    page = opened()
    days, used = facts_of(page)
    box = plot_box(page)
    page.mouse.move(box["x"] + box["width"] * (used + 0.5) / days, box["y"] + 30)
    expect(page.locator(".tip")).to_contain_text("nusantara-base")
    page.mouse.move(box["x"], box["y"] - 60)
    expect(page.locator(".tip")).to_be_hidden()


def test_the_bars_are_walked_and_zoomed_with_the_keyboard(opened):
    page = opened()
    plot = page.get_by_role("slider")
    days, used = facts_of(page)
    plot.focus()
    expect(plot).to_have_attribute("aria-valuenow", str(used))
    page.keyboard.press("Home")
    expect(plot).to_have_attribute("aria-valuenow", "0")
    expect(page.locator(".tip")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(plot).to_have_attribute("aria-valuenow", "0")
    page.keyboard.press("End")
    expect(plot).to_have_attribute("aria-valuenow", str(days - 1))
    page.keyboard.press("Escape")
    expect(page.locator(".tip")).to_be_hidden()
    day = day_of(page, days - 1)
    page.keyboard.press("Enter")
    page.wait_for_url("**step=hour**")
    assert (query_of(page)["start"], query_of(page)["end"]) == (day, day)


def test_without_a_script_the_picture_the_table_and_the_zoom_are_there(opened):
    page = opened(java_script_enabled=False)
    assert "bars" in page.locator(".plot svg").get_attribute("aria-label")
    page.locator(".numbers summary").click()
    page.locator(".numbers tbody a").first.click()
    assert query_of(page)["step"] == "hour"
    # What was used may lie on both sides of a full hour.
    assert page.locator(".plot rect").count() in {1, 2}


def test_a_request_is_looked_up_and_its_id_is_copied(opened, installation):
    page = opened()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=installation.url)
    page.get_by_role("link", name="All requests").click()
    page.locator('a[href*="/req_"]').first.click()
    label = page.locator("#request-id").inner_text()
    assert page.url.endswith(label)
    page.locator('[data-copy="request-id"]').click()
    expect(page.locator('[data-copy="request-id"]')).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == label
    expect(page.get_by_role("heading", name="How it was counted")).to_be_visible()
