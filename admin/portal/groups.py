"""The page groups of the portal, joined: each has a folder with its routes, its views and its templates."""

from collections.abc import Mapping
from pathlib import Path

from litestar.handlers import HTTPRouteHandler

from admin.portal.billing.routes import ROUTES as BILLING_ROUTES
from admin.portal.dev.routes import ROUTES as DEV_ROUTES
from admin.portal.docs.routes import ROUTES as DOCS_ROUTES
from admin.portal.entry.routes import ROUTES as ENTRY_ROUTES
from admin.portal.home.routes import ROUTES as HOME_ROUTES
from admin.portal.keys.routes import ROUTES as KEYS_ROUTES
from admin.portal.limits.routes import ROUTES as LIMITS_ROUTES
from admin.portal.playground.routes import ROUTES as PLAYGROUND_ROUTES
from admin.portal.settings.routes import ROUTES as SETTINGS_ROUTES
from admin.portal.start.routes import ROUTES as START_ROUTES
from admin.portal.usage.routes import ROUTES as USAGE_ROUTES

GROUPS: Mapping[str, list[HTTPRouteHandler]] = {
    "home": HOME_ROUTES,
    "docs": DOCS_ROUTES,
    "entry": ENTRY_ROUTES,
    "start": START_ROUTES,
    "keys": KEYS_ROUTES,
    "usage": USAGE_ROUTES,
    "limits": LIMITS_ROUTES,
    "billing": BILLING_ROUTES,
    "playground": PLAYGROUND_ROUTES,
    "settings": SETTINGS_ROUTES,
}
"""The groups that everybody's portal has."""

DEV_GROUPS: Mapping[str, list[HTTPRouteHandler]] = {"dev": DEV_ROUTES}
"""The groups of ``nusagate dev``."""


def template_folders() -> dict[str, Path]:
    """Return where each group keeps its templates."""
    here = Path(__file__).parent
    return {name: here / name / "templates" for name in (*GROUPS, *DEV_GROUPS)}
