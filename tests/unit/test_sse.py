"""The splitter on streams one can read."""

import pytest

from gateway.proxy.sse import SseEvent, SseEventTooLarge, SseSplitter


def split(*chunks: bytes, max_event_bytes: int = 1000) -> list[SseEvent]:
    splitter = SseSplitter(max_event_bytes=max_event_bytes)
    return [event for chunk in chunks for event in splitter.feed(chunk)]


def test_a_chat_stream_becomes_its_frames():
    assert split(b'data: {"a":1}\n\ndata: [DONE]\n\n') == [
        SseEvent(b'data: {"a":1}\n\n', None, b'{"a":1}'),
        SseEvent(b"data: [DONE]\n\n", None, b"[DONE]"),
    ]


def test_a_responses_event_has_a_name():
    raw = b"event: response.created\ndata: {}\n\n"
    assert split(raw) == [SseEvent(raw, b"response.created", b"{}")]


@pytest.mark.parametrize(
    ("raw", "name", "data"),
    [
        (b"data:x\n\n", None, b"x"),
        (b"data:  x\n\n", None, b" x"),
        (b"data\n\n", None, b""),
        (b"data: \n\n", None, b""),
        (b"data: a\ndata: b\n\n", None, b"a\nb"),
        (b"data: a\rdata: b\r\r", None, b"a\nb"),
        (b"data: a\r\ndata: b\r\n\r\n", None, b"a\nb"),
        (b"data: a\rdata: b\n\r\n", None, b"a\nb"),
        (b"data: a\rdata: b\n\n", None, b"a\nb"),
        (b": keep-alive\n\n", None, None),
        (b"id: 7\nretry: 10\nnonsense: 1\n\n", None, None),
        (b"event: a\nevent: b\ndata: x\n\n", b"b", b"x"),
        (b"event:\ndata: x\n\n", None, b"x"),
        (b"\n\ndata: x\n\n", None, b"x"),
        (b"\xef\xbb\xbfdata: x\n\n", None, b"x"),
        (b"data: a:b: c\n\n", None, b"a:b: c"),
        (b"Data: x\n\n", None, None),
    ],
)
def test_fields_are_read_as_the_standard_says(raw, name, data):
    events = split(raw)
    assert b"".join(event.raw for event in events) == raw
    assert (events[-1].name, events[-1].data) == (name, data)


def test_a_byte_order_mark_counts_only_at_the_start_of_the_stream():
    events = split(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n")
    assert [event.data for event in events] == [b"1", None]


def test_an_event_is_handed_out_at_its_blank_line_even_if_a_line_feed_may_follow():
    splitter = SseSplitter(max_event_bytes=1000)
    assert splitter.feed(b"data: 1\r\n\r") == [SseEvent(b"data: 1\r\n\r", None, b"1")]
    assert splitter.feed(b"\ndata: 2\r\n\r\n") == [SseEvent(b"\ndata: 2\r\n\r\n", None, b"2")]


def test_an_event_cut_off_by_the_end_is_left_over():
    splitter = SseSplitter(max_event_bytes=1000)
    assert [event.data for event in splitter.feed(b"data: 1\n\ndata: 2\n")] == [b"1"]
    assert splitter.finish() == b"data: 2\n"
    assert splitter.finish() == b""


def test_an_event_of_exactly_the_limit_passes():
    assert len(split(b"data: 1234\n\n", max_event_bytes=12)) == 1


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: 12345\n\n"],
        [b"data: 12345\r\r"],
        [b"data: 1", b"2345\n\n"],
        [b"data: 1234567890"],
        [b"data", b": 12345678"],
    ],
)
def test_an_event_above_the_limit_is_an_upstream_error(chunks):
    with pytest.raises(SseEventTooLarge) as raised:
        split(*chunks, max_event_bytes=12)
    assert raised.value.code == "upstream_error"


def test_the_limit_is_for_one_event_not_for_the_stream():
    assert len(split(b"data: 1\n\n" * 100, max_event_bytes=12)) == 100


@pytest.mark.parametrize("chunk_bytes", [1, 1024, 1 << 21])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_line_of_a_megabyte_arrives_whole(chunk_bytes, end):
    text = b"x" * (1 << 16 if chunk_bytes == 1 else 1 << 20)
    stream = b"data: " + text + end
    chunks = (stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes))
    assert [event.data for event in split(*chunks, max_event_bytes=1 << 21) if event.data] == [text]
