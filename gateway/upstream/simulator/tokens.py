"""The simulator's tokenizer and what it has to say: simple enough that a test can count in its head."""

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import cycle, islice

from gateway.units import ceil_div

TOKENS_PER_ITEM = 3
BYTES_PER_TOKEN = 4
DEFAULT_OUTPUT_TOKENS = 24

WORD = re.compile(r"\s*\S+")

ENGLISH = (
    "Hello from the simulated model behind Nusagate!",
    "Every word you read here is counted as exactly one token.",
    "The gateway reserved room for this answer before it asked me.",
    "When my last word is sent, the ledger already knows the bill.",
    "Ask me anything; I will always answer kindly and never run out of patience.",
)
INDONESIAN = (
    "Halo dari model simulasi di balik Nusagate!",
    "Setiap kata yang Anda baca di sini dihitung tepat satu token.",
    "Gerbang ini sudah menyisihkan kuota sebelum bertanya kepada saya.",
    "Saat kata terakhir terkirim, buku besar sudah mencatat semuanya.",
    "Silakan bertanya apa saja; saya selalu menjawab dengan ramah dan sabar.",
)
COMMON_INDONESIAN = (
    "ada adalah aku anda apa apakah bagaimana bahasa bantu berapa buat buatkan bisa cara cerita dalam dan dari "
    "dengan di halo hai ini itu jelaskan kamu kapan kenapa ke kita mana mengapa pagi saya sebutkan selamat "
    "siapa siang terima tidak tolong tulis tuliskan untuk yang"
)
INDONESIAN_WORDS = frozenset(COMMON_INDONESIAN.split())


def count_input(items: Iterable[str]) -> int:
    """Count what a request costs to read: per item 3 tokens, and one for every 4 bytes of its UTF-8 text."""
    return sum(TOKENS_PER_ITEM + ceil_div(len(text.encode()), BYTES_PER_TOKEN) for text in items)


def split_words(text: str) -> list[str]:
    """Cut a text into output tokens: words, each with the space before it."""
    return WORD.findall(text)


def compose(prompt: str, tokens: int | None) -> list[str]:
    """Write an answer of so many tokens; without a number, whole sentences of at least 24 tokens in all."""
    sentences = _sentences(prompt)
    words: list[str] = []
    if tokens is not None:
        return list(islice(_words(sentences), tokens))
    while len(words) < DEFAULT_OUTPUT_TOKENS:
        words.extend(_spaced(next(sentences), is_first=not words))
    return words


def _sentences(prompt: str) -> Iterator[str]:
    """Greet in the language of the prompt, then go on with the rest, beginning somewhere that depends on it."""
    spoken = set(re.findall(r"[a-z]+", prompt.lower()))
    greeting, *others = INDONESIAN if spoken & INDONESIAN_WORDS else ENGLISH
    start = zlib.crc32(prompt.encode()) % len(others)
    yield greeting
    yield from cycle(others[start:] + others[:start])


def _words(sentences: Iterator[str]) -> Iterator[str]:
    for number, sentence in enumerate(sentences):
        yield from _spaced(sentence, is_first=number == 0)


def _spaced(sentence: str, *, is_first: bool) -> list[str]:
    return split_words(sentence if is_first else f" {sentence}")
