"""The commands of billing, typed in: one JSON document, decisions with a reason, and clear refusals."""

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import pytest

from admin.cli import run
from billing.stripe import meters
from billing.stripe.model import MeterEvent
from billing.stripe.money import STRIPE_MONEY
from gateway.clock import SystemClock
from gateway.ids import uuid7
from gateway.units import Currency
from tests.plugins.billing import pay_by_use, spend, spend_exactly

UNIT = STRIPE_MONEY[Currency.IDR].meter_unit_pico
CATALOGUE = """
[upstreams.local]
base_url = "http://127.0.0.1:9/v1"
dialect = "chat"
[models."nusantara-base"]
upstreams = ["local"]
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64
"""
BOOK = """
[[price_books]]
book_id = "idr-2"
currency = "idr"
version = 2
effective_from = 2099-01-01T00:00:00Z
[price_books.models."{model}"]
input_text = 400_000_000
output_text = 1_500_000_000
"""


@pytest.fixture
def clock():
    """Commands live in the present, so everything here does."""
    return SystemClock()


@pytest.fixture
def typed(seeded, database_url, sandbox, monkeypatch, tmp_path, capsys):
    """Run a command as its own process would, in a thread with a loop of its own; status, answer or sentence."""
    (tmp_path / "nusagate.toml").write_text(CATALOGUE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUSAGATE_DATABASE_URL", database_url)
    monkeypatch.setenv("NUSAGATE_KEY_PEPPER", "the pepper of the tests")
    monkeypatch.setenv("NUSAGATE_STRIPE_SECRET_KEY", "sk_test_cli")
    monkeypatch.setenv("NUSAGATE_STRIPE_WEBHOOK_SECRET", "whsec_cli")
    monkeypatch.setenv("NUSAGATE_STRIPE_API_BASE", sandbox.url)

    async def type_in(*arguments):
        status = await in_thread(run, [*map(str, arguments), "--json"])
        said = capsys.readouterr()
        return status, json.loads(said.out) if said.out else said.err

    return type_in


async def in_thread(work, *arguments):

    return await asyncio.to_thread(work, *arguments)


@pytest.fixture
async def spender(seeded, clock, stripe):
    """Sari, who used seven units in this very hour."""
    sari = await pay_by_use(seeded, clock, stripe, "sari@example.com", Currency.IDR)
    await spend_exactly(seeded, sari, clock.now() - timedelta(seconds=1), 7 * UNIT)
    return sari


async def test_usage_is_sent_up_to_now_and_proved(sandbox, typed, spender):
    assert await typed("sync", "run") == (0, {**NOTHING, "frozen_entries": 0})
    status, report = await typed("sync", "run", "--until", "now")
    assert (status, report["frozen_entries"], report["accepted"]) == (0, 1, 1)
    assert sandbox.sum_of(spender.customer_id, "llm_spend_idr") == "7"
    status, report = await typed("reconcile", "run", "--all")
    assert (status, report["unsettled"]) == (0, 1)
    assert await typed("reconcile", "show") == (0, {"findings": []})


async def test_a_terminal_shows_how_far_a_run_is_and_a_pipe_gets_the_document_alone(typed, spender):
    status, answer, seen = await asyncio.to_thread(on_a_terminal, "sync", "run", "--until", "now")
    assert (status, "Sending" in seen, "1/1" in seen) == (0, True, True)
    assert "accepted" in answer
    status, answer, seen = await asyncio.to_thread(on_a_terminal, "sync", "run", "--until", "now", "--json")
    assert (status, json.loads(answer)["accepted"], seen) == (0, 0, "")


def on_a_terminal(*arguments):
    """Run a command whose standard error is a terminal; status, standard output, and what the terminal showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "admin.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        answer = process.stdout.read()
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while piece := terminal.read(4_096):
            shown += piece
    return process.returncode, answer, shown.decode()


async def test_where_everything_stands_is_shown(typed, spender):
    status, found = await typed("sync", "status")
    assert (status, found["unbatched_entries"], found["waiting"], found["troubled"]) == (0, 1, 0, [])


async def test_a_retry_needs_a_batch_and_a_reason(typed):
    status, sentence = await typed("sync", "retry", uuid4(), "--reason", "why not")
    assert (status, "There is no batch" in sentence) == (1, True)
    assert (await typed("sync", "retry", uuid4()))[0] == 2
    assert (await typed("sync", "retry", uuid4(), "--reason", " "))[0] == 1


async def test_a_dead_letter_is_shown_and_retried(seeded, sandbox, typed, spender):
    sandbox.faults({"kind": "reject", "status": 400, "path": "/v1/billing/meter_events"})
    assert (await typed("sync", "run", "--until", "now"))[1]["dead"] == 1
    (dead,) = (await typed("sync", "status"))[1]["troubled"]
    assert dead["last_error"].startswith("stripe_refused")
    status, again = await typed("sync", "retry", dead["batch_id"], "--reason", "Stripe is well again")
    assert (status, again["state"], again["generation"]) == (0, "waiting", 2)
    assert (await typed("sync", "run"))[1]["accepted"] == 1
    assert (await seeded.fetchval("SELECT actor FROM stripe_batch_decision")).startswith("cli")


async def test_without_a_key_there_is_nothing_to_run(typed, monkeypatch):
    monkeypatch.delenv("NUSAGATE_STRIPE_SECRET_KEY")
    status, sentence = await typed("sync", "run")
    assert (status, "NUSAGATE_STRIPE_SECRET_KEY is not set" in sentence) == (1, True)
    assert (await typed("sync", "status"))[0] == 0


async def test_the_future_is_not_frozen(typed):
    status, sentence = await typed("sync", "run", "--until", "2099-01-01")
    assert (status, "must not be in the future" in sentence) == (1, True)


async def test_meters_are_made_once(typed, stripe):
    assert await typed("sync", "setup") == await typed("sync", "setup")


async def test_batches_are_part_of_the_ledgers_proof(typed):
    status, answer = await typed("ledger", "verify")
    assert (status, answer["ok"]) == (0, True)
    assert "I3 batches and carry equal the outbox" in {check["invariant"] for check in answer["checks"]}


async def test_a_price_book_is_drafted_reviewed_and_published(typed, spender, tmp_path):
    (tmp_path / "book.toml").write_text(BOOK.format(model="nusantara-base"))
    status, answer = await typed("price", "draft", "--file", "book.toml")
    assert status == 0, answer
    assert [draft["book_id"] for draft in answer["drafts"]] == ["idr-2"]
    assert (await typed("price", "review", "idr-2"))[1] == answer["drafts"][0]
    status, answer = await typed("price", "publish", "idr-2")
    assert (status, answer["price_book"]) == (0, "idr-2")
    assert (await typed("price", "discard", "idr-2"))[0] == 1


async def test_a_price_book_without_a_model_of_the_catalogue_is_refused(typed, spender, tmp_path):
    (tmp_path / "book.toml").write_text(BOOK.format(model="another"))
    status, answer = await typed("price", "draft", "--file", "book.toml")
    assert answer["drafts"][0]["unpriced_models"] == ["nusantara-base"]
    status, sentence = await typed("price", "publish", "idr-2")
    assert (status, "has no price for nusantara-base" in sentence) == (1, True)
    assert (await typed("price", "discard", "idr-2"))[0] == 0


async def test_recalculating_is_a_dry_run_unless_it_is_applied(typed):
    status, answer = await typed(
        "price", "recalculate", "--book", "idr-1", "--period", "2026-11", "--reason", "to see"
    )
    assert (status, answer["applied"], answer["corrections"]) == (0, False, [])
    status, sentence = await typed(
        "price", "recalculate", "--book", "idr-1", "--period", "November", "--reason", "to see"
    )
    assert (status, "is not a month like 2026-11" in sentence) == (2, True)


NOTHING = {
    "frozen_entries": 0, "frozen_batches": 0, "accepted": 0, "waiting": 0, "unproven": 0, "dead": 0, "circuit_open": False,
}  # fmt: skip


async def test_old_usage_is_listed_tried_dry_and_written_off_with_a_reason(typed, seeded, clock, stripe):
    sari = await pay_by_use(seeded, clock, stripe, "sari@example.com", Currency.IDR)
    long_ago = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=40)
    await spend(seeded, [sari.account_id], [long_ago], entries=2)
    assert (await typed("sync", "run"))[1]["dead"] == 1
    _, listed = await typed("sync", "old")
    (batch,) = listed["batches"]
    assert (batch["account_id"], batch["entries"]) == (str(sari.account_id), 2)
    status, sentence = await typed("sync", "write-off", "--reason", "late")
    assert (status, "Name batches" in sentence) == (1, True)
    status, sentence = await typed("sync", "write-off", "--all", "--reason", " ")
    assert (status, "--reason" in sentence) == (1, True)
    _, dry = await typed("sync", "write-off", "--all", "--reason", "late")
    assert (dry["applied"], dry["totals"]) == (False, {"idr": batch["amount"]})
    _, done = await typed("sync", "write-off", batch["batch_id"], "--reason", "late", "--apply")
    assert (done["applied"], done["entries"]) == (True, 2)
    _, listed = await typed("sync", "old")
    assert listed["batches"] == []
    actors = await seeded.fetch("SELECT DISTINCT actor FROM ledger_entry WHERE kind = 'writeoff'")
    assert [row["actor"].startswith("cli:") for row in actors] == [True]


async def test_an_adjustment_is_tried_dry_then_written_and_kept(typed, spender):
    words = ("ledger", "adjust", "--account", spender.account_id, "--amount", "1.5", "--reason", "too little")
    status, dry = await typed(*words)
    assert (status, dry["applied"], dry["spent_after"]) == (0, False, "1.5")
    assert await typed("audit", "list") == (0, {"events": []})
    status, done = await typed(*words, "--apply")
    assert (status, done["applied"], done["spent_after"]) == (0, True, "1.5")
    status, kept = await typed("audit", "list", "--account", spender.account_id, "--action", "ledger:adjust")
    assert status == 0, kept
    (event,) = kept["events"]
    assert (event["source"], event["reason"], event["object_id"]) == ("cli", "too little", done["entry_id"])
    assert (event["before"]["spent"], event["after"]["spent"]) == ("0", "1.5")


async def test_a_surplus_is_corrected_by_its_finding(seeded, sandbox, stripe, typed, spender):
    finding_id, hour = uuid7(), SystemClock().now().replace(minute=0, second=0, microsecond=0)
    await typed("sync", "run", "--until", "now")
    event = MeterEvent(
        event_name="llm_spend_idr", identifier="twice", event_at=hour, customer_id=spender.customer_id, value=3
    )  # fmt: skip
    await meters.send(stripe, event, idempotency_key="twice")
    await seeded.execute(
        "INSERT INTO reconcile_finding VALUES ($1, $2, 'idr', $3, 'summary', 'surplus', $4, 7, 10, $4, $4)",
        finding_id, spender.account_id, spender.customer_id, hour,
    )  # fmt: skip
    words = ("reconcile", "correct", finding_id, "--identifier", "twice", "--reason", "sent by hand")
    status, dry = await typed(*words)
    assert (status, dry["applied"], dry["way"], dry["state"]) == (0, False, "cancel", "waiting")
    assert sandbox.sum_of(spender.customer_id, "llm_spend_idr") == "10"
    status, done = await typed(*words, "--apply")
    assert (status, done["applied"], done["state"]) == (0, True, "done")
    assert sandbox.sum_of(spender.customer_id, "llm_spend_idr") == "7"
    status, sentence = await typed("reconcile", "correct", uuid4(), "--reason", "x")
    assert (status, "There is no difference" in sentence) == (1, True)
