"""The way to Postgres: pool, named queries, migrations."""
