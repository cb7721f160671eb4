"""The Content-Security-Policy as data: nothing is allowed, and every exception says why."""

from urllib.parse import urlsplit

import msgspec


class Source(msgspec.Struct, frozen=True):
    """One exception: what may come from where, and what for."""

    directive: str
    allowed: str
    reason: str


SOURCES = (
    Source("default-src", "'none'", "what is not listed is refused"),
    Source(
        "script-src",
        "'self'",
        "our own ES modules, and htmx, uPlot and Swagger UI; no inline script, no eval",
    ),
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

# A form that is answered with a redirect counts as sent to where the redirect leads.
STRIPE_PAGES = (
    Source("form-action", "https://checkout.stripe.com", "plans and credit are paid on a page of Stripe's"),
    Source(
        "form-action", "https://billing.stripe.com", "cards and unpaid invoices are on a page of Stripe's"
    ),
)


def payment_pages(stripe_address: str | None) -> tuple[Source, ...]:
    """List where payments are made: at Stripe, or at another address that stands in for it."""
    if stripe_address is None:
        return STRIPE_PAGES
    address = urlsplit(stripe_address)
    origin = f"{address.scheme}://{address.netloc}"
    return (Source("form-action", origin, "the pages of what stands in for Stripe on this machine"),)


def policy(sources: tuple[Source, ...] = SOURCES) -> str:
    """Write the header, the exceptions of one directive together."""
    directives: dict[str, list[str]] = {}
    for source in sources:
        directives.setdefault(source.directive, []).append(source.allowed)
    return "; ".join(f"{directive} {' '.join(allowed)}" for directive, allowed in directives.items())
