"""Opens the portal in the browser of whoever started everything, where there is a screen to open it on."""

import sys
import webbrowser
from collections.abc import Mapping

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
REMOTE = "SSH_CONNECTION"


def has_screen(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Tell whether a window would be seen: not over SSH, and on Linux only where a display is named.

    Without this a browser for terminals would take over the one that the command runs in.
    """
    if platform in {"darwin", "win32"}:
        return REMOTE not in environ
    return any(environ.get(name) for name in SCREENS)


def open_page(url: str, environ: Mapping[str, str]) -> bool:
    """Open a page if there is a screen; ``False`` where there is none or no browser could be started."""
    if not has_screen(environ):
        return False
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False
