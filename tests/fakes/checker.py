"""The independent judge: compares what models served, what clients saw and what the ledger says.

It shares no code with the product. It reads three witnesses: the simulator's journal, which is on disk before the last
byte of an answer leaves; the clients' own records; and the tables, in plain SQL. It says which invariants of the
product are broken, and by which request.
"""

import asyncio
import functools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

POLL_S = 0.1
EXAMPLES = 5
Row: TypeAlias = Mapping[str, Any]

CUT_SHORT = frozenset(
    {
        "client_gone_cancelled",
        "upstream_error",
        "upstream_reset",
        "upstream_timeout",
        "drained_at_shutdown",
    }
)
"""Endings in which tokens may have been written that never reached the gateway, so that nothing was charged."""
FINISHED = frozenset({"completed", "incomplete"})


@dataclass
class Seen:
    """What one client asked for, and what came back: nothing, a part, or everything."""

    marker: str
    endpoint: str
    stream: bool
    account_id: str
    asked_output: int
    directive: str = ""
    request_id: str | None = None
    answer_id: str | None = None
    status: int = 0
    complete: bool = False
    error_code: str | None = None
    words: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    echoed_user: str | None = None
    left: bool = False
    hung: bool = False
    bytes_read: int = 0
    after_s: float = 0.0

    @property
    def outcome(self) -> str:
        """One word for the report."""
        if self.hung:
            return "hung"
        if self.complete:
            return "complete"
        if self.left:
            return "left"
        if self.error_code is not None:
            return self.error_code
        return "partial" if self.bytes_read else "nothing"


@dataclass(frozen=True)
class Violation:
    """A broken invariant: which, how often, and a few examples."""

    invariant: str
    count: int
    examples: list[str]


@dataclass
class Evidence:
    """The witnesses' statements about one trial."""

    journal: list[dict[str, Any]]
    seen: Sequence[Seen]
    entries: dict[str, list[Row]]
    intents: dict[str, Row]
    limits: Mapping[str, int]
    month_tokens: dict[tuple[str, str], int] = field(default_factory=dict)
    held_tokens: dict[tuple[str, str], int] = field(default_factory=dict)

    @functools.cached_property
    def by_request(self) -> dict[str, list[dict[str, Any]]]:
        """The journal's lines of every request."""
        lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self.journal:
            lines[line["request_id"]].append(line)
        return lines


def read_journal(path: Path, *, skip: int = 0) -> list[dict[str, Any]]:
    """Read the journal's lines but the first ``skip``."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines[skip:]]


def label(request_id: UUID) -> str:
    """Write a request's id as clients and models see it."""
    return f"req_{request_id.hex}"


IDLE = {
    "open requests": "SELECT count(*) FROM request_intent WHERE state = 'open'",
    "held tokens": "SELECT count(*) FROM quota_counter WHERE held_tokens <> 0",
    "requests in flight": "SELECT count(*) FROM quota_gate WHERE in_flight <> 0",
    "used is not the ledger's sum": """
        SELECT count(*) FROM quota_counter c WHERE used_tokens <> (
            SELECT COALESCE(sum(quota_tokens), 0) FROM ledger_entry e
            WHERE e.account_id = c.account_id AND (c.subject_id = c.account_id OR c.subject_id = e.key_id)
              AND c.period = CASE WHEN length(c.period) = 7 THEN e.period
                                  ELSE to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END)""",
}
"""What must be zero when nothing is going on (I6)."""

ALWAYS = {
    "I3 a request has two entries": """
        SELECT count(*) FROM (
            SELECT request_id FROM ledger_entry WHERE kind = 'usage' GROUP BY 1 HAVING count(*) > 1) t""",
    "I1 a settled request has no entry": """
        SELECT count(*) FROM request_intent i WHERE state = 'settled'
            AND NOT EXISTS (SELECT FROM ledger_entry e WHERE e.request_id = i.request_id AND e.kind = 'usage')""",
    "I1 a released request has an entry": """
        SELECT count(*) FROM request_intent i WHERE state = 'released'
            AND EXISTS (SELECT FROM ledger_entry e WHERE e.request_id = i.request_id AND e.kind = 'usage')""",
    "I3 a billable entry is not in the outbox once": """
        SELECT count(*) FROM ledger_entry e
        WHERE billable AND amount_pico <> 0 AND NOT EXISTS (SELECT FROM billing_outbox o
            WHERE o.entry_id = e.entry_id AND o.amount_pico = e.amount_pico)""",
    "I6 a month's total is not the ledger's sum": """
        SELECT count(*) FROM account_period_total t WHERE quota_tokens <> (
            SELECT COALESCE(sum(quota_tokens), 0) FROM ledger_entry e
            WHERE e.account_id = t.account_id AND e.period = t.period AND e.currency = t.currency)""",
    "I12 an entry is not in the month of its admission": """
        SELECT count(*) FROM ledger_entry WHERE period <> to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM')""",
    "I12 an entry and its intent disagree": """
        SELECT count(*) FROM ledger_entry e JOIN request_intent i USING (request_id)
        WHERE e.period <> i.period OR e.occurred_at <> i.admitted_at""",
}
"""What must be zero whatever is going on."""


async def wait_until_idle(database_url: str, deadline_s: float) -> list[Violation]:
    """Wait until nothing is open or held; what still is at the deadline is a violation of I6."""
    deadline = time.monotonic() + deadline_s
    connection = await _connect(database_url, deadline_s)
    try:
        while broken := [
            (what, n) for what, query in IDLE.items() if (n := await connection.fetchval(query))
        ]:
            if time.monotonic() > deadline:
                return [Violation(f"I6 idle: {what}", int(n), []) for what, n in broken]
            await asyncio.sleep(POLL_S)
    finally:
        await connection.close()
    return []


async def check(
    database_url: str, journal: list[dict[str, Any]], seen: Sequence[Seen], limits: Mapping[str, int]
) -> list[Violation]:
    """Judge a trial after it became idle; ``limits`` are the month limits of accounts by id."""
    connection = await _connect(database_url, 10)
    try:
        violations = [
            Violation(what, int(count), [])
            for what, query in ALWAYS.items()
            if (count := await connection.fetchval(query))
        ]
        evidence = await _gather(connection, journal, seen, limits)
    finally:
        await connection.close()
    for invariant, judge in JUDGES.items():
        examples = judge(evidence)
        if examples:
            violations.append(Violation(invariant, len(examples), examples[:EXAMPLES]))
    return violations


async def _gather(
    connection: "asyncpg.Connection[asyncpg.Record]",
    journal: list[dict[str, Any]],
    seen: Sequence[Seen],
    limits: Mapping[str, int],
) -> Evidence:
    names = {line["request_id"] for line in journal} | {record.request_id for record in seen}
    ids = [UUID(name.removeprefix("req_")) for name in names if name]
    entries: dict[str, list[Row]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT *, input_text_tokens + input_cached_tokens + input_audio_tokens AS input_total, "
        "output_text_tokens + output_reasoning_tokens + output_audio_tokens AS output_total "
        "FROM ledger_entry WHERE kind = 'usage' AND request_id = ANY($1::uuid[])",
        ids,
    ):
        entries[label(row["request_id"])].append(row)
    intents = await connection.fetch("SELECT * FROM request_intent WHERE request_id = ANY($1::uuid[])", ids)
    accounts = [UUID(account) for account in limits]
    used = await connection.fetch(
        "SELECT account_id, period, sum(quota_tokens)::bigint AS tokens FROM ledger_entry "
        "WHERE account_id = ANY($1::uuid[]) GROUP BY 1, 2",
        accounts,
    )
    return Evidence(
        journal=journal,
        seen=seen,
        entries=entries,
        intents={label(row["request_id"]): row for row in intents},
        limits=limits,
        month_tokens={(str(row["account_id"]), row["period"]): row["tokens"] for row in used},
    )


async def _connect(database_url: str, deadline_s: float) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect, however long the database takes to be back."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            return await asyncpg.connect(database_url, timeout=5, command_timeout=60)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_S)


def _served_has_one_entry(evidence: Evidence) -> list[str]:
    """What the upstream served has one entry, or a recorded release where it was cut short on its way to us."""
    broken = []
    for request_id, lines in evidence.by_request.items():
        served = any(line["ending"] == "complete" or line["delivered_tokens"] > 0 for line in lines)
        count = len(evidence.entries.get(request_id, ()))
        intent = evidence.intents.get(request_id)
        released = intent is not None and intent["state"] == "released"
        if served and count == 0 and released and intent["end_reason"] in CUT_SHORT:
            continue
        if (served and count != 1) or count > 1:
            state = intent["state"] if intent else "unknown"
            broken.append(f"{request_id}: {count} entries, intent {state}")
    return broken


def _usage_is_exact(evidence: Evidence) -> list[str]:
    """Where the upstream sent usage and the entry says so, the two are equal to the token."""
    broken = []
    for request_id, lines in evidence.by_request.items():
        for entry in evidence.entries.get(request_id, ()):
            told = [line for line in lines if line["usage"] == "sent"]
            if entry["usage_source"] != "upstream" or not told:
                continue
            charged = (entry["input_total"], entry["output_total"])
            served = (told[0]["input_tokens"], told[0]["output_tokens"])
            if charged != served:
                broken.append(f"{request_id}: entry {charged}, upstream {served}")
    return broken


def _one_call_upstream(evidence: Evidence) -> list[str]:
    return [
        f"{request_id}: {len(lines)} calls"
        for request_id, lines in evidence.by_request.items()
        if len(lines) > 1
    ]


def _complete_is_recorded(evidence: Evidence) -> list[str]:
    """A client that saw a whole answer finds the very numbers that it saw in a final entry."""
    broken = []
    for record in evidence.seen:
        if not record.complete:
            continue
        entries = evidence.entries.get(record.request_id or "", ())
        lines = evidence.by_request.get(record.request_id or "", ())
        if len(entries) != 1:
            broken.append(f"{record.request_id}: complete, {len(entries)} entries")
            continue
        entry = entries[0]
        told = any(line["usage"] == "sent" for line in lines)
        if entry["end_reason"] not in FINISHED or (told and entry["usage_source"] != "upstream"):
            broken.append(f"{record.request_id}: complete, but {entry['end_reason']}/{entry['usage_source']}")
        elif told and record.output_tokens is not None:
            mine, theirs = (
                (record.input_tokens, record.output_tokens),
                (entry["input_total"], entry["output_total"]),
            )
            if mine != theirs:
                broken.append(f"{record.request_id}: client saw {mine}, entry {theirs}")
    return broken


def _limits_hold(evidence: Evidence) -> list[str]:
    return [
        f"{account} {period}: {tokens} of {evidence.limits[account]}"
        for (account, period), tokens in evidence.month_tokens.items()
        if tokens > evidence.limits[account]
    ]


def _upstream_calls_were_admitted(evidence: Evidence) -> list[str]:
    return [f"{request_id}" for request_id in evidence.by_request if request_id not in evidence.intents]


def _no_foreign_bytes(evidence: Evidence) -> list[str]:
    """Each answer is its own: the ids in it, its length, and the end user that it repeats."""
    broken = []
    for record in evidence.seen:
        lines = evidence.by_request.get(record.request_id or "", ())
        own = record.request_id is None or record.answer_id is None
        if record.endpoint == "responses":
            own = own or f"resp_{(record.request_id or '')[4:]}" == (record.answer_id or "")[:37]
        else:
            own = own or not lines or record.answer_id in {line["id"] for line in lines}
        echoed = record.echoed_user in (None, record.marker)
        entries = evidence.entries.get(record.request_id or "", ())
        noted = all(entry["end_user"] == record.marker for entry in entries)
        length = record.words <= record.asked_output
        # A long line is one token more, without a space of its own.
        told = any(line["usage"] == "sent" for line in lines) and "big_line" not in record.directive
        counted = not (record.complete and told) or record.output_tokens in (None, record.words)
        if not (own and echoed and noted and length and counted):
            broken.append(
                f"{record.request_id} {record.marker}: answer {record.answer_id}, {record.words} words"
            )
    return broken


def _nobody_waits_for_ever(evidence: Evidence) -> list[str]:
    return [f"{record.request_id or record.marker}" for record in evidence.seen if record.hung]


JUDGES: dict[str, Callable[[Evidence], list[str]]] = {
    "I1 what was served has exactly one entry": _served_has_one_entry,
    "I2 the entry equals the upstream's usage": _usage_is_exact,
    "I3 a request goes upstream once": _one_call_upstream,
    "I4 a complete answer has its final entry": _complete_is_recorded,
    "I5 no account is above its limit": _limits_hold,
    "I7 nothing goes upstream that was not admitted": _upstream_calls_were_admitted,
    "I8 no answer has bytes of another": _no_foreign_bytes,
    "I10 every request ends": _nobody_waits_for_ever,
}
"""One judge an invariant; each returns what it found broken."""


def outcomes(seen: Collection[Seen]) -> dict[str, int]:
    """Count how clients fared."""
    return dict(sorted(Counter(record.outcome for record in seen).items()))
