"""Style sheets, modules and vendored files, read once, checked against their manifest, and served from memory.

An asset's address carries its digest, so that a browser may keep it for ever and never shows an old one. That goes for
the font that a style sheet names, too: fetched again on every page, it would make the text jump.
"""

import gzip
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
    ".txt": "text/plain",
}
PACKED_FROM_BYTES = 1_024


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

    @property
    def is_packed(self) -> bool:
        """Whether it is sent compressed to browsers that take that; a font already is."""
        return len(self.content) >= PACKED_FROM_BYTES and self.media_type != TYPES[".woff2"]


def read_manifest() -> list[Vendored]:
    """Read the manifest of vendored files."""
    text = (files("admin.web") / "static" / "vendor" / "manifest.json").read_bytes()
    return msgspec.json.decode(text, type=list[Vendored])


class Assets:
    """All assets by name, such as ``css/tokens.css``."""

    def __init__(self) -> None:
        """Read all files; ``AssetsDamaged`` where a vendored one is not what the manifest says."""
        self._assets: dict[str, Asset] = {}
        self._packed: dict[str, bytes] = {}
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

    def packed(self, name: str) -> bytes:
        """Return an asset compressed with gzip: once, when it is first asked for. ``KeyError`` for one that is not there.

        Assets are the same for everybody, so their length tells nobody anything; pages are not sent like this.
        """
        if name not in self._packed:
            self._packed[name] = gzip.compress(self._assets[name].content, mtime=0)
        return self._packed[name]

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
