"""The embedded server starts on whatever an interrupted start left behind, and keeps what it was given."""

import asyncpg

from gateway.db.embedded import EmbeddedPostgres


async def test_a_first_start_that_was_cut_short_is_begun_again(tmp_path):
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("18\n")
    (tmp_path / ".postgres-in-the-making").touch()
    server = EmbeddedPostgres(folder)
    try:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
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
