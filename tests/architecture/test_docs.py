"""The pages say what is true: every file they name exists, and so does every command of the Makefile."""

import re

FILE_NAME = re.compile(r"`((?:gateway|billing|admin|deploy|docs|tests)/[\w./-]+)`")
MAKE_TARGET = re.compile(r"\bmake ([a-z-]+)\b(?=`|\s+#)")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def missing_files(text, root) -> list[str]:
    return sorted({name for name in FILE_NAME.findall(text) if not (root / name).exists()})


def pages(root):
    return [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "deploy").rglob("*.md")]


def test_every_file_that_a_page_names_exists(root):
    found = {page.name: missing_files(page.read_text(encoding="utf-8"), root) for page in pages(root)}
    assert "README.md" in found
    assert {page: names for page, names in found.items() if names} == {}


def test_every_make_target_that_a_page_names_exists(root):
    targets = set(TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    named = {name for page in pages(root) for name in MAKE_TARGET.findall(page.read_text(encoding="utf-8"))}
    assert {"run", "test", "check"} <= named
    assert named <= targets


def test_a_file_that_is_gone_is_found(root):
    assert missing_files("see `gateway/errors.py` and `gateway/errands.py`", root) == ["gateway/errands.py"]
