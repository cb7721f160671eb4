"""``make real-model``: the gateway in front of a real model, driven with OpenAI's own client, checked to the token.

Every call must end in exactly one ledger entry. Where the model server told its usage, the entry is that usage; where
it told none, on its streams, the entry is an estimate, says so, and is near what the server itself counts.
"""

import argparse
import shutil
import signal
import sys
from pathlib import Path

import click
import msgspec
from openai import OpenAI, RateLimitError

from gateway.db.embedded import EmbeddedPostgres
from tests.system.installation import Installation
from tests.system.model_server import COUNT_PATH, MODEL_ID, ROOT, ModelServer, NotInstalled, running_model
from tests.system.real_calls import CALLS, PARAGRAPH_ID, Answer, Call, make_call, messages_of
from tests.system.real_report import FreePlan, Line, Report, print_line, print_report, write_page

FOLDER = ROOT / ".nusagate" / "real-model"
"""Everything of the last run, logs included; the next run begins anew."""

TOLERANCE_PERCENT = 20
WHOLE_PROMPT_TOKENS = 150
"""From this length on, an estimate must be near the server's own usage too: what its chat template adds, up to 31
tokens, is then less than the tolerance."""

FREE_CALLS_MAX = 60
CATALOGUE = """\
[upstreams.llama]
base_url = "{base_url}"
dialect = "chat"
first_byte_timeout_s = 300
idle_timeout_s = 300
token_count_path = "{count_path}"

[models."{model}"]
upstreams = ["llama"]
context_window = 2048
max_output_tokens = 512
bytes_per_token_min = 1.0
prompt_overhead_tokens = 64
"""


class Checks:
    """What must hold; a failed check is said at once and remembered."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []

    def __call__(self, holds: object, sentence: str) -> None:
        if holds:
            self.passed += 1
        else:
            self.failed.append(sentence)
            click.echo(f"FAILED: {sentence}")


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(prog="make real-model", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the transcript into docs/real-model.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    check = Checks()
    try:
        report = run(check)
    except NotInstalled as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        return 130
    print_report(report)
    click.echo(f"\n{check.passed} checks passed, {len(check.failed)} failed.")
    if options.write and not check.failed:
        click.echo(f"Written: {write_page(report)}")
    return 1 if check.failed else 0


def run(check: Checks) -> Report:
    """Start the model, a database and the gateway, make all calls, and stop everything again."""
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    FOLDER.mkdir(parents=True)
    with running_model(FOLDER) as model:
        postgres = EmbeddedPostgres(FOLDER / "postgres")
        try:
            return _drive(FOLDER, model, postgres.url, check)
        finally:
            postgres.close()


def _drive(folder: Path, model: ModelServer, database_url: str, check: Checks) -> Report:
    catalogue = CATALOGUE.format(base_url=model.base_url, count_path=COUNT_PATH, model=MODEL_ID)
    installation = Installation(folder, database_url, catalogue)
    installation.command("migrate")
    installation.command("seed")
    payer = installation.join("sari@example.com", "payg")
    guest = installation.join("budi@example.com", "free")
    with installation.serving("gateway") as gateway:
        lines = _make_calls(OpenAI(base_url=f"{gateway.url}/v1", api_key=payer.api_key, max_retries=0), model)
        free, free_answers = _use_up(
            OpenAI(base_url=f"{gateway.url}/v1", api_key=guest.api_key, max_retries=0)
        )
    entries = installation.entries()
    lines = [_with_entry(line, entries, check) for line in lines]
    for line in lines:
        _check_line(line, check)
        print_line(line)
    quota = installation.answer("quota", "show", "--account", guest.account_id)
    free = msgspec.structs.replace(
        free, quota=quota, entries=[entry for entry in entries if entry["account_id"] == guest.account_id]
    )
    _check_free_plan(free, free_answers, check)
    check(
        len(entries) == len(lines) + free.answered,
        f"{len(entries)} entries for {len(lines)} + {free.answered} calls",
    )
    verified = installation.answer("ledger", "verify")
    check(verified["ok"], f"ledger verify: {verified}")
    return Report(model_file=model.model_file, lines=lines, free=free, verified=verified)


def _make_calls(client: OpenAI, model: ModelServer) -> list[Line]:
    answers: dict[str, Answer] = {}
    lines = []
    for call in CALLS:
        answer = answers[call.name] = make_call(client, call, answers)
        messages = messages_of(call, answers)
        click.echo(f"{call.name}: {answer.took_s:.1f} s")
        lines.append(
            Line(
                call=call,
                answer=answer,
                counted_input=model.count([message["content"] for message in messages]),
                counted_output=model.count([answer.text]),
                reported_input=model.prompt_tokens(messages),
            )
        )
    return lines


def _with_entry(line: Line, entries: list[dict], check: Checks) -> Line:
    own = [entry for entry in entries if entry["request_id"] == line.answer.request_id]
    check(len(own) == 1, f"{line.call.name} has {len(own)} ledger entries")
    return msgspec.structs.replace(line, entry=own[0])


def _check_line(line: Line, check: Checks) -> None:
    name, entry = line.call.name, line.entry
    charged = (entry["input_tokens"], entry["output_tokens"])
    check(line.answer.text != "", f"{name} answered nothing")
    check(entry["end_reason"] in {"completed", "incomplete"}, f"{name} ended as {entry['end_reason']}")
    if line.answer.usage is not None:
        check(charged == line.answer.usage, f"{name}: charged {charged}, told {line.answer.usage}")
    if not line.call.stream:
        check(line.answer.usage is not None, f"{name} was told no usage")
        check(entry["usage_source"] == "upstream", f"{name} is {entry['usage_source']}")
        check(
            charged[0] == line.reported_input,
            f"{name}: {charged[0]} in, the server says {line.reported_input}",
        )
        return
    check(entry["usage_source"] == "estimated", f"{name} is {entry['usage_source']}")
    errors = {"input": line.input_error, "output": line.output_error}
    if line.counted_input >= WHOLE_PROMPT_TOKENS:
        errors["input with its template"] = line.template_error
    for what, percent in errors.items():
        check(abs(percent) <= TOLERANCE_PERCENT, f"{name}: the {what} is {percent:+.1f} % off")


def _use_up(client: OpenAI) -> tuple[FreePlan, list[Answer]]:
    """Ask on the free plan until it refuses, first much, then little, so that the limit is met exactly."""
    answers = []
    refusals = []
    for prompt, max_tokens in (
        (f"Beri judul:\n\n{PARAGRAPH_ID * 3}", 16),
        ("Tulis cerita tentang laut.", 512),
    ):
        call = Call(
            name="F", language="id", endpoint="responses", stream=False, prompt=prompt, max_tokens=max_tokens
        )
        for _ in range(FREE_CALLS_MAX):
            try:
                answers.append(make_call(client, call, {}))
            except RateLimitError as refusal:
                refusals.append(refusal)
                break
    last = refusals[-1]
    free = FreePlan(
        answered=len(answers),
        status=last.status_code,
        should_retry=last.response.headers.get("x-should-retry"),
        error=last.response.json()["error"],
    )
    return free, answers


def _check_free_plan(free: FreePlan, answers: list[Answer], check: Checks) -> None:
    told = sum(sum(answer.usage) for answer in answers)
    check(free.status == 429, f"the free plan refused with {free.status}")
    check(free.error["code"] == "insufficient_quota", f"the free plan refused with {free.error['code']}")
    check(free.should_retry == "false", f"x-should-retry is {free.should_retry}")
    check(
        {"limit", "used", "held", "remaining", "required", "resets_at", "period", "scope"}
        <= free.error["quota"].keys(),
        f"the refusal says only {free.error['quota']}",
    )
    check(free.quota["used"] == told, f"used {free.quota['used']}, told {told}")
    check(free.quota["used"] <= free.quota["limit"], f"used {free.quota['used']} of {free.quota['limit']}")
    check(free.quota["held"] == 0, f"{free.quota['held']} tokens are held with nothing under way")
    check(
        sorted(entry["request_id"] for entry in free.entries)
        == sorted(answer.request_id for answer in answers),
        "the free plan's entries are not its calls",
    )


if __name__ == "__main__":
    sys.exit(main())
