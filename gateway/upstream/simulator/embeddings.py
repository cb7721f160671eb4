"""The embeddings of the simulator: small vectors that depend on nothing but the text."""

import base64
import hashlib
import struct
from typing import Any

import msgspec

from gateway.errors import MissingParameter
from gateway.upstream.simulator.script import Script, UsageKind, parse_script
from gateway.upstream.simulator.tokens import count_input

DIMENSIONS = 8
BYTE_MIDDLE = 127.5


class EmbeddingPrompt(msgspec.Struct, frozen=True):
    """Texts to embed, and the directive in the last of them."""

    model: str
    texts: list[str]
    is_base64: bool
    script: Script

    @property
    def input_tokens(self) -> int:
        """What the usage claims was read."""
        claimed = self.script.input_tokens
        return count_input(self.texts) if claimed is None else claimed


def read_embeddings(body: dict[str, Any]) -> EmbeddingPrompt:
    """Read a request; ``RequestError`` naming the parameter that is missing or wrong."""
    texts = body.get("input")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise MissingParameter("input must be a string or a list of at least one string", param="input")
    is_base64 = body.get("encoding_format") == "base64"
    return EmbeddingPrompt(body["model"], texts, is_base64, parse_script(texts[-1]))


def embeddings_json(prompt: EmbeddingPrompt) -> dict[str, Any]:
    """Build the list of vectors; their usage is the truth or, for every other kind, missing."""
    tokens = prompt.input_tokens
    usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return {
        "object": "list",
        "model": prompt.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text, is_base64=prompt.is_base64)}
            for index, text in enumerate(prompt.texts)
        ],
        **(usage if prompt.script.usage is UsageKind.EXACT else {}),
    }


def _vector(text: str, *, is_base64: bool) -> str | list[float]:
    """Make eight numbers between -1 and 1, as JSON or as the little-endian floats that OpenAI's clients prefer."""
    digest = hashlib.sha256(text.encode()).digest()[:DIMENSIONS]
    numbers = [byte / BYTE_MIDDLE - 1 for byte in digest]
    if is_base64:
        return base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *numbers)).decode()
    return numbers
