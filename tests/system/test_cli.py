"""The command line: one JSON document with ``--json``, something friendly without, one clear sentence when it fails."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import rich_click as click

from admin.cli import nusagate, run
from admin.dev import CATALOGUE
from gateway.keys.text import parse_key

PEPPER = "the pepper of the tests"

# These serve until they are stopped; they have no answer to print.
SERVING = {"dev", "gateway", "admin", "worker", "simulator"}


@pytest.fixture
def cli(seeded, database_url, monkeypatch, tmp_path, capsys):
    """Run a command in this process; returns what it said when it succeeded, as JSON where that was asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUSAGATE_DATABASE_URL", database_url)
    monkeypatch.setenv("NUSAGATE_KEY_PEPPER", PEPPER)

    def type_in(*arguments):
        status = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert (status, said.err) == (0, "")
        return json.loads(said.out) if "--json" in arguments else said.out

    return type_in


@pytest.fixture
def failing(cli, capsys):
    """Run a command that must fail; returns its exit status and its sentence."""

    def type_in(*arguments):
        status = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert said.out == ""
        (sentence,) = said.err.splitlines()
        return status, sentence

    return type_in


@pytest.fixture
def account(cli):
    return cli("account", "create", "--email", "sari@example.com", "--json")


def commands(group, *path):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(nusagate)), ids=" ".join)
def test_every_command_has_help_with_an_example(path, capsys):
    assert run([*path, "--help"]) == 0
    assert f"Example: nusagate {' '.join(path)}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "path", [path for path in commands(nusagate) if path[0] not in SERVING], ids=" ".join
)
def test_every_command_that_answers_speaks_json(path, capsys):
    assert run([*path, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


# ------------------------------------------------------------------ the database


def test_migrating_an_up_to_date_database_applies_nothing(cli):
    assert cli("migrate", "--json") == {"applied": []}
    assert "up to date" in cli("migrate")


def test_seeding_says_what_is_there_and_can_be_repeated(cli):
    seeded = {
        "plans": ["free", "basic", "standard", "pro", "payg", "enterprise"],
        "price_books": ["idr-1", "usd-1"],
    }
    assert cli("seed", "--json") == seeded
    assert cli("seed", "--json") == seeded


def test_seeding_other_prices_under_a_published_version_is_refused(failing, tmp_path):
    (tmp_path / "prices.toml").write_text(
        "[[price_books]]\nbook_id='idr-1'\ncurrency='idr'\nversion=1\neffective_from=2020-01-01T00:00:00Z\n"
        "[price_books.models.m]\ninput_text=1\noutput_text=1\n"
    )
    status, sentence = failing("seed", "--file", "prices.toml", "--json")
    assert status == 1
    assert "published prices never change" in sentence


# ------------------------------------------------------------------ accounts


def test_an_account_is_created_shown_and_listed(cli, account):
    assert account.keys() >= {"account_id", "email", "plan"}
    assert (account["email"], account["plan"], account["currency"]) == ("sari@example.com", "free", "idr")
    assert cli("account", "show", account["account_id"], "--json") == account
    assert cli("account", "list", "--json") == {"accounts": [account]}
    assert cli("account", "list", "--after", account["account_id"], "--json") == {"accounts": []}


def test_an_account_is_shown_to_people_with_everything_in_full(cli, account):
    said = cli("account", "show", account["account_id"])
    assert account["account_id"] in said
    assert "10,000" in said
    assert account["account_id"] in cli("account", "list")


def test_a_plan_and_a_status_are_set(cli, account):
    account_id = account["account_id"]
    assert cli("account", "set-plan", account_id, "pro", "--json")["plan"] == "pro"
    assert cli("account", "suspend", account_id, "--json")["status"] == "suspended"
    assert cli("account", "resume", account_id, "--json")["status"] == "active"


def test_limits_are_a_number_none_or_the_plans(cli, account):
    set_limits = ("account", "set-limits", account["account_id"], "--json")
    changed = cli(
        *set_limits,
        "--monthly-tokens",
        "none",
        "--tpd",
        "5_000",
        "--rpm",
        600,
        "--tpm",
        1,
        "--concurrency",
        0,
    )
    assert changed["limits"] == {
        "monthly_tokens": None,
        "daily_tokens": 5000,
        "requests_per_minute": 600,
        "tokens_per_minute": 1,
        "concurrency": 0,
    }
    changed = cli(
        *set_limits, "--monthly-tokens", "plan", "--daily-tokens", "plan", "--rpm", "plan", "--tpm", "none"
    )
    assert changed["overrides"] == {"tokens_per_minute": None, "concurrency": 0}
    assert changed["limits"]["monthly_tokens"] == 10_000


# ------------------------------------------------------------------ keys


def test_a_key_is_shown_once_and_only_recognised_after(cli, account):
    made = cli("key", "create", "--account", account["account_id"], "--json")
    assert made.keys() == {"key_id", "key"}
    parse_key(made["key"])
    (listed,) = cli("key", "list", "--account", account["account_id"], "--json")["keys"]
    assert (listed["key_id"], listed["status"]) == (made["key_id"], "active")
    assert listed["prefix"] + listed["last4"] == made["key"][:13] + made["key"][-4:]
    assert made["key"] not in json.dumps(listed)


def test_a_key_for_people_stands_on_one_line(cli, account):
    said = cli("key", "create", "--account", account["account_id"])
    (text,) = [word for word in said.split() if word.startswith("nsk_live_")]
    parse_key(text)
    assert "this once" in said


def test_a_key_is_made_with_all_its_scopes(cli, account):
    before = datetime.now(UTC)
    cli(
        *(
            "key",
            "create",
            "--account",
            account["account_id"],
            "--name",
            "ci",
            "--expires-in",
            "30d",
            "--json",
        ),
        *("--monthly-tokens", 500, "--models", "nusantara-base, smollm2-135m"),
        *("--endpoints", "responses,embeddings", "--allow-ip", "10.0.0.0/8", "--allow-ip", "2001:db8::1"),
    )
    (listed,) = cli("key", "list", "--account", account["account_id"], "--json")["keys"]
    assert (listed["name"], listed["monthly_tokens"]) == ("ci", 500)
    assert listed["models"] == ["nusantara-base", "smollm2-135m"]
    assert listed["endpoints"] == ["responses", "embeddings"]
    assert listed["ip_ranges"] == ["10.0.0.0/8", "2001:db8::1/128"]
    lifetime = datetime.fromisoformat(listed["expires_at"]) - before
    assert timedelta(days=30, seconds=-1) <= lifetime <= timedelta(days=30, minutes=1)


def test_a_rotated_and_a_revoked_key_stay_listed(cli, account):
    first = cli("key", "create", "--account", account["account_id"], "--json")
    second = cli("key", "rotate", first["key_id"], "--grace", "1h", "--json")
    assert second.keys() == {"key_id", "key"}
    third = cli("key", "rotate", second["key_id"], "--json")
    cli("key", "revoke", third["key_id"], "--json")
    listed = cli("key", "list", "--account", account["account_id"], "--json")["keys"]
    assert [(key["key_id"], key["status"], key["replaced_by"]) for key in listed] == [
        (third["key_id"], "revoked", None),
        (second["key_id"], "revoked", third["key_id"]),
        (first["key_id"], "active", second["key_id"]),
    ]
    kept = cli("audit", "list", "--account", account["account_id"], "--action", "key", "--json")["events"]
    assert [(event["action"], event["object_id"]) for event in kept] == [
        ("key:revoke", third["key_id"]),
        ("key:rotate", second["key_id"]),
        ("key:rotate", first["key_id"]),
        ("key:create", first["key_id"]),
    ]
    assert [event["after"]["grace_s"] for event in kept[1:3]] == [0, 3600]
    table = cli("audit", "list", "--account", account["account_id"])
    assert re.search(r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ +cli:\S+ +key:revoke ", table, re.MULTILINE)


# ------------------------------------------------------------------ plans and prices


def test_plans_and_prices_are_shown(cli):
    plans = cli("plan", "list", "--json")["plans"]
    assert [plan["plan"] for plan in plans][:2] == ["free", "basic"]
    assert cli("plan", "show", "basic", "--json") == plans[1]
    assert "66,667" in cli("plan", "list")
    (book,) = cli("price", "show", "--currency", "idr", "--at", "2026-12-01", "--json")["price_books"]
    assert (book["price_book"], book["effective_to"]) == ("idr-1", None)
    assert book["micro_per_mtok"]["nusantara-base"] == {
        "input_text": 300_000_000,
        "output_text": 1_500_000_000,
    }
    assert cli("price", "show", "--at", "2019-01-01", "--json")["price_books"] == []
    assert "300,000,000" in cli("price", "show")


# ------------------------------------------------------------------ failing


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["key", "create"], "Missing option '--account'"),
        (["key", "create", "--account", "sari"], "'sari' is not a valid UUID"),
        (["key", "create", "--account", uuid4(), "--expires-in", "soon"], "like 90s, 15m, 1h or 30d"),
        (["key", "create", "--account", uuid4(), "--models", "a,,b"], "empty name"),
        (["account", "create", "--email", "a@b", "--currency", "eur"], "'eur' is not one of 'idr', 'usd'"),
        (["account", "set-limits", uuid4()], "at least one limit"),
        (["account", "set-limits", uuid4(), "--rpm", "-5"], "'none' nor 'plan'"),
        (["price", "show", "--at", "tomorrow"], "is not a moment"),
        (["ledger", "export", "--period", "November"], "is not a month like 2026-11"),
        (["quota-of-nobody"], "No such command 'quota-of-nobody'"),
    ],
)
def test_a_command_typed_wrongly_ends_with_2_and_says_why(failing, arguments, said):
    status, sentence = failing(*arguments, "--json") if len(arguments) > 1 else failing(*arguments)
    assert status == 2
    assert said in sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["account", "create", "--email", "sari"], "'sari' is not an e-mail address"),
        (["account", "create", "--email", "a@b.c", "--plan", "platinum"], "no plan 'platinum'"),
        (["account", "set-limits", uuid4(), "--rpm", "99999999999"], "requests_per_minute"),
        (["account", "show", uuid4()], "There is no account"),
        (["key", "create", "--account", uuid4()], "There is no account"),
        (["key", "create", "--account", uuid4(), "--allow-ip", "10.0.0.300"], "10.0.0.300"),
        (["key", "create", "--account", uuid4(), "--endpoints", "images"], "images"),
        (["key", "list", "--account", uuid4()], "There is no account"),
        (["key", "revoke", uuid4()], "There is no key"),
        (["key", "rotate", uuid4()], "There is no key"),
        (["plan", "show", "platinum"], "no plan 'platinum'"),
        (["seed", "--file", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_a_command_that_cannot_do_its_work_ends_with_1_and_says_why(failing, arguments, said):
    status, sentence = failing(*arguments, "--json")
    assert status == 1
    assert said in sentence


def test_an_address_that_is_taken_is_named(failing, account):
    assert failing("account", "create", "--email", "Sari@example.com") == (
        1,
        "Error: An account with the address sari@example.com exists already.",
    )


def test_a_database_that_is_down_is_a_sentence(failing, monkeypatch):
    monkeypatch.setenv("NUSAGATE_DATABASE_URL", "postgresql://nusagate:topsecret@127.0.0.1:1/nusagate")
    status, sentence = failing("account", "list", "--json")
    assert status == 1
    assert "Postgres cannot be reached" in sentence


def test_an_address_that_cannot_be_read_is_not_repeated(failing, monkeypatch):
    monkeypatch.setenv("NUSAGATE_DATABASE_URL", "postgresql://nusagate:top/secret@127.0.0.1/nusagate")
    status, sentence = failing("account", "list")
    assert (status, "secret" in sentence) == (1, False)


def test_a_database_that_was_not_migrated_says_what_to_do(failing, monkeypatch, postgres_url):
    monkeypatch.setenv("NUSAGATE_DATABASE_URL", postgres_url)
    status, sentence = failing("account", "list")
    assert status == 1
    assert "nusagate migrate" in sentence


def test_the_doctor_says_of_a_database_that_lets_nobody_in_what_it_said(
    cli, capsys, monkeypatch, database_url
):
    Path("nusagate.toml").write_text(CATALOGUE.format(port=1))
    monkeypatch.setenv("NUSAGATE_DATABASE_URL", urlsplit(database_url)._replace(path="/nowhere").geturl())
    assert run(["doctor", "--json"]) == 1
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found["postgres"]["detail"] == 'cannot be reached: database "nowhere" does not exist'
    assert "upstream simulator" in found


def test_a_missing_setting_is_named(failing, monkeypatch):
    monkeypatch.delenv("NUSAGATE_KEY_PEPPER")
    assert failing("key", "create", "--account", uuid4()) == (1, "Error: NUSAGATE_KEY_PEPPER is not set")
    monkeypatch.delenv("NUSAGATE_DATABASE_URL")
    assert failing("account", "list") == (1, "Error: NUSAGATE_DATABASE_URL is not set")


# ------------------------------------------------------------------ beside a running `nusagate dev`


def write_dev_folder(folder, database_url) -> None:
    dev = folder / ".nusagate"
    dev.mkdir()
    (dev / "dev.json").write_text(
        json.dumps({"database_url": database_url, "gateway_url": "http://127.0.0.1:8080"})
    )
    (dev / "dev.env").write_text(f"NUSAGATE_KEY_PEPPER={PEPPER}\n")


def test_beside_dev_nothing_has_to_be_set(cli, account, monkeypatch, tmp_path, database_url):
    monkeypatch.delenv("NUSAGATE_DATABASE_URL")
    monkeypatch.setenv("NUSAGATE_KEY_PEPPER", "a pepper of another installation")
    write_dev_folder(tmp_path, database_url)
    made = cli("key", "create", "--account", account["account_id"], "--json")
    monkeypatch.setenv("NUSAGATE_DATABASE_URL", database_url)
    assert (
        cli("key", "list", "--account", account["account_id"], "--json")["keys"][0]["key_id"]
        == made["key_id"]
    )


def test_a_database_that_is_named_is_never_mixed_with_the_secrets_of_dev(failing, monkeypatch, tmp_path):
    write_dev_folder(tmp_path, "postgresql://nobody@127.0.0.1:1/dev")
    monkeypatch.delenv("NUSAGATE_KEY_PEPPER")
    assert failing("key", "create", "--account", uuid4()) == (1, "Error: NUSAGATE_KEY_PEPPER is not set")


def test_a_broken_dev_folder_is_a_sentence(failing, monkeypatch, tmp_path):
    monkeypatch.delenv("NUSAGATE_DATABASE_URL")
    write_dev_folder(tmp_path, "x")
    (tmp_path / ".nusagate" / "dev.json").write_text("{")
    status, sentence = failing("account", "list")
    assert status == 1
    assert ".nusagate cannot be read" in sentence


# ------------------------------------------------------------------ as a program


def test_the_program_itself_prints_one_document_and_ends_with_0(seeded, database_url, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "admin.cli", "plan", "list", "--json"],
        capture_output=True,
        cwd=tmp_path,
        env={"NUSAGATE_DATABASE_URL": database_url},
        text=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["plans"]) == 6
    assert done.stderr == ""


def test_the_program_itself_ends_with_2_when_it_was_typed_wrongly(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "admin.cli", "plan", "show"],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={},
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: Missing argument 'PLAN'. See: nusagate plan show --help\n"
