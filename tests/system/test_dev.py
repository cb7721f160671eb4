"""``nusagate dev`` from the outside: one command starts everything, one Ctrl-C stops everything, and the data stays."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from gateway.db.pool import open_connection
from gateway.runtime.settings import Limits
from tests.fakes.processes import POLL_S, free_port
from tests.system.development import PROCESSES, STOPPED_S, Dev
from tests.system.installation import PEPPER, Installation, run_command

pytestmark = pytest.mark.slow

HELD_TOKENS = 200


def offered(output: str, word: str) -> str:
    """The command of the greeting that has this word in it, with the lines that it goes on over."""
    lines = output.splitlines()
    first = next(number for number, line in enumerate(lines) if f"{word} " in line)
    last = next(number for number, line in enumerate(lines[first:], first) if not line.endswith("\\"))
    return "\n".join(lines[first : last + 1])


def one_sentence(done: subprocess.CompletedProcess) -> str:
    """What a command said that failed: one line, and nothing else."""
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith("Error: ")
    return sentence.removeprefix("Error: ")


def refused(words, settings, folder) -> str:
    """The one sentence of a command that could not do its work."""
    done = run_command(words, settings, folder)
    assert done.returncode == 1, done.stderr
    return one_sentence(done)


def in_use(port: int, option: str) -> str:
    return f"Port {port} of 127.0.0.1 cannot be used: Address already in use; choose another with {option}."


# ---------------------------------------------------------------- one that runs


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    made = Dev(tmp_path_factory.mktemp("running"))
    with made.running() as process:
        made.greeting = process.output
        yield made


@pytest.fixture
def fresh(tmp_path):
    """One that was never started."""
    made = Dev(tmp_path)
    yield made
    made.stop()


def test_the_greeting_says_where_everything_is(dev):
    assert f"http://127.0.0.1:{dev.ports[0]}/v1" in dev.greeting
    assert dev.file["api_key"] in dev.greeting
    assert str(dev.data) in dev.greeting


def test_dev_json_says_how_to_reach_it(dev):
    assert dev.file.keys() >= {"gateway_url", "database_url", "account_id", "api_key"}
    assert dev.file["gateway_url"] == f"http://127.0.0.1:{dev.ports[0]}"


def test_secrets_are_readable_by_their_owner_only(dev):
    assert {(dev.data / name).stat().st_mode & 0o777 for name in ("dev.json", "dev.env")} == {0o600}


def test_the_lines_of_the_greeting_work_when_pasted(dev):
    answer = json.loads(dev.paste(offered(dev.greeting, "curl")))
    assert (answer["object"], answer["status"]) == ("response", "completed")
    quota = json.loads(dev.paste(offered(dev.greeting, "quota") + " --json"))
    assert quota["used"] >= answer["usage"]["total_tokens"] > 0


def test_doctor_finds_nothing_wrong_beside_it(dev):
    status, report = dev.answer("doctor")
    assert [check for check in report["checks"] if not check["ok"]] == []
    assert {"configuration", "postgres", "migrations", "prices"} <= {
        check["name"] for check in report["checks"]
    }
    assert status == 0


def test_a_second_one_on_the_same_folder_is_refused(dev):
    other = Dev(dev.folder)
    assert refused(other.words, {}, dev.folder) == (
        f"Another `nusagate dev` is running on {dev.data}; stop it or choose another --data."
    )


@pytest.mark.parametrize(
    ("place", "option"), [(0, "--port"), (1, "--worker-port"), (2, "--simulator-port"), (4, "--sandbox-port")]
)
def test_a_port_in_use_is_named_with_its_option(dev, tmp_path, place, option):
    other = Dev(tmp_path)
    other.ports[place] = dev.ports[0]
    assert refused(other.words, {}, tmp_path) == in_use(dev.ports[0], option)
    assert other.left_over() == []


def test_ports_must_differ(tmp_path):
    other = Dev(tmp_path)
    other.ports[1] = other.ports[0]
    assert "must differ" in refused(other.words, {}, tmp_path)


# ---------------------------------------------------------------- stopping and starting


def test_everything_stops_at_once_and_the_data_survives_a_restart(fresh):
    with fresh.running() as process:
        answer = json.loads(fresh.paste(offered(process.output, "curl")))
        key = fresh.file["api_key"]
    with fresh.running() as process:
        assert fresh.file["api_key"] == key
        json.loads(fresh.paste(offered(process.output, "curl")))
        _, quota = fresh.answer("quota", "show", "--account", fresh.file["account_id"])
        assert quota["used"] == 2 * answer["usage"]["total_tokens"]
        # An impatient second Ctrl-C, before the block sends its own.
        process.signal(signal.SIGINT)


def test_what_a_killed_one_leaves_is_taken_over_by_the_next(fresh):
    process = fresh.start()
    key = fresh.file["api_key"]
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    deadline_s = time.monotonic() + STOPPED_S
    while any("--port" in line for line in fresh.left_over()):
        assert time.monotonic() < deadline_s, fresh.left_over()
        time.sleep(POLL_S)
    with fresh.running() as process:
        assert fresh.file["api_key"] == key
        fresh.paste(offered(process.output, "curl"))


def test_a_start_that_is_interrupted_leaves_nothing(fresh):
    process = fresh.start(until="Starting Postgres")
    process.signal(signal.SIGINT)
    process.wait(deadline_s=STOPPED_S)
    assert fresh.left_over() == []
    assert "Traceback" not in process.output
    with fresh.running() as process:
        fresh.paste(offered(process.output, "curl"))


def test_a_process_that_dies_stops_the_rest_with_one_sentence(fresh):
    process = fresh.start()
    (simulator,) = [pid for pid in children_of(process.pid) if b"\0simulator\0" in command_of(pid)]
    os.kill(simulator, signal.SIGKILL)
    assert process.wait(deadline_s=STOPPED_S) == 1
    assert process.output.splitlines()[-1].startswith("Error: The simulator stopped")
    assert fresh.left_over() == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    dev = Dev(tmp_path / "a file")
    (tmp_path / "a file").write_text("not a folder")
    assert f"{dev.data} cannot be used: Not a directory" in refused(dev.words, {}, tmp_path)


# ---------------------------------------------------------------- a gateway that cannot start

CATALOGUE = """
[upstreams.local]
base_url = "http://127.0.0.1:{port}/v1"
dialect = "chat"
first_byte_timeout_s = 30

[models."nusantara-base"]
upstreams = ["local"]
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64
"""
NOBODY = "postgresql://sari:a-secret@127.0.0.1:1/postgres"
MISTAKES = {
    "no database url": ({"NUSAGATE_DATABASE_URL": ""}, "NUSAGATE_DATABASE_URL is not set"),
    "a url of something else": ({"NUSAGATE_DATABASE_URL": "mysql://a-secret@h/db"}, "NUSAGATE_DATABASE_URL"),
    "half a url": ({"NUSAGATE_DATABASE_URL": "postgresql://h:a-secret/db"}, "NUSAGATE_DATABASE_URL"),
    "nobody at the url": ({"NUSAGATE_DATABASE_URL": NOBODY}, "Postgres cannot be reached"),
    "no such database": ({"NUSAGATE_DATABASE_URL": "{server}nowhere?{rest}"}, "Postgres cannot be reached"),
    "a database without tables": ({"NUSAGATE_DATABASE_URL": "{server}template1?{rest}"}, "nusagate migrate"),
    "no pepper": ({"NUSAGATE_KEY_PEPPER": ""}, "NUSAGATE_KEY_PEPPER is not set"),
    "a short pepper": ({"NUSAGATE_KEY_PEPPER": "v1:a-secret"}, "NUSAGATE_KEY_PEPPER"),
    "a pepper's file that is gone": (
        {"NUSAGATE_KEY_PEPPER": "", "NUSAGATE_KEY_PEPPER_FILE": "gone"},
        "NUSAGATE_KEY_PEPPER_FILE",
    ),
    "no catalogue": ({"NUSAGATE_CONFIG": "gone.toml"}, "gone.toml cannot be read"),
    "a catalogue that is no TOML": ({"NUSAGATE_CONFIG": "broken.toml"}, "broken.toml is not valid TOML"),
    "a catalogue with a mistake": ({"NUSAGATE_CONFIG": "wrong.toml"}, "upstreams.local.base_url"),
    "a bad limit": ({"NUSAGATE_MAX_BODY_BYTES": "4 MiB"}, "NUSAGATE_MAX_BODY_BYTES"),
    "a limit of nothing": ({"NUSAGATE_HEARTBEAT_S": "0"}, "NUSAGATE_HEARTBEAT_S"),
}


@pytest.mark.parametrize(("mistake", "named"), MISTAKES.values(), ids=MISTAKES)
def test_a_gateway_with_a_wrong_setting_says_which(database_url, postgres_url, tmp_path, mistake, named):
    (tmp_path / "nusagate.toml").write_text(CATALOGUE.format(port=1))
    (tmp_path / "broken.toml").write_text("[upstreams")
    (tmp_path / "wrong.toml").write_text(CATALOGUE.format(port="none"))
    server, rest = postgres_url.split("postgres?", 1)
    good = {"NUSAGATE_DATABASE_URL": database_url, "NUSAGATE_KEY_PEPPER": PEPPER}
    wrong = {name: value.format(server=server, rest=rest) for name, value in mistake.items()}
    sentence = refused(("gateway", "--port", str(free_port())), good | wrong, tmp_path)
    assert named in sentence
    assert "a-secret" not in sentence


def test_a_gateway_whose_port_is_taken_says_so(database_url, tmp_path):
    (tmp_path / "nusagate.toml").write_text(CATALOGUE.format(port=1))
    good = {"NUSAGATE_DATABASE_URL": database_url, "NUSAGATE_KEY_PEPPER": PEPPER}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(("gateway", "--port", str(port)), good, tmp_path)
    assert sentence == in_use(port, "--port")


# ---------------------------------------------------------------- the worker and the doctor


@pytest.fixture
def installation(new_database, simulator, tmp_path):
    made = Installation(
        tmp_path,
        new_database(),
        CATALOGUE.format(port=simulator.port),
        NUSAGATE_HEARTBEAT_S="1",
        NUSAGATE_SWEEP_AFTER_S="2",
    )
    made.command("seed")
    return made


def test_the_worker_settles_what_a_killed_gateway_left(installation):
    sari = installation.join("sari@example.com", "free")
    with installation.serving("worker"), installation.serving("gateway") as gateway:
        with slow_stream(gateway, sari) as answer:
            while not asyncio.run(delivered_bytes(installation.database_url)):
                assert answer.readline()
            kill(gateway.process.pid)
        entry = wait_for_entry(installation)
    assert (entry["end_reason"], entry["usage_source"]) == ("gateway_crash", "estimated")
    assert 0 < entry["output_tokens"] < HELD_TOKENS
    quota = installation.answer("quota", "show", "--account", sari.account_id)
    assert (quota["held"], quota["used"]) == (0, entry["total_tokens"])
    assert installation.answer("ledger", "verify")["ok"]
    assert len(installation.entries()) == 1


@contextlib.contextmanager
def slow_stream(gateway, customer):
    """A stream that takes 10 s if nobody cuts it short."""
    prompt = f"Halo [[sim output={HELD_TOKENS} pace_ms=50]]"
    request = urllib.request.Request(
        f"{gateway.url}/v1/responses",
        json.dumps({"model": "nusantara-base", "input": prompt, "stream": True}).encode(),
        {"authorization": f"Bearer {customer.api_key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        yield answer


async def delivered_bytes(database_url):
    """What the gateway has noted of the one open request."""
    connection = await open_connection(database_url, Limits(), application="tests")
    try:
        return await connection.fetchval("SELECT delivered_bytes FROM request_intent")
    finally:
        await connection.close()


def kill(pid):
    """Kill a server and its workers, all at once."""
    for each in (pid, *children_of(pid)):
        os.kill(each, signal.SIGKILL)


def command_of(pid):
    return (PROCESSES / str(pid) / "cmdline").read_bytes()


def children_of(pid):
    return [
        int(child)
        for task in (PROCESSES / str(pid) / "task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def wait_for_entry(installation):
    deadline_s = time.monotonic() + STOPPED_S
    while not (entries := installation.entries()):
        assert time.monotonic() < deadline_s, "nobody swept"
    (entry,) = entries
    return entry


def test_doctor_names_the_upstream_that_is_down(new_database, tmp_path):
    broken = Installation(tmp_path, new_database(), CATALOGUE.format(port=free_port()))
    broken.command("seed")
    report = broken.answer("doctor", status=1)
    assert [check["name"] for check in report["checks"] if not check["ok"]] == ["upstream local"]
