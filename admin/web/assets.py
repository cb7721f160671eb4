"""Style sheets, modules and vendored files, read once, checked against their manifest, and served from memory.

An asset's address carries its digest, so that a browser may keep it for ever and never shows an old one. That goes for
the font that a style sheet names, too: fetched again on every page, it would make the text jump.
"""

import hashlib
import re
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec

from gateway.errors import NusagateError

DIGEST_LENGTH = 12
NAMED = re.compile(r'url\("\.\./([a-z0-9/.-]+)"\)')
TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
}


class AssetsDamaged(NusagateError):
    """A vendored file is not the one that its manifest names."""

    code = "assets_damaged"


class Vendored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that somebody else wrote: what it is, whose, under which licence, and its digest."""

    file: str
    package: str
    version: str
    licence: str
    licence_file: str
    sha256: str


class Asset(msgspec.Struct, frozen=True):
    """One file as it is served."""

    content: bytes
    media_type: str
    digest: str


def read_manifest() -> list[Vendored]:
    """Read the manifest of vendored files."""
    text = (files("admin.web") / "static" / "vendor" / "manifest.json").read_bytes()
    return msgspec.json.decode(text, type=list[Vendored])


class Assets:
    """All assets by name, such as ``css/tokens.css``."""

    def __init__(self) -> None:
        """Read all files; ``AssetsDamaged`` where a vendored one is not what the manifest says."""
        self._assets: dict[str, Asset] = {}
        self._read(files("admin.web") / "static", "")
        for name, own in self._assets.items():
            if own.media_type == TYPES[".css"] and not name.startswith("vendor/"):
                self._assets[name] = self._with_digests(own)
        for vendored in read_manifest():
            asset = self._assets.get(f"vendor/{vendored.file}")
            if asset is None or asset.digest != vendored.sha256:
                raise AssetsDamaged(f"{vendored.file} is not the file that the manifest names.")

    def get(self, name: str) -> Asset | None:
        """Return an asset by its name."""
        return self._assets.get(name)

    def url(self, name: str) -> str:
        """Return an asset's address; ``KeyError`` for one that is not there."""
        return f"/static/{name}?v={self._assets[name].digest[:DIGEST_LENGTH]}"

    def _with_digests(self, sheet: Asset) -> Asset:
        """Write the addresses that a style sheet of ours names with their digests."""
        text = NAMED.sub(lambda found: f'url("{self.url(found[1])}")', sheet.content.decode())
        return Asset(text.encode(), sheet.media_type, hashlib.sha256(text.encode()).hexdigest())

    def _read(self, folder: Traversable, prefix: str) -> None:
        for item in folder.iterdir():
            suffix = item.name[item.name.rfind(".") :]
            if item.is_dir():
                self._read(item, f"{prefix}{item.name}/")
            elif suffix in TYPES:
                content = item.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                self._assets[f"{prefix}{item.name}"] = Asset(content, TYPES[suffix], digest)
