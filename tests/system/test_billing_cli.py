"""The commands of billing: set Stripe up, see who bought what, and how an amount came about."""

import csv
import io
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import structlog

from admin.cli import run

SECRET = "whsec_cli"


@pytest.fixture
def cli(seeded, database_url, sandbox, monkeypatch, tmp_path, capsys):
    """Run a command in this process, with the sandbox as Stripe at this moment."""
    now = datetime.now(UTC)
    sandbox.reset(now=int(now.timestamp()))
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "NUSAGATE_DATABASE_URL": database_url,
        "NUSAGATE_KEY_PEPPER": "the pepper of the tests",
        "NUSAGATE_STRIPE_SECRET_KEY": "sk_test_cli",
        "NUSAGATE_STRIPE_WEBHOOK_SECRET": SECRET,
        "NUSAGATE_STRIPE_API_BASE": sandbox.url,
    }.items():
        monkeypatch.setenv(name, value)

    # The console script sends logs to standard error; here it must be the one that pytest put there.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))

    def type_in(*arguments, status=0):
        found = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert found == status, said.err
        return json.loads(said.out) if "--json" in arguments else said.out + said.err

    yield type_in
    structlog.reset_defaults()


@pytest.fixture
def account_id(cli):
    return cli("account", "create", "--email", "sari@example.com", "--json")["account_id"]


def test_stripe_is_set_up_and_setting_it_up_again_changes_nothing(cli):
    first = cli("stripe", "setup", "--json")["prices"]
    assert {price["plan_id"] for price in first} == {"basic", "standard", "pro", "payg", "enterprise"}
    assert cli("stripe", "setup", "--json")["prices"] == first
    assert "invoice.paid" in cli("stripe", "events", "--json")["events"]


def test_an_account_is_given_a_customer_and_looked_at(cli, account_id):
    made = cli("stripe", "remap", "--account", account_id, "--json")
    assert made["customer_id"].startswith("cus_")
    shown = cli("subscription", "show", "--account", account_id, "--json")
    assert shown["customer"]["customer_id"] == made["customer_id"]
    assert (shown["entitlement"], shown["subscriptions"], shown["disputes"]) == (None, [], [])
    assert "no customer cus_x" in cli(
        "stripe", "remap", "--account", account_id, "--customer", "cus_x", status=1
    )
    assert cli("stripe", "refresh", "--json") == {"subscriptions": 0}


def test_invoices_and_events_are_listed(cli):
    assert cli("invoice", "list", "--json") == {"invoices": []}
    assert cli("webhook", "failed", "--json") == {"events": []}
    assert "was not given up" in cli("webhook", "retry", "evt_1", status=1)


def test_a_statement_is_shown_as_text_csv_html_and_json(cli, account_id):
    shown = cli("statement", "show", "--account", account_id, "--period", "2026-11", "--json")
    assert (shown["period"], shown["total_minor"], shown["agrees"]) == ("2026-11", 0, None)
    text = cli("statement", "show", "--account", account_id)
    assert all(said in text for said in ("paid from credit", "written off", "not billed yet"))
    rows = list(
        csv.DictReader(io.StringIO(cli("statement", "show", "--account", account_id, "--format", "csv")))
    )
    assert rows[-1]["section"] == "total"
    assert cli("statement", "show", "--account", account_id, "--format", "html").startswith("<!doctype html>")
    assert "not a month" in cli("statement", "show", "--account", account_id, "--period", "2026-13", status=2)


def test_months_are_closed_or_say_what_is_in_the_way(cli):
    assert cli("period", "list", "--json") == {"periods": []}
    assert cli("period", "close", "2020-01", "--json")["state"] == "closed"
    open_ = cli("period", "close", "2099-01", "--json", status=1)
    assert (open_["state"], open_["obstacles"][0]["code"]) == ("open", "not_over")
    nobody = "0198c0de-0000-7000-8000-000000000000"
    assert "--reason" in cli("period", "close", "2099-01", "--accept", nobody, status=1)
    why = ("--accept", nobody, "--reason", "billed by hand")
    assert "may be drafts" in cli("period", "close", "2099-01", *why, status=1)
    assert [month["period"] for month in cli("period", "list", "--json")["periods"]] == ["2099-01", "2020-01"]


def test_an_account_is_capped_and_not_any_more(cli, account_id):
    assert "has no cap" in cli("cap", "show", "--account", account_id, status=1)
    found = cli("cap", "set", "--account", account_id, "--amount", "50000", "--json")
    assert (found["monthly_amount"], found["monthly_tokens"], found["spent_amount"]) == ("50000", None, "0")
    assert cli("cap", "show", "--account", account_id, "--json")["limit_tokens"] == 33_333_333
    assert cli("cap", "remove", "--account", account_id, "--json")["capped"] is False
    for wrong in ("-1", "0.0000001", "much", "NaN"):
        assert "is not an amount" in cli("cap", "set", "--account", account_id, "--amount", wrong, status=2)


def test_credit_is_granted_taken_back_and_shown(cli, account_id):
    assert "never had credit" in cli("credit", "show", "--account", account_id, status=1)
    cli("credit", "grant", "--account", account_id, "--amount", "500.5", "--reason", "welcome", "--json")
    taken = ("credit", "take-back", "--account", account_id, "--amount")
    assert cli(*taken, "100", "--reason", "mistake", "--json")["balance"] == "400.5"
    assert "less credit" in cli(*taken, "401", "--reason", "mistake", status=1)
    assert cli("account", "show", account_id, "--json")["plan"] == "payg"
    assert cli("ledger", "verify", "--json")["ok"]


def test_a_command_starts_without_stripes_sdk():
    code = "import admin.cli, sys; print([name for name in sys.modules if name.split('.')[0] in ('stripe', 'requests')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_operators_do_is_kept_with_what_it_was_before(cli):
    made = cli("account", "create", "--email", "budi@example.com", "--plan", "payg", "--json")
    budi = made["account_id"]
    key = cli("key", "create", "--account", budi, "--json")
    for words in (
        ("account", "set-plan", budi, "pro"),
        ("account", "suspend", budi),
        ("account", "resume", budi),
        ("account", "set-limits", budi, "--rpm", "7"),
        ("key", "revoke", key["key_id"]),
        ("cap", "set", "--account", budi, "--tokens", "500"),
        ("cap", "remove", "--account", budi),
        ("credit", "grant", "--account", budi, "--amount", "9", "--reason", "sorry"),
        ("credit", "take-back", "--account", budi, "--amount", "2", "--reason", "too much"),
        ("stripe", "remap", "--account", budi),
    ):
        cli(*words)
    events = cli("audit", "list", "--account", budi, "--json")["events"]
    assert [event["action"] for event in reversed(events)] == [
        "account:create", "key:create", "account:set_plan", "account:suspend", "account:resume", "account:set_limits",
        "key:revoke", "cap:set", "cap:remove", "account:entitle", "credit:grant", "credit:take_back", "customer:remap",
    ]  # fmt: skip
    said = {event["action"]: (event["before"], event["after"]) for event in events}
    before, after = said["account:set_plan"]
    assert (before["plan"], after["plan"]) == ("payg", "pro")
    assert said["cap:remove"][0]["monthly_tokens"] == 500
    assert said["credit:take_back"][1] == {"amount_pico": -2 * 10**12, "balance": "7"}
    # Credit that is granted changes by itself what the account may do; nobody typed that.
    typed = [event for event in events if event["action"] != "account:entitle"]
    assert {event["source"] for event in typed} == {"cli"}
    assert all(event["actor"].startswith("cli") for event in typed)
    assert len(cli("audit", "list", "--action", "credit", "--json")["events"]) == 2
    assert cli("audit", "list", "--since", "2099-01-01", "--json") == {"events": []}


def test_what_is_refused_is_not_kept(cli):
    cli("account", "create", "--email", "budi@example.com", "--plan", "none", status=1)
    assert cli("audit", "list", "--json") == {"events": []}
