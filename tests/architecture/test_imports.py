"""The import contracts of pyproject.toml hold: one arrow between the rooms, floors inside the gateway."""

import subprocess
import sys
from pathlib import Path

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_import_contracts_hold(root):
    outcome = lint_imports(root)
    assert outcome.returncode == 0, outcome.stdout


def test_a_broken_contract_fails(tmp_path):
    for package, text in {"upper": "", "lower": "import upper\n"}.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(text)
    (tmp_path / ".importlinter").write_text(
        "[importlinter]\nroot_packages =\n    upper\n    lower\n"
        "[importlinter:contract:1]\nname = One arrow\ntype = layers\nlayers =\n    upper\n    lower\n"
    )
    outcome = lint_imports(tmp_path, "--config", ".importlinter")
    assert outcome.returncode == 1
    assert "lower -> upper" in outcome.stdout
