"""A line feed alone ends a header line for the server's parser, which no setting forbids: nothing can be hidden behind that.

What stands after it is read as the header that it looks like, by everybody who looks; so there is one request, the one that
was asked for and answered, or none.
"""

import json
import re
import socket

import pytest

from tests.http.asking import CHAT, body_of, connect, wire_bytes

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
BODY = json.dumps(body_of(CHAT, "Halo [[sim output=1]]")).encode()
HIDDEN = json.dumps(body_of(CHAT, "Halo [[sim output=2]]", user="hidden")).encode()


def exchanged(gateway, raw: bytes) -> list[int]:
    """Send a message and then nothing more; the statuses of all that was answered."""
    with connect(gateway.port) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    return [int(status) for status in STATUS.findall(answer)]


def variants(person) -> dict[str, bytes]:
    """Messages with line feeds alone, each with a whole other request behind what it announces."""
    whole = wire_bytes(person, CHAT, BODY, extra="connection: close\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    inner = wire_bytes(person, CHAT, HIDDEN)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    smuggling = head.replace(b"\r\nhost", b"\r\nx: y\ntransfer-encoding: chunked\r\nhost", 1)
    return {
        "every line": head.replace(b"\r\n", b"\n") + b"\n\n" + body + inner,
        "one line": head.replace(b"\r\ncontent-type", b"\ncontent-type") + b"\r\n\r\n" + body + inner,
        "the last line": head + b"\n\n" + body + inner,
        "an encoding behind it, and a length": smuggling + b"\r\n\r\n" + chunked + inner,
        "an encoding behind it, and a short length": re.sub(rb"content-length: \d+", b"content-length: 4", smuggling)
        + b"\r\n\r\n" + chunked + inner,
        "a length behind it": head.replace(b"\r\nhost", b"\r\nx: y\ncontent-length: 0\r\nhost", 1)
        + b"\r\n\r\n" + body + inner,
        "within a chunk's size": head.replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked")
        + b"\r\n\r\n%x\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n" + inner,
    }  # fmt: skip


NAMES = (
    "every line", "one line", "the last line", "an encoding behind it, and a length",
    "an encoding behind it, and a short length", "a length behind it", "within a chunk's size",
)  # fmt: skip


async def test_every_variant_is_tried(sari):
    assert tuple(variants(sari)) == NAMES


@pytest.mark.parametrize("name", NAMES)
async def test_no_request_hides_behind_a_line_feed(gateway, books, sari, people, name):
    statuses = exchanged(gateway, variants(sari)[name])
    await people.nothing_is_held()
    admitted = await books.requests_of(sari)
    assert len(admitted) == statuses.count(200) <= 1
    hidden = await books.db.fetchval(
        "SELECT count(*) FROM request_intent WHERE account_id = $1 AND end_user = 'hidden'", sari.account_id
    )
    assert hidden == 0


async def test_two_lengths_of_which_one_is_behind_a_line_feed_are_refused(gateway, books, sari):
    assert exchanged(gateway, variants(sari)["a length behind it"]) == [400]
    assert await books.requests_of(sari) == []
