"""The two languages: English is what the code says, Indonesian is a Babel catalogue, checked for gaps by a test."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from io import BytesIO

from babel.messages.pofile import read_po

from admin.access.model import Language

DEFAULT = Language.ENGLISH
CATALOGUE = "locale/id/nusagate.po"
ACCEPT_LENGTH_MAX = 200

Gettext = Callable[[str], str]


def mark(text: str) -> str:
    """Mark a sentence for the catalogue where it stands, to be translated where it is shown."""
    return text


class Translator:
    """Says sentences in one language; what is not in the catalogue is said in English."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._sentences: dict[str, tuple[str, ...]] = {}
        if language is Language.INDONESIAN:
            self._sentences = read_catalogue()

    def gettext(self, text: str) -> str:
        """Say a sentence."""
        return self._sentences.get(text, (text,))[0]

    def ngettext(self, singular: str, plural: str, count: int) -> str:
        """Say a sentence about a number of things; Indonesian has one form for all numbers."""
        known = self._sentences.get(singular)
        if known is not None:
            return known[0]
        return singular if count == 1 else plural


@cache
def read_catalogue() -> dict[str, tuple[str, ...]]:
    """Read the Indonesian sentences by the English ones."""
    catalogue = read_po(BytesIO((files("admin.web") / CATALOGUE).read_bytes()), locale="id")
    sentences: dict[str, tuple[str, ...]] = {}
    for message in catalogue:
        if not message.id or not message.string or message.fuzzy:
            continue
        key = message.id if isinstance(message.id, str) else message.id[0]
        sentences[key] = (message.string,) if isinstance(message.string, str) else tuple(message.string)
    return sentences


@cache
def translator_of(language: Language) -> Translator:
    """Return the one translator of a language."""
    return Translator(language)


def gettext_of(language: Language) -> Gettext:
    """Return the function that says sentences in a language."""
    return translator_of(language).gettext


def preferred(accept_language: str | None) -> Language:
    """Choose the language that a browser likes best, from its ``Accept-Language``."""
    ranked = []
    for place, part in enumerate((accept_language or "")[:ACCEPT_LENGTH_MAX].split(",")):
        tag, _, quality = part.strip().partition(";q=")
        # "in" is what old systems call Indonesian.
        language = {"id": Language.INDONESIAN, "in": Language.INDONESIAN, "en": Language.ENGLISH}.get(
            tag.strip()[:2].lower()
        )
        if language is not None:
            ranked.append((-_quality(quality), place, language))
    return min(ranked)[2] if ranked else DEFAULT


def _quality(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0
