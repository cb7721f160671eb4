"""The project's own files, read once, for the tests that read code instead of running it."""

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("gateway", "billing", "admin")


class Source(NamedTuple):
    """One Python file: its path from the repository's root, its text, its tree."""

    path: str
    text: str
    tree: ast.Module


def read_sources(*folders: str) -> list[Source]:
    sources = []
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            sources.append(Source(file.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return sources


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def product() -> list[Source]:
    """Every file of the three rooms."""
    return read_sources(*ROOMS)


@pytest.fixture(scope="session")
def everything() -> list[Source]:
    """Every Python file of the project, tests included."""
    return read_sources(*ROOMS, "deploy", "tests")
