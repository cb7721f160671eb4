"""wrk, the load generator: as many requests as the connections carry, and what became of them."""

import subprocess
from pathlib import Path
from string import Template

import msgspec

SCRIPT = Template("""\
local keys = { $keys }
local requests = {}
local turn = 0
init = function()
  for number, key in ipairs(keys) do
    wrk.headers["authorization"] = "Bearer " .. key
    wrk.headers["content-type"] = "application/json"
    $headers
    requests[number] = wrk.format("POST", "$path", nil, '$body')
  end
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('\\nRESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "failures": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
""")
GRACE_S = 15


class Load(msgspec.Struct, frozen=True):
    """What to ask for: a POST of ``body`` with each of ``keys`` in turn."""

    port: int
    path: str
    body: bytes
    keys: tuple[str, ...]
    connections: int
    headers: tuple[tuple[str, str], ...] = ()


class Result(msgspec.Struct, frozen=True):
    """What wrk saw; ``failures`` are answers other than 2xx and 3xx, and broken connections."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    failures: int

    @property
    def per_second(self) -> int:
        """Requests answered in a second."""
        return self.requests * 1_000_000 // self.duration_us


def run_wrk(folder: Path, load: Load, *, seconds: int, command: list[str]) -> Result:
    """Run wrk for a while and return what it saw; ``command`` pins it to its cores."""
    script = folder / "load.lua"
    keys = ", ".join(f"'{key}'" for key in load.keys)
    headers = " ".join(f'wrk.headers["{name}"] = "{value}"' for name, value in load.headers)
    script.write_text(SCRIPT.substitute(keys=keys, path=load.path, body=load.body.decode(), headers=headers))
    said = subprocess.run(
        [
            *command,
            *("wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)),
            f"http://127.0.0.1:{load.port}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + GRACE_S,
    ).stdout
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    return msgspec.json.decode(line.removeprefix("RESULT "), type=Result)
