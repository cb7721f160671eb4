"""Some things have one place: SQL in .sql files, asyncpg in stores, metrics in one file, machine paths nowhere."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch

SQL_START = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s+\S")
SQL_PLACES = ("gateway/db/*",)
ASYNCPG_PLACES = ("gateway/db/*", "*/store.py")
PROMETHEUS_PLACES = ("gateway/runtime/metrics.py",)
CLOCK_PLACES = ("gateway/clock.py",)

MACHINE_PATH = re.compile(r"(?<![\w.:-])/(?:root|home|Users|work)/\w")
TEXT_PLACES = ("gateway", "billing", "admin", "deploy", "docs", "tests", ".ci")
TEXT_SUFFIXES = frozenset(
    {".py", ".sql", ".toml", ".md", ".yml", ".yaml", ".sh", ".json", ".txt", ".cfg", ""}
)


def is_in(path: str, places: tuple[str, ...]) -> bool:
    return any(fnmatch(path, place) for place in places)


def sql_literals(tree: ast.AST) -> list[str]:
    return [
        node.value.strip().splitlines()[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL_START.match(node.value)
    ]


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def imports(tree: ast.AST, package: str) -> bool:
    return any(module.partition(".")[0] == package for module in imported_modules(tree))


def wall_clock_reads(tree: ast.AST) -> list[str]:
    """Name every ``datetime.now()``, ``datetime.utcnow()``, ``date.today()`` and ``time.time()``."""
    clocks = {("datetime", "now"), ("datetime", "utcnow"), ("date", "today"), ("time", "time")}
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}()"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (ast.unparse(node.func.value).rpartition(".")[2], node.func.attr) in clocks
    ]


def test_sql_lives_in_sql_files(product):
    found = {
        source.path: sql_literals(source.tree) for source in product if not is_in(source.path, SQL_PLACES)
    }
    assert {path: literals for path, literals in found.items() if literals} == {}


def test_only_the_database_floor_and_the_stores_import_asyncpg(product):
    users = [source.path for source in product if imports(source.tree, "asyncpg")]
    assert users
    assert [path for path in users if not is_in(path, ASYNCPG_PLACES)] == []


def test_metrics_are_declared_in_one_file(product):
    users = [source.path for source in product if imports(source.tree, "prometheus_client")]
    assert users == list(PROMETHEUS_PLACES)


def test_only_the_clock_reads_the_time_of_day(product):
    found = {s.path: wall_clock_reads(s.tree) for s in product if not is_in(s.path, CLOCK_PLACES)}
    assert {path: reads for path, reads in found.items() if reads} == {}


def test_no_file_names_a_path_of_somebodys_machine(root):
    files = [path for place in TEXT_PLACES for path in (root / place).rglob("*")]
    files += [path for path in root.iterdir() if path.is_file()]
    texts = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in files
        if path.is_file() and path.suffix in TEXT_SUFFIXES and not path.name.startswith(".git")
    }
    assert "Makefile" in texts
    assert [path for path, text in texts.items() if MACHINE_PATH.search(text)] == []


def test_the_sql_check_sees_statements_and_not_prose():
    assert sql_literals(ast.parse('query = "SELECT 1"')) == ["SELECT 1"]
    assert sql_literals(ast.parse('query = f"""\n    WITH x AS ({rest}) DELETE FROM x"""')) == ["WITH x AS ("]
    assert (
        sql_literals(
            ast.parse('"""With care: selects are in files."""\nlabel = "SELECTED"\nmethod = "DELETE"')
        )
        == []
    )


def test_the_import_check_sees_both_forms_at_any_depth():
    assert imports(ast.parse("def late():\n    from asyncpg.pool import Pool"), "asyncpg")
    assert imports(ast.parse("import os, asyncpg"), "asyncpg")
    assert not imports(ast.parse("from gateway.db.pool import asyncpg_free"), "asyncpg")


def test_the_clock_check_sees_every_wall_clock():
    assert wall_clock_reads(ast.parse("now = datetime.now(UTC)")) == ["line 1: datetime.now()"]
    assert wall_clock_reads(ast.parse("now = datetime.datetime.utcnow()")) == [
        "line 1: datetime.datetime.utcnow()"
    ]
    assert wall_clock_reads(ast.parse("clock.now(); time.monotonic()")) == []


def test_the_path_check_sees_a_home_folder_and_not_a_route():
    assert MACHINE_PATH.search("open('/" + "home/sari/keys')")
    assert not MACHINE_PATH.search("https://example.org/home/page and GET /v1/models")
