"""F31: requests that two parsers could read differently, sent byte by byte, directly and behind nginx.

Every case must be refused, or be read as the one request that it is: the model must never see a request that was
hidden in another one.
"""

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.crash.load import MODEL, Load
from tests.crash.scenario import AT_REST_S, Scenario, Trial
from tests.fakes.supervisor import free_port, status_of

PATH = "/v1/chat/completions"
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream gateway {{ server 127.0.0.1:{gateway}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_buffering off; }}
  }}
}}
"""


@dataclass(frozen=True)
class Case:
    """One raw message, and how many requests a correct reader may find in it.

    Two where the message ends cleanly, so that what follows it is an ordinary pipelined request.
    """

    name: str
    raw: bytes
    requests: int = 1


def body(marker: str) -> bytes:
    """A request's body that the simulator answers in two words."""
    return json.dumps(
        {
            "model": MODEL,
            "max_tokens": 8,
            "user": marker,
            "messages": [{"role": "user", "content": f"{marker} [[sim output=2]]"}],
        }
    ).encode()


def corpus(key: str) -> Iterator[Case]:
    """All cases: lengths, encodings, chunks, lines, names and targets that are wrong."""
    visible, hidden = body("visible"), body("hidden")
    auth = f"authorization: Bearer {key}"
    base = f"host: gateway\r\n{auth}\r\ncontent-type: application/json\r\n"
    start = f"POST {PATH} HTTP/1.1\r\n"
    inner = f"POST {PATH} HTTP/1.1\r\n{base}content-length: {len(hidden)}\r\n\r\n".encode() + hidden
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(visible), visible)

    def message(fields: str, payload: bytes, line: str = start) -> bytes:
        return f"{line}{base}{fields}\r\n".encode() + payload

    length = f"content-length: {len(visible)}\r\n"
    yield from _length_cases(message, visible, inner, length)
    yield from _encoding_cases(message, visible, inner, chunked)
    yield from _chunk_cases(message, visible, inner)
    yield from _line_cases(base, start, visible, length, inner)
    yield from _target_cases(base, visible, length, inner)


def _length_cases(message, visible, inner, length) -> Iterator[Case]:
    n = len(visible)
    values = {
        "plus": f"+{n}",
        "minus": f"-{n}",
        "hex": hex(n),
        "octal": f"0o{n:o}",
        "float": f"{n}.0",
        "exponent": f"{n}e0",
        "list of equal": f"{n}, {n}",
        "list of different": f"{n}, 0",
        "with letter": f"{n}a",
        "with space": f"{str(n)[0]} {str(n)[1:]}",
        "underscore": f"{str(n)[0]}_{str(n)[1:]}",
        "empty": "",
        "huge": "9" * 40,
        "beyond 64 bits": str(2**64 + n),
        "quoted": f'"{n}"',
        "tab inside": f"{str(n)[0]}\t{str(n)[1:]}",
        "vertical tab": f"\x0b{n}",
        "fullwidth digits": "".join(chr(0xFF10 + int(digit)) for digit in str(n)),
    }
    for name, value in values.items():
        raw = message(f"content-length: {value}\r\n", visible + inner)
        yield Case(f"length {name}", raw)
    yield Case("two lengths, different", message(f"{length}content-length: 0\r\n", visible + inner))
    yield Case("two lengths, zero first", message(f"content-length: 0\r\n{length}", visible + inner))
    yield Case("two lengths, equal", message(f"{length}{length}", visible))
    yield Case("length name with space", message(f"content-length : {n}\r\n", visible + inner))
    yield Case("length name with tab", message(f"content-length\t: {n}\r\n", visible + inner))
    yield Case("length name with underscore", message(f"content_length: {n}\r\n{length}", visible))
    yield Case("length is short", message(f"content-length: {n - 10}\r\n", visible))
    yield Case("no length, with a body", message("", visible + inner))


def _encoding_cases(message, visible, inner, chunked) -> Iterator[Case]:
    n = len(chunked)
    values = (
        "identity", "chunked, identity", "identity, chunked", "xchunked", "chunkedx", "chunked;q=1", " chunked ",
        "\tchunked", "\x0bchunked", "chunked\x00", "CHUNKED", "chunked, chunked", "gzip, chunked", "'chunked'",
        '"chunked"', "chunk", "", "chunked,", ",chunked", "x: chunked",
    )  # fmt: skip
    for value in values:
        yield Case(
            f"encoding {value!r}", message(f"transfer-encoding: {value}\r\n", chunked + inner), requests=2
        )
        with_length = f"transfer-encoding: {value}\r\ncontent-length: {n}\r\n"
        yield Case(f"length and encoding {value!r}", message(with_length, chunked + inner))
    twice = "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"
    yield Case("two encodings", message(twice, chunked + inner))
    yield Case(
        "encoding after length",
        message("content-length: 4\r\ntransfer-encoding: chunked\r\n", chunked + inner),
    )
    yield Case(
        "encoding before length",
        message("transfer-encoding: chunked\r\ncontent-length: 4\r\n", chunked + inner),
    )
    yield Case("encoding name with space", message("transfer-encoding : chunked\r\n", chunked + inner))
    yield Case("encoding name with underscore", message("transfer_encoding: chunked\r\n", chunked + inner))
    folded = "transfer-encoding:\r\n chunked\r\n"
    yield Case("encoding folded", message(folded, chunked + inner))
    yield Case(
        "encoding in another header's value",
        message("x: y\r\n\ttransfer-encoding: chunked\r\n", chunked + inner),
    )
    bare = "x: y\rtransfer-encoding: chunked\r\n"
    yield Case("encoding after a bare CR", message(bare, chunked + inner))
    yield Case(
        "encoding after a bare LF",
        message("x: y\ntransfer-encoding: chunked\r\n", chunked + inner),
        requests=2,
    )
    yield Case(
        "encoding after NUL",
        message("x: y\x00\r\ntransfer-encoding: chunked\r\n", chunked + inner),
        requests=2,
    )


def _chunk_cases(message, visible, inner) -> Iterator[Case]:
    n = len(visible)
    encoding = "transfer-encoding: chunked\r\n"
    sizes = {
        "0x": b"0x%x" % n,
        "plus": b"+%x" % n,
        "minus": b"-%x" % n,
        "underscore": b"%x_" % n,
        "leading space": b" %x" % n,
        "trailing space": b"%x " % n,
        "letter": b"%xg" % n,
        "overflow": b"1" + b"0" * 16 + b"%x" % n,
        "empty": b"",
        "negative zero": b"-0",
        "quoted": b'"%x"' % n,
    }
    for name, size in sizes.items():
        payload = size + b"\r\n" + visible + b"\r\n0\r\n\r\n"
        yield Case(f"chunk size {name}", message(encoding, payload + inner), requests=2)
    ends = {
        "LF after size": b"%x\n" % n + visible + b"\r\n0\r\n\r\n",
        "LF after data": b"%x\r\n" % n + visible + b"\n0\r\n\r\n",
        "CR after size": b"%x\r" % n + visible + b"\r\n0\r\n\r\n",
        "nothing after data": b"%x\r\n" % n + visible + b"0\r\n\r\n",
        "garbage after data": b"%x\r\n" % n + visible + b"xx0\r\n\r\n",
        "LF extension": b"%x;a\nb\r\n" % n + visible + b"\r\n0\r\n\r\n",
        "CR extension": b"%x;a\rb\r\n" % n + visible + b"\r\n0\r\n\r\n",
        "quoted extension": b'%x;a="\r\n' % n + visible + b"\r\n0\r\n\r\n",
        "last chunk LF": b"%x\r\n" % n + visible + b"\r\n0\n\n",
        "trailer with length": b"%x\r\n" % n + visible + b"\r\n0\r\ncontent-length: 5\r\n\r\n",
        "trailer with encoding": b"%x\r\n" % n + visible + b"\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
        "no last chunk": b"%x\r\n" % n + visible + b"\r\n",
        "huge extension": b"%x;%s\r\n" % (n, b"a" * 70_000) + visible + b"\r\n0\r\n\r\n",
    }
    for name, payload in ends.items():
        yield Case(f"chunk {name}", message(encoding, payload + inner), requests=2)


def _line_cases(base, start, visible, length, inner) -> Iterator[Case]:
    whole = f"{start}{base}{length}\r\n".encode() + visible
    yield Case("only LF", whole.replace(b"\r\n", b"\n"))
    yield Case("LF in the middle of the head", whole.replace(b"\r\ncontent-type", b"\ncontent-type"))
    yield Case("CR alone as line end", whole.replace(b"\r\ncontent-type", b"\rcontent-type"))
    yield Case("folded header", whole.replace(b"content-type: ", b"content-type:\r\n "))
    yield Case("header without colon", whole.replace(b"\r\n\r\n", b"\r\nnocolon\r\n\r\n", 1))
    yield Case("header name empty", whole.replace(b"\r\n\r\n", b"\r\n: x\r\n\r\n", 1))
    yield Case("header name with NUL", whole.replace(b"\r\n\r\n", b"\r\nx\x00y: z\r\n\r\n", 1))
    yield Case("header value with NUL", whole.replace(b"\r\n\r\n", b"\r\nx: y\x00z\r\n\r\n", 1))
    yield Case("space before first header", whole.replace(b"\r\nhost", b"\r\n host", 1))
    yield Case("two hosts", whole.replace(b"\r\nhost", b"\r\nhost: other\r\nhost", 1))
    yield Case("no host", whole.replace(b"host: gateway\r\n", b"", 1))
    yield Case("two authorizations", whole.replace(b"\r\nhost", b"\r\nauthorization: Bearer x\r\nhost", 1))
    yield Case("200 headers", whole.replace(b"\r\n\r\n", b"\r\n" + b"x: y\r\n" * 200 + b"\r\n", 1))
    yield Case("40 KB header", whole.replace(b"\r\n\r\n", b"\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 1))
    yield Case("empty lines first", b"\r\n\r\n" + whole)
    yield Case("pipelined", whole + inner, requests=2)
    yield Case("expect: nonsense", whole.replace(b"\r\n\r\n", b"\r\nexpect: 200-maybe\r\n\r\n", 1))
    yield Case(
        "upgrade to h2c", whole.replace(b"\r\n\r\n", b"\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", 1)
    )
    yield Case(
        "connection names length", whole.replace(b"\r\n\r\n", b"\r\nconnection: content-length\r\n\r\n", 1)
    )


def _target_cases(base, visible, length, inner) -> Iterator[Case]:
    lines = {
        "no version": f"POST {PATH}\r\n",
        "version 0.9": f"POST {PATH} HTTP/0.9\r\n",
        "version 1.0": f"POST {PATH} HTTP/1.0\r\n",
        "version 2.0": f"POST {PATH} HTTP/2.0\r\n",
        "version 1.10": f"POST {PATH} HTTP/1.10\r\n",
        "lower case version": f"POST {PATH} http/1.1\r\n",
        "two spaces": f"POST  {PATH} HTTP/1.1\r\n",
        "tab": f"POST\t{PATH}\tHTTP/1.1\r\n",
        "space in target": f"POST {PATH} x HTTP/1.1\r\n",
        "absolute target": f"POST http://other{PATH} HTTP/1.1\r\n",
        "fragment": f"POST {PATH}#x HTTP/1.1\r\n",
        "NUL in target": f"POST {PATH}\x00 HTTP/1.1\r\n",
        "dot segments": "POST /v1/../v1/chat/completions HTTP/1.1\r\n",
        "lower case method": f"post {PATH} HTTP/1.1\r\n",
        "GET with a body": f"GET {PATH} HTTP/1.1\r\n",
        "HEAD with a body": f"HEAD {PATH} HTTP/1.1\r\n",
        "leading space": f" POST {PATH} HTTP/1.1\r\n",
    }
    for name, line in lines.items():
        yield Case(f"target {name}", f"{line}{base}{length}\r\n".encode() + visible + inner, requests=2)


async def smuggle(trial: Trial) -> None:
    """Send every case, and count what the model saw of it."""
    trial.traffic.stopped = True
    key = trial.traffic.accounts[0].key
    cases = list(corpus(key))
    trial.figure("cases", len(cases))
    trial.expect(len(cases) >= 60, f"only {len(cases)} cases")
    limit = asyncio.Semaphore(8)
    ports = {"direct": trial.gateway.port}
    if shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        ports["behind nginx"] = await asyncio.to_thread(_start_nginx, trial)
    for way, port in ports.items():
        for case in cases:
            async with limit:
                await _send(trial, way, port, case)
                trial.count("smuggling cases")


async def _send(trial: Trial, way: str, port: int, case: Case) -> None:
    before = trial.stand.journal_length()
    answer = await _exchange(port, case.raw)
    statuses = STATUS.findall(answer)
    served = trial.stand.journal_length() - before
    good = statuses.count(b"200")
    # What the model served, the client was told of: nothing was hidden in anything.
    trial.expect(served == good, f"{way}, {case.name}: {served} served, {good} answered ({statuses})")
    trial.expect(served <= case.requests, f"{way}, {case.name}: {served} requests in one message")
    trial.expect(bool(statuses) or not served, f"{way}, {case.name}: served without an answer")
    trial.figure("served", trial.figures.get("served", 0) + served)
    trial.figure(
        "answered 5xx", trial.figures.get("answered 5xx", 0) + sum(status >= b"500" for status in statuses)
    )


async def _exchange(port: int, raw: bytes) -> bytes:
    """Send bytes and read until the other side is done, or has nothing to say for a moment."""
    answer = b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(raw)
        while True:
            quiet_s = 0.25 if answer else 0.6
            async with asyncio.timeout(quiet_s):
                chunk = await reader.read(65_536)
            if not chunk:
                break
            answer += chunk
    writer.transport.abort()
    return answer


def _start_nginx(trial: Trial) -> int:
    folder: Path = trial.stand.folder / f"nginx{trial.rng.getrandbits(32):x}"
    folder.mkdir()
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, gateway=trial.gateway.port, port=port))
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
    process = trial.stand.supervisor.add(
        folder.name, [nginx, "-c", str(configuration), "-e", str(folder / "error.log")],
        ready=lambda: status_of(port, "/healthz") == 200,
    )  # fmt: skip
    process.start()
    return port


SCENARIOS = (
    Scenario(
        name="F31",
        says="messages that two parsers could read differently are refused or are one request",
        strike=smuggle,
        idle_s=AT_REST_S,
        load=Load(clients=0),
        accounts=(0, 1),
        full=1,
    ),
)
