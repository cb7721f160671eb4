"""Every split of a stream gives the events of the stream."""

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.proxy.sse import SseEvent, SseSplitter

MAX_EVENT_BYTES = 1 << 21
NOTHING = (None, None)

line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
texts = st.text(max_size=12).map(lambda text: text.encode())
lines = st.one_of(
    st.sampled_from(
        [b"", b"data", b"data:", b"data: ", b": note", b"event: name", b"event", b"id: 1", b"\xef\xbb\xbf"]
    ),
    texts.map(lambda text: b"data: " + text),
    texts.map(lambda text: b"data:" + text),
    texts.map(lambda text: b"event: " + text),
    texts,
)
written_streams = st.builds(
    lambda mark, pieces: mark + b"".join(pieces),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.one_of(lines, line_ends, st.builds(bytes.__add__, lines, line_ends)), max_size=30),
)
noise = st.lists(
    st.sampled_from([b"\r", b"\n", b"d", b"data:", b" ", b":", b"\xef\xbb\xbf"]), max_size=20
).map(b"".join)
frames = st.lists(texts.map(lambda text: b"data: " + text + b"\n\n"), max_size=10).map(b"".join)
streams = st.one_of(written_streams, noise, frames, st.binary(max_size=60))


@st.composite
def split_streams(draw):
    stream = draw(streams)
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def run(chunks) -> tuple[list[SseEvent], bytes]:
    splitter = SseSplitter(max_event_bytes=MAX_EVENT_BYTES)
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.finish()


def contents(events: list[SseEvent]) -> list[tuple[bytes | None, bytes | None]]:
    """Leave out events without name and data: where blank lines and comments are cut means nothing."""
    return [(event.name, event.data) for event in events if (event.name, event.data) != NOTHING]


def lines_of(stream: bytes) -> list[bytes]:
    """Return the lines that have an end, byte by byte."""
    found, line, position = [], b"", 0
    while position < len(stream):
        byte = stream[position : position + 1]
        position += 1
        if byte not in (b"\r", b"\n"):
            line += byte
            continue
        if byte == b"\r" and stream[position : position + 1] == b"\n":
            position += 1
        found.append(line)
        line = b""
    return found


def read_slowly(stream: bytes) -> list[tuple[bytes | None, bytes | None]]:
    """Read a whole stream by the letter of the standard."""
    if stream[:3] == b"\xef\xbb\xbf":
        stream = stream[3:]
    events, name, data = [], b"", None
    for line in lines_of(stream):
        if line == b"":
            events.append((name or None, data))
            name, data = b"", None
            continue
        colon = line.find(b":")
        field, value = (line, b"") if colon < 0 else (line[:colon], line[colon + 1 :])
        if value[:1] == b" ":
            value = value[1:]
        if field == b"event":
            name = value
        elif field == b"data":
            data = value if data is None else data + b"\n" + value
    return [event for event in events if event != NOTHING]


@given(split_streams())
@example([b"data: 1\r\n\r", b"\ndata: 2\r\n\r", b"\n"])
@example([b"data: 1\r", b"\n", b"\r", b"\n", b"data: 2\n\n"])
@example([b"\xef", b"\xbb", b"\xbf", b"data: 1\n", b"\n"])
@example([b"", b"data: \xf0\x9f", b"", b"\x87\xae\n", b"\n"])
def test_any_split_reads_as_the_standard_says(chunks):
    events, _ = run(chunks)
    assert contents(events) == read_slowly(b"".join(chunks))


@given(split_streams())
def test_no_byte_is_lost_added_or_moved(chunks):
    events, left_over = run(chunks)
    assert b"".join(event.raw for event in events) + left_over == b"".join(chunks)


@given(streams)
def test_one_byte_at_a_time_is_a_split_too(stream):
    events, left_over = run([stream[i : i + 1] for i in range(len(stream))])
    assert contents(events) == read_slowly(stream)
    assert b"".join(event.raw for event in events) + left_over == stream


@given(streams, st.sampled_from([1, 2, 3]))
def test_what_is_left_over_never_holds_a_whole_event(stream, chunk_bytes):
    chunks = [stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes)]
    _, left_over = run(chunks)
    assert read_slowly(b":\n" + left_over) == []


@given(st.integers(1 << 19, 1 << 20), st.integers(500, 70_000), line_ends, st.sampled_from(["x", "é", "🇮🇩"]))
def test_a_huge_line_survives_any_chunk_size(size, chunk_bytes, line_end, letter):
    text = letter.encode() * (size // len(letter.encode()))
    stream = b"data: 1\n\nevent: big\ndata: " + text + line_end * 2 + b"data: 2\n\n"
    events, _ = run([stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes)])
    assert contents(events) == [(None, b"1"), (b"big", text), (None, b"2")]
