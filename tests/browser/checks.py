"""What is looked at on every page: accessibility, policy, forms, jumps, and width. One line for each fault."""

import json
from pathlib import Path

VENDOR = Path(__file__).parent / "vendor"
AXE = (VENDOR / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast", "link-in-text-block"]
"""What can differ between the themes, which are the same document with other colours."""

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    const moved = entry.sources.map((source) => source.node?.parentElement?.outerHTML.slice(0, 120));
    window.shifts.push(`moved by ${entry.value}: ${moved}`);
  }
}).observe({ type: "layout-shift", buffered: true });
"""
"""Runs before every page: keeps the violations of the policy, and what moved without anybody having touched it."""

FORGEABLE = """
[...document.querySelectorAll("form")]
  .filter((form) => form.method === "post" && !/^[0-9a-f]{64}$/.test(form.elements.csrf?.value ?? ""))
  .map((form) => `form without its token: ${form.action}`)
"""

WIDE = """
(() => {
  const page = document.documentElement, width = page.clientWidth;
  if (page.scrollWidth <= width) return [];
  const inScroller = (element) => element.parentElement && (
    getComputedStyle(element.parentElement).overflowX !== "visible" || inScroller(element.parentElement));
  const wide = [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > width + 0.5 && !inScroller(element));
  return [`${page.scrollWidth} wide at ${width}: ${wide.slice(0, 3).map((element) => element.outerHTML.slice(0, 120))}`];
})()
"""

PHONE, TWICE, DESKTOP = 320, 640, 1280
HEIGHT = 800


OK, NOT_FOUND, GONE = 200, 404, 410
REFUSING = {"/nothing": NOT_FOUND, "/verify?token=guessed": GONE}
"""The addresses that are looked at because of what they refuse; a page of an error has no fault of its own to be seen by."""


def arrive(page, url: str) -> None:
    """Open a page, and see that it is the one and not a page of an error; where a script puts the content, it is there."""
    status = page.goto(url).status
    expected = next((refusal for end, refusal in REFUSING.items() if url.endswith(end)), OK)
    assert status == expected, f"{url} answers {status}"
    if page.locator("#explorer").count():
        page.locator(".opblock").first.wait_for()


def accessibility_faults(page, rules: list[str] = RULES) -> list[str]:
    """What axe finds."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(f"axe.run(document, {{runOnly: {json.dumps(rules)}, resultTypes: ['violations']}})")
    return [
        f"{fault['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]


def width_faults(page) -> list[str]:
    """What makes a page scroll sideways: on a phone, at twice its size, and with letters twice as large."""
    found = []
    for width in (PHONE, TWICE):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        found += page.evaluate(WIDE)
    page.set_viewport_size({"width": DESKTOP, "height": HEIGHT})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    found += [f"letters twice as large: {fault}" for fault in page.evaluate(WIDE)]
    page.evaluate("document.documentElement.style.fontSize = ''")
    return found


def _choose(page, theme: str) -> None:
    """Show a theme; it is there, and whatever moved has been told, once a frame was drawn."""
    page.emulate_media(color_scheme=theme)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def faults(page) -> list[str]:
    """Everything that is wrong with the page as it stands; what depends on colours, in both themes."""
    _choose(page, "light")
    found = [*accessibility_faults(page), *page.evaluate(FORGEABLE)]
    _choose(page, "dark")
    found += [f"in the dark: {fault}" for fault in accessibility_faults(page, COLOURS)]
    return [*found, *page.evaluate("window.violations.splice(0)"), *page.evaluate("window.shifts.splice(0)")]
