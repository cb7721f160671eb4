"""What of a chat stream goes out as it comes, and what is kept back until the request is recorded."""

import json

import pytest

from gateway.proxy.chat import ChatWire
from gateway.proxy.chat_request import parse_chat_request
from gateway.proxy.sse import SseSplitter

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def wire(choices):
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Halo"}],
        "n": choices,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = parse_chat_request(json.dumps(body).encode(), max_depth=64, max_choices=8)
    return ChatWire(request, model=None, granted_tokens=100)


def event(*choices, usage=None):
    return b"data: " + json.dumps({"choices": list(choices), "usage": usage}).encode() + b"\n\n"


def text(index):
    return event({"index": index, "delta": {"content": "Halo"}, "finish_reason": None})


def finish(index):
    return event({"index": index, "delta": {}, "finish_reason": "stop"})


def relayed(choices, *events):
    """Return what went out before the end, and all that did."""
    asked, splitter = wire(choices), SseSplitter(max_event_bytes=10_000)
    before = b"".join(asked.feed(one) for one in splitter.feed(b"".join(events)))
    return before, before + asked.close(None, None).last


COUNTED = event(usage=USAGE)


@pytest.mark.parametrize(
    ("choices", "written", "end"),
    [
        (1, (text(0), text(0)), (finish(0), COUNTED, DONE)),
        (1, (text(0),), (finish(0), event({"index": 0, "delta": {}}, usage=USAGE), DONE)),
        (2, (text(0), text(1), finish(0), text(1)), (finish(1), COUNTED, DONE)),
        (2, (text(0), finish(0), text(1)), (finish(1), COUNTED, DONE)),
        (2, (text(0),), (finish(0), finish(1), COUNTED, DONE)),
        (3, (text(0), text(0)), (finish(0), COUNTED, DONE)),
        (2, (event(usage=None), text(0)), (finish(0), DONE)),
    ],
    ids=[
        "one",
        "a late delta",
        "in turn",
        "one after the other",
        "both at once",
        "fewer than asked",
        "preface",
    ],
)
def test_the_end_is_kept_back_and_all_else_goes_out_in_order(choices, written, end):
    before, whole = relayed(choices, *written, *end)
    assert before == b"".join(written)
    assert whole == b"".join((*written, *end))
