"""The response object: what ``POST /v1/responses`` answers with, in every status it goes through.

It has every field of the product's own description of the object, and is a ``ResponseResource`` of Open
Responses at the same time. Where the two differ the former wins, so ``user`` is here too.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import UNSET

from gateway.errors import NusagateError
from gateway.responses.items import Item
from gateway.responses.request import ReasoningConfig, ResponseRequest
from gateway.responses.tools import FunctionTool, TextConfig, ToolChoice
from gateway.units import TokenCounts

ENCODER: Final = msgspec.json.Encoder()


class MalformedUpstreamAnswer(NusagateError):
    """The model's server sent an answer that cannot be read."""

    code = "upstream_error"


class ResponseStatus(StrEnum):
    """Where a response is in its life."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class IncompleteReason(StrEnum):
    """Why a response stopped before its end."""

    MAX_OUTPUT_TOKENS = "max_output_tokens"
    CONTENT_FILTER = "content_filter"


class IncompleteDetails(msgspec.Struct, frozen=True, gc=False):
    """The reason of an incomplete response; upstreams may have others than ``IncompleteReason``."""

    reason: str


class ResponseError(msgspec.Struct, frozen=True, gc=False):
    """Why a response failed; ``code`` is one of this API's stable error codes."""

    code: str
    message: str


UPSTREAM_FAILED: Final = ResponseError("upstream_error", "The model's server failed while it answered.")


class InputTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Input tokens by kind; ``cached_tokens`` are counted among ``text_tokens``."""

    cached_tokens: int
    text_tokens: int
    audio_tokens: int


class OutputTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Output tokens by kind, each in one of them only."""

    reasoning_tokens: int
    text_tokens: int
    audio_tokens: int


class Usage(msgspec.Struct, frozen=True, gc=False):
    """The tokens of one response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseObject(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The whole object; times are Unix seconds, and ``usage`` is null until it ended."""

    id: str
    object: str = "response"
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: Sequence[Item] = ()
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningConfig
    store: bool
    temperature: float
    text: TextConfig
    tool_choice: ToolChoice
    tools: Sequence[FunctionTool]
    top_p: float
    top_logprobs: int
    presence_penalty: float
    frequency_penalty: float
    truncation: str
    service_tier: str = "default"
    safety_identifier: str | None
    prompt_cache_key: str | None
    usage: Usage | None = None
    user: str | None
    metadata: dict[str, str]


class Answer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a model's answer came out, whatever its server speaks.

    ``raw_usage`` is the server's own usage block for ``gateway.metering.usage`` to read, or ``UNSET`` when
    there was none; ``upstream_error`` is the server's own error, for the log and not for the caller;
    ``delivered_text_bytes`` are the UTF-8 bytes of all that the model wrote.
    """

    output: tuple[Item, ...]
    status: ResponseStatus
    incomplete_reason: str | None = None
    raw_usage: object = UNSET
    upstream_error: object = None
    delivered_text_bytes: int = 0


def new_response(
    request: ResponseRequest, *, response_id: str, created_at: int, default_temperature: float
) -> ResponseObject:
    """Make the object of a request that is being answered; ``created_at`` is in Unix seconds."""
    return ResponseObject(
        id=response_id,
        created_at=created_at,
        status=ResponseStatus.IN_PROGRESS,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=request.model,
        parallel_tool_calls=request.parallel_tool_calls,
        previous_response_id=request.previous_response_id,
        reasoning=request.reasoning,
        store=request.store,
        temperature=default_temperature if request.temperature is None else request.temperature,
        text=request.text,
        tool_choice=request.tool_choice,
        tools=request.tools,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        truncation=request.truncation,
        safety_identifier=request.safety_identifier,
        prompt_cache_key=request.prompt_cache_key,
        user=request.user,
        metadata=request.metadata,
    )


def end_response(
    draft: ResponseObject,
    answer: Answer,
    usage: TokenCounts | None,
    *,
    completed_at: int,
    stored: bool,
    error: ResponseError | None = None,
) -> ResponseObject:
    """Put an answer into the object of its request.

    An ``error`` of the gateway's own, or one of the upstream's in the answer, makes it a failed response.
    ``completed_at`` is in Unix seconds and shown only where the answer is complete.
    """
    if error is None and answer.status is ResponseStatus.FAILED:
        error = UPSTREAM_FAILED
    status = answer.status if error is None else ResponseStatus.FAILED
    reason = answer.incomplete_reason if status is ResponseStatus.INCOMPLETE else None
    return msgspec.structs.replace(
        draft,
        status=status,
        completed_at=completed_at if status is ResponseStatus.COMPLETED else None,
        error=error,
        incomplete_details=None if reason is None else IncompleteDetails(reason),
        output=answer.output,
        store=stored,
        usage=None if usage is None else usage_block(usage),
    )


def usage_block(counts: TokenCounts) -> Usage:
    """Write token counts as the API shows them."""
    return Usage(
        input_tokens=counts.input_total,
        input_tokens_details=InputTokensDetails(
            cached_tokens=counts.input_cached,
            text_tokens=counts.input_text + counts.input_cached,
            audio_tokens=counts.input_audio,
        ),
        output_tokens=counts.output_total,
        output_tokens_details=OutputTokensDetails(
            reasoning_tokens=counts.output_reasoning,
            text_tokens=counts.output_text,
            audio_tokens=counts.output_audio,
        ),
        total_tokens=counts.total,
    )
