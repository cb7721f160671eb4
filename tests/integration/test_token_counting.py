"""Asking an upstream how many tokens a text is: a count is taken, and anything else is no count."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from gateway.upstream.catalogue import Dialect, Upstream
from gateway.upstream.client import UpstreamClient

PATH = "/extras/tokenize/count"


class Counter(BaseHTTPRequestHandler):
    """Answers what the test says, and remembers what it was asked."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments):
        """Say nothing on the terminal of the tests."""


@pytest.fixture
def counter():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    server.asked, server.answer = [], (200, b'{"count": 7}')
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def count(counter):
    client = UpstreamClient.create()

    async def ask(text, *, path=PATH):
        upstream = Upstream(
            name="local",
            base_url=f"http://127.0.0.1:{counter.server_port}/v1",
            dialect=Dialect.CHAT,
            api_key=None,
            connect_timeout_s=30,
            first_byte_timeout_s=30,
            idle_timeout_s=30,
            token_count_path=path,
        )
        return await client.count_tokens(upstream, text, request_id="req_1")

    yield ask
    await client.close()


async def test_an_upstream_is_asked_beside_its_api_and_its_count_is_taken(counter, count):
    assert await count("Selamat pagi") == 7
    assert counter.asked == [(PATH, {"input": "Selamat pagi"})]


async def test_an_upstream_without_a_counter_is_not_asked(counter, count):
    assert await count("Selamat pagi", path=None) is None
    assert counter.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        b'{"count": -1}',
        b'{"count": 1.5}',
        b'{"count": "7"}',
        b'{"count": 67108865}',
        b'{"count": null}',
        b"{}",
        b"[7]",
        b"seven",
        b"",
        b'{"count": 7, "more": %b%b}' % (b"[" * 2000, b"]" * 2000),
    ],
)
async def test_nonsense_is_no_count(counter, count, answer):
    counter.answer = (200, answer)
    assert await count("Selamat pagi") is None


async def test_an_error_is_no_count_even_if_it_holds_a_number(counter, count):
    counter.answer = (500, b'{"count": 7}')
    assert await count("Selamat pagi") is None
