"""Gateways that the benchmark measures beside ours stay out of the project: no dependency names one, and git ignores them."""

import re
import tomllib
from fnmatch import fnmatch

from tests.bench.peer_programs import CACHE, PEERS

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*", re.IGNORECASE)


def dependency_names(project: dict, lock: dict) -> set[str]:
    """Return the name of every package that the project asks for or that its lock file installs."""
    table = project["project"]
    lists = [table["dependencies"], *table.get("optional-dependencies", {}).values()]
    lists += project.get("dependency-groups", {}).values()
    names = [package["name"] for package in lock["package"]] + [entry for one in lists for entry in one]
    return {NAME.match(name)[0].lower() for name in names}


def own_name(package: str) -> str:
    """Return a package's name without its extras."""
    return package.partition("[")[0].lower()


def test_no_peer_is_a_dependency(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    lock = tomllib.loads((root / "uv.lock").read_text())
    names = dependency_names(project, lock)
    assert "granian" in names
    assert [peer.package for peer in PEERS if own_name(peer.package) in names] == []


def test_every_kind_of_dependency_is_seen():
    project = {
        "project": {"dependencies": ["one>=1"], "optional-dependencies": {"more": ["two[extra]"]}},
        "dependency-groups": {"dev": ["LiteLLM[proxy]>=1"]},
    }
    assert dependency_names(project, {"package": [{"name": "four"}]}) == {"one", "two", "litellm", "four"}


def test_git_ignores_where_peers_are_installed(root):
    ignored = (root / ".gitignore").read_text().splitlines()
    place = CACHE.relative_to(root).as_posix()
    assert any(fnmatch(f"{place}/", line) for line in ignored)
    assert {peer.folder.parent for peer in PEERS} == {CACHE}


def test_every_peer_is_pinned():
    assert [peer.name for peer in PEERS if not re.fullmatch(r"\d+\.\d+\.\d+", peer.version)] == []
