"""Two nginx: a fixed upstream that costs next to nothing, and a plain reverse proxy that is the yardstick."""

import subprocess
from pathlib import Path
from string import Template

import msgspec

from tests.fakes.processes import ChildProcess

TEXT = (
    "Selamat pagi! Kabar saya baik, terima kasih sudah bertanya. Hari ini cuacanya cerah, jadi waktu yang tepat untuk "
    "berjalan kaki sebentar sebelum mulai bekerja. Ada yang bisa saya bantu?"
)

RESPONSE = {
    "id": "resp_0123456789abcdef0123456789abcdef0123456789abcdef",
    "object": "response",
    "created_at": 1795000000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "nusantara-base",
    "output": [
        {
            "type": "message",
            "id": "msg_0123456789abcdef0123456789abcdef",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "temperature": 0.7,
    "top_p": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "metadata": {},
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 41,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 53,
    },
}
COMPLETION = {
    "id": "chatcmpl-0123456789abcdef",
    "object": "chat.completion",
    "created": 1795000000,
    "model": "nusantara-base",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 41,
        "total_tokens": 53,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}

FRAME = Template("""\
daemon off;
master_process off;
pid $folder/$name.pid;
error_log $folder/$name.error.log crit;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
    access_log off;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_body_temp_path $folder/$name.body;
    proxy_temp_path $folder/$name.proxy;
    fastcgi_temp_path $folder/$name.fastcgi;
    uwsgi_temp_path $folder/$name.uwsgi;
    scgi_temp_path $folder/$name.scgi;
    default_type application/json;
$servers
}
""")
FIXED = Template("""\
    server {
        listen 127.0.0.1:$port backlog=4096;
        location = /v1/responses { return 200 '$response'; }
        location = /v1/chat/completions { return 200 '$completion'; }
        location = /healthz { return 200 'ok'; }
    }
""")
PROXY = Template("""\
    upstream fixed { server 127.0.0.1:$fixed_port; keepalive 512; keepalive_requests 100000000; }
    upstream streams { server 127.0.0.1:$streams_port; keepalive 512; keepalive_requests 100000000; }
    server {
        listen 127.0.0.1:$port backlog=4096;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        location = /healthz { return 200 'ok'; }
        location /v1/ { proxy_pass http://fixed; }
        location /streams/ { proxy_pass http://streams/; proxy_buffering off; }
    }
""")


def nginx_version() -> str:
    """Return nginx's own version."""
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


def fixed_upstream(folder: Path, port: int, *, command: list[str]) -> ChildProcess:
    """Start the upstream: the same answer, with usage, to every request; ``command`` pins it to its cores."""
    response, completion = (msgspec.json.encode(body).decode() for body in (RESPONSE, COMPLETION))
    servers = FIXED.substitute(port=port, response=response, completion=completion)
    return _start(folder, "upstream", servers, command)


def plain_proxy(
    folder: Path, port: int, *, fixed_port: int, streams_port: int, command: list[str]
) -> ChildProcess:
    """Start the proxy: JSON as it is, and below ``/streams/`` unbuffered streams."""
    servers = PROXY.substitute(port=port, fixed_port=fixed_port, streams_port=streams_port)
    return _start(folder, "proxy", servers, command)


def _start(folder: Path, name: str, servers: str, command: list[str]) -> ChildProcess:
    configuration = folder / f"{name}.conf"
    configuration.write_text(FRAME.substitute(folder=folder, name=name, servers=servers))
    arguments = [
        "nginx",
        "-c",
        str(configuration),
        "-p",
        str(folder),
        "-e",
        str(folder / f"{name}.start.log"),
    ]
    return ChildProcess([*command, *arguments], output=folder / f"{name}.log")
