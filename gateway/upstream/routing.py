"""Which upstream of a model answers: the first, in the operator's order, that a connection can be made to."""

from collections.abc import Callable

import msgspec

from gateway.upstream.catalogue import Model, Upstream
from gateway.upstream.client import UpstreamAnswer, UpstreamClient
from gateway.upstream.errors import UpstreamUnreachable


class UpstreamCall(msgspec.Struct, frozen=True):
    """What to send to one upstream: a path below its address, the body, and what the answer may be."""

    path: str
    body: bytes
    accept: str


class OpenedAnswer(msgspec.Struct, frozen=True):
    """An answer and the upstream that gives it."""

    upstream: Upstream
    answer: UpstreamAnswer


async def open_first(
    client: UpstreamClient,
    model: Model,
    prepare: Callable[[Upstream], UpstreamCall],
    *,
    request_id: str,
    total_timeout_s: float,
) -> OpenedAnswer:
    """Open the call at the model's first reachable upstream; the caller closes the answer.

    The next upstream is tried only after ``UpstreamUnreachable``, when nothing was sent, so no request is
    ever served twice. Every other error, and the last ``UpstreamUnreachable``, goes to the caller.
    """
    unreachable: UpstreamUnreachable | None = None
    for upstream in model.upstreams:
        call = prepare(upstream)
        try:
            answer = await client.open(
                upstream,
                call.path,
                call.body,
                request_id=request_id,
                accept=call.accept,
                total_timeout_s=total_timeout_s,
            )
        except UpstreamUnreachable as error:
            unreachable = error
            continue
        return OpenedAnswer(upstream, answer)
    raise unreachable or UpstreamUnreachable
