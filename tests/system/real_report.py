"""What came of the calls to the real model: a table for the terminal, and the page ``docs/real-model.md``."""

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version

import click
import msgspec

from tests.system.model_server import REQUIREMENTS, ROOT
from tests.system.real_calls import Answer, Call

PAGE = ROOT / "docs" / "real-model.md"
QUOTED = 300
SHOWN = (
    "request_id", "endpoint", "model", "upstream", "plan", "period", "admitted_at", "settled_at",
    "input_tokens", "output_tokens", "total_tokens", "usage_source", "end_reason", "currency", "amount", "price_book",
)  # fmt: skip


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One call with its answer, its ledger entry, and what the model server counts for it.

    ``counted_…`` are the texts alone; ``reported_input`` is the server's own usage for the same prompt, which contains
    the tokens of its chat template.
    """

    call: Call
    answer: Answer
    counted_input: int
    counted_output: int
    reported_input: int
    entry: dict = {}

    @property
    def input_error(self) -> float:
        """How far the charged input is off the counted texts, in %."""
        return _percent(self.entry["input_tokens"], self.counted_input)

    @property
    def output_error(self) -> float:
        """How far the charged output is off the counted text, in %."""
        return _percent(self.entry["output_tokens"], self.counted_output)

    @property
    def template_error(self) -> float:
        """How far the charged input is off the server's own usage, in %."""
        return _percent(self.entry["input_tokens"], self.reported_input)


class FreePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the free plan ended."""

    answered: int
    status: int
    should_retry: str | None
    error: dict
    quota: dict = {}
    entries: list[dict] = []


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run found."""

    model_file: str
    lines: list[Line]
    free: FreePlan
    verified: dict


def _percent(found: int, expected: int) -> float:
    return 100 * (found - expected) / expected


def print_line(line: Line) -> None:
    """Say on the terminal what one call was charged."""
    entry = line.entry
    click.echo(
        f"{line.call.name} {line.call.language} {_mode(line.call):<17} {entry['usage_source']:<9} "
        f"{entry['input_tokens']:>5} in {entry['output_tokens']:>4} out, counted {line.counted_input:>4} and "
        f"{line.counted_output:>4} ({line.input_error:+.1f} %, {line.output_error:+.1f} %), "
        f"with template {line.reported_input:>4} ({line.template_error:+.1f} %)"
    )


def print_report(report: Report) -> None:
    """Say on the terminal what all of it came to."""
    click.echo(
        f"Streams, worst error: input {_worst(report, 'input_error'):+.1f} %, "
        f"output {_worst(report, 'output_error'):+.1f} %, "
        f"input against the usage of the same prompt {_worst(report, 'template_error'):+.1f} %."
    )
    free = report.free
    click.echo(
        f"Free plan: {free.answered} answers, then {free.status} {free.error['code']}; "
        f"used {free.quota['used']:,} of {free.quota['limit']:,}, held {free.quota['held']}."
    )


def write_page(report: Report) -> str:
    """Write the page and return its name."""
    parts = [
        _introduction(report),
        _table(report),
        _what_the_errors_mean(report),
        _free_plan(report),
        "## The transcript\n",
        *(_transcript(line) for line in report.lines),
    ]
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    return str(PAGE.relative_to(ROOT))


def _introduction(report: Report) -> str:
    today = datetime.now(UTC).date()
    versions = [
        f"Nusagate {version('nusagate')}",
        f"the client `openai` {version('openai')}",
        *(name.replace("==", " ") for name in REQUIREMENTS),
        f"Python {platform.python_version()}",
    ]
    return f"""# A real model behind the gateway

This page is written by `make real-model ARGS=--write`; what follows is what happened, not what should happen. The command
installs a real language model, SmolLM2 with 135 million parameters (`{report.model_file}`), and llama.cpp's Python server into
an environment of its own, puts the gateway in front of it as an upstream of dialect `chat`, and drives the gateway with OpenAI's
official Python client. It exits with an error if a single check fails.

Run on {today}: {", ".join(versions)}.

A model this small is often wrong, and its Indonesian is poor. That does not matter here: the counting is what is tested.
"""


def _table(report: Report) -> str:
    rows = [
        "## Every call, and its one ledger entry\n",
        "| call | language | endpoint | `usage_source` | charged: in, out | counted: in, out | error | usage: in | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in report.lines:
        entry = line.entry
        estimated = line.call.stream
        errors = f"{line.input_error:+.1f} %, {line.output_error:+.1f} %" if estimated else ""
        rows.append(
            f"| {line.call.name} | {line.call.language} | {_mode(line.call)} | `{entry['usage_source']}` "
            f"| {entry['input_tokens']}, {entry['output_tokens']} | {line.counted_input}, {line.counted_output} "
            f"| {errors} | {line.reported_input} | {line.template_error:+.1f} % |"
        )
    return "\n".join(rows) + "\n"


def _what_the_errors_mean(report: Report) -> str:
    verified = ", ".join(f"`{check['invariant']}`" for check in report.verified["checks"])
    return f"""* *counted* is what the server's own `/extras/tokenize/count` says of the texts: the messages of the prompt, each by itself,
  and the answer. *usage* is the `prompt_tokens` that the server reports for the same prompt when it is not streamed.
* Answers that are not streamed are charged by the server's usage block, to the token: the last column is 0.0 % there.
* This server sends no usage on streams, although the gateway asks for it. Those entries are flagged `estimated`: the gateway
  has the server count the prompt and the answer once the stream is over (`token_count_path`). The worst error of these estimates is
  {_worst(report, "input_error"):+.1f} % on input and {_worst(report, "output_error"):+.1f} % on output; the run fails beyond 20 %. On input
  it comes from the line break that the gateway puts between two messages.
* What an estimate leaves out are the tokens of the chat template: here 5 for each message, 4 around them all, and the 21 of
  the server's own system message where the client sends none. Nobody but the server knows them, and they are the customer's gain:
  the last column shows by how much. They matter for a prompt of one line and fade with its length: from 150 tokens on the
  estimate must be within 20 % of the server's usage too, or the run fails.
* After all calls every check of `nusagate ledger verify` held:
  {verified}.
"""


def _free_plan(report: Report) -> str:
    free = report.free
    return f"""## The free plan ends

A second account, on the free plan, asked until it was refused. {free.answered} requests were answered, the last one cut to what was
left (`max_output_tokens` was 512). Then the client raised `RateLimitError`: status {free.status}, `x-should-retry: {free.should_retry}`,
and

```json
{_pretty(free.error)}
```

`nusagate quota show` says after that:

```json
{_pretty(free.quota)}
```

The entries of the last three answers:

```json
{chr(10).join(json.dumps(_shown(entry)) for entry in free.entries[-3:])}
```
"""


def _transcript(line: Line) -> str:
    call = line.call
    asked = [f"*Instructions*: {call.instructions}\n"] if call.instructions else []
    if call.continues:
        asked.append(f"*Goes on from* {call.continues}, by `previous_response_id`.\n")
    return "\n".join(
        [
            f"### {call.name}: {_mode(call)}, {line.answer.took_s:.1f} s\n",
            *asked,
            _quote(call.prompt),
            "\nanswered\n",
            _quote(line.answer.text),
            f"\n```json\n{_pretty(_shown(line.entry))}\n```\n",
        ]
    )


def _mode(call: Call) -> str:
    return f"{call.endpoint}, {'stream' if call.stream else 'JSON'}"


def _worst(report: Report, error: str) -> float:
    return max((getattr(line, error) for line in report.lines if line.call.stream), key=abs)


def _shown(entry: dict) -> dict:
    return {name: entry[name] for name in SHOWN}


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _quote(text: str) -> str:
    short = text if len(text) <= QUOTED else f"{text[:QUOTED]} […]"
    return "\n".join(f"> {line}".rstrip() for line in short.strip().splitlines())
