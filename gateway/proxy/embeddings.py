"""The wire of ``/v1/embeddings``: the upstream's bytes as they are, metered on input tokens."""

from typing import Any

import msgspec
from msgspec import UNSET

from gateway.errors import InvalidValue, MissingParameter, UnknownParameter
from gateway.ledger.model import Charge, EndReason
from gateway.metering.bounds import text_bytes
from gateway.metering.charge import Delivery
from gateway.metering.usage import read_chat_usage
from gateway.proxy.sse import SseEvent
from gateway.proxy.wire import Closing, Failure, MalformedAnswer
from gateway.runtime.documents import decode_document
from gateway.upstream.catalogue import Model, Upstream
from gateway.upstream.routing import UpstreamCall

PATH = "/embeddings"
PASSED_ON = frozenset({"model", "input", "encoding_format", "dimensions"})
KEPT_HERE = frozenset({"user"})
INPUTS_MAX = 2_048
USER_MAX_CHARACTERS = 512
BYTES_PER_GIVEN_TOKEN = 8
"""Input may come as token numbers; a token stands for fewer bytes than this in any text, so the bound holds."""


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request."""

    model: str
    user: str | None
    body: dict[str, Any]

    @property
    def prompt_bytes(self) -> int:
        """Bytes of everything that is embedded."""
        given = self.body["input"]
        return text_bytes(given) + BYTES_PER_GIVEN_TOKEN * _count_tokens(given)


class _Answer(msgspec.Struct):
    data: list[Any]
    usage: Any = UNSET


DECODER = msgspec.json.Decoder(_Answer)


def parse_embeddings_request(content: bytes, *, max_depth: int) -> EmbeddingsRequest:
    """Read and check a request body; raises the error that names the field."""
    body = decode_document(content, max_depth=max_depth)
    for name in body:
        if name not in PASSED_ON and name not in KEPT_HERE:
            raise UnknownParameter(f"Unknown parameter: {name!r}.", param=name)
    for name in ("model", "input"):
        if body.get(name) is None:
            raise MissingParameter(f"Missing required parameter: {name!r}.", param=name)
    for name in ("model", "user"):
        value = body.get(name)
        if value is not None and not (isinstance(value, str) and 1 <= len(value) <= USER_MAX_CHARACTERS):
            raise InvalidValue(
                f"{name!r} must be a string of 1 to {USER_MAX_CHARACTERS} characters.", param=name
            )
    _check_input(body["input"])
    return EmbeddingsRequest(model=body["model"], user=body.get("user"), body=body)


class EmbeddingsWire:
    """One embeddings request; see ``gateway.proxy.wire.Wire``. It never streams."""

    stream = False
    complete = False

    def __init__(self, request: EmbeddingsRequest, model: Model) -> None:
        self._request = request
        self._model = model
        self._usage: object = UNSET
        self._body = b""

    def prepare(self, _upstream: Upstream) -> UpstreamCall:
        """Write the request for an upstream."""
        body = {name: value for name, value in self._request.body.items() if name in PASSED_ON}
        body["model"] = self._model.upstream_model
        return UpstreamCall(PATH, msgspec.json.encode(body), "application/json")

    def open(self) -> bytes:
        """Nothing: it never streams."""
        return b""

    def feed(self, _event: SseEvent) -> bytes:
        """Nothing: it never streams."""
        return b""

    def take_body(self, body: bytes) -> None:
        """Read the answer; it is passed on byte for byte."""
        try:
            answer = DECODER.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedAnswer from error
        self._usage = answer.usage
        self._body = body

    def ending(self) -> EndReason:
        """There is only one good ending."""
        return EndReason.COMPLETED

    def delivery(self) -> Delivery:
        """What the upstream reported; vectors have no output tokens."""
        return Delivery(reading=read_chat_usage(self._usage, output_expected=False), delivered_bytes=0)

    def texts(self) -> tuple[str, str]:
        """What was embedded, for an upstream that counts tokens."""
        given = self._request.body["input"]
        return (
            given if isinstance(given, str) else "\n".join(text for text in given if isinstance(text, str))
        ), ""

    def close(self, _charged: Charge | None, _failure: Failure | None) -> Closing:
        """The upstream's answer."""
        return Closing(self._body)


def _check_input(given: object) -> None:
    if isinstance(given, str) and given:
        return
    if not isinstance(given, list) or not 1 <= len(given) <= INPUTS_MAX:
        raise InvalidValue(f"'input' must be a text or an array of 1 to {INPUTS_MAX:,} texts.", param="input")
    if all(type(token) is int for token in given):
        return
    for index, item in enumerate(given):
        is_text = isinstance(item, str) and bool(item)
        is_tokens = isinstance(item, list) and bool(item) and all(type(token) is int for token in item)
        if not is_text and not is_tokens:
            path = f"input[{index}]"
            raise InvalidValue(f"{path!r} must be a text or an array of token numbers.", param=path)


def _count_tokens(given: object) -> int:
    if not isinstance(given, list):
        return 0
    return sum(_count_tokens(item) if isinstance(item, list) else type(item) is int for item in given)
