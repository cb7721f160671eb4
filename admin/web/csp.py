"""The Content-Security-Policy as data: nothing is allowed, and every exception says why."""

import msgspec


class Source(msgspec.Struct, frozen=True):
    """One exception: what may come from where, and what for."""

    directive: str
    allowed: str
    reason: str


SOURCES = (
    Source("default-src", "'none'", "what is not listed is refused"),
    Source("script-src", "'self'", "our own ES modules, htmx and uPlot; no inline script, no eval"),
    Source("style-src", "'self'", "our own style sheets; no inline style"),
    Source("font-src", "'self'", "the one vendored font"),
    Source(
        "img-src", "'self' data:", "our icons, and the QR code of a second factor, which must not be cached"
    ),
    Source("connect-src", "'self'", "htmx asks for parts of pages"),
    Source("form-action", "'self'", "forms are sent to us only"),
    Source("base-uri", "'none'", "nobody may move our relative addresses"),
    Source("frame-ancestors", "'none'", "nobody may put a page of ours in a frame and catch its clicks"),
)


def policy(sources: tuple[Source, ...] = SOURCES) -> str:
    """Write the header."""
    return "; ".join(f"{source.directive} {source.allowed}" for source in sources)
