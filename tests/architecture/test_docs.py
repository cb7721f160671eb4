"""The pages say what is true: files, targets, commands, settings and metrics that they name are there."""

import re
import shlex

import msgspec
import rich_click as click
from prometheus_client.metrics import MetricWrapperBase

from admin.cli import nusagate
from admin.settings import PortalLimits
from billing.settings import StripeLimits
from gateway.runtime import metrics
from gateway.runtime.settings import PREFIX, Limits

FILE_NAME = re.compile(r"`((?:gateway|billing|admin|deploy|docs|tests)/[\w./-]+)`")
MAKE_TARGET = re.compile(r"\bmake ([a-z-]+)\b(?=`|\s+#)")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
COMMAND = re.compile(r"(?:`|bin/)nusagate ([a-z][^`\n#|]*)")
SETTING = re.compile(r"\bNUSAGATE_[A-Z0-9_]+")
METRIC = re.compile(r"\bnusagate_[a-z0-9_]+")
SERIES = re.compile(r"(_bucket|_sum|_count)$")


def missing_files(text, root) -> list[str]:
    return sorted({name for name in FILE_NAME.findall(text) if not (root / name).exists()})


def missing_settings(text, known) -> list[str]:
    """Settings that no process reads; a name that ends with a line is the beginning of several."""
    return sorted(
        name
        for name in set(SETTING.findall(text)) - known
        if name.removesuffix("_FILE") not in known
        and not (name.endswith("_") and any(one.startswith(name) for one in known))
    )


def missing_metrics(text, known) -> list[str]:
    named = {SERIES.sub("", name) for name in METRIC.findall(text)}
    return sorted(named - known)


def command_faults(line: str) -> list[str]:
    """What the command line would not understand of a line; its arguments may be anything."""
    words = shlex.split(line)
    command: click.Command = nusagate
    while words and isinstance(command, click.Group):
        found = command.commands.get(words[0])
        if found is None:
            return [f"there is no {line}"]
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return [f"{line}: {word}" for word in words if word.startswith("--") and word not in known]


def pages(root):
    return [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "deploy").rglob("*.md")]


def faults_of_pages(root, faults):
    found = {page.name: faults(page.read_text(encoding="utf-8")) for page in pages(root)}
    assert "README.md" in found
    return {page: names for page, names in found.items() if names}


def test_every_file_that_a_page_names_exists(root):
    assert faults_of_pages(root, lambda text: missing_files(text, root)) == {}


def test_every_make_target_that_a_page_names_exists(root):
    targets = set(TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    named = {name for page in pages(root) for name in MAKE_TARGET.findall(page.read_text(encoding="utf-8"))}
    assert {"run", "test", "check"} <= named
    assert named <= targets


def test_every_command_that_a_page_names_is_understood(root):
    found = faults_of_pages(
        root, lambda text: [fault for line in COMMAND.findall(text) for fault in command_faults(line)]
    )
    assert found == {}


def test_every_setting_that_a_page_names_is_read(root, product):
    known = {name for one in product for name in SETTING.findall(one.text)} | {
        PREFIX + field.name.upper()
        for limits in (Limits, PortalLimits, StripeLimits)
        for field in msgspec.structs.fields(limits)
    }
    assert faults_of_pages(root, lambda text: missing_settings(text, known)) == {}


def test_every_metric_that_a_page_names_is_there(root):
    declared = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    known = {metric._name + ("_total" if metric._type == "counter" else "") for metric in declared}
    assert faults_of_pages(root, lambda text: missing_metrics(text, known)) == {}


def test_what_is_gone_is_found(root):
    assert missing_files("see `gateway/errors.py` and `gateway/errands.py`", root) == ["gateway/errands.py"]
    known = {"NUSAGATE_A_B"}
    assert missing_settings("NUSAGATE_A_B NUSAGATE_A_B_FILE NUSAGATE_A_… NUSAGATE_C_… NUSAGATE_D", known) == [
        "NUSAGATE_C_",
        "NUSAGATE_D",
    ]
    assert missing_metrics("nusagate_a nusagate_a_count nusagate_b_total", {"nusagate_a"}) == [
        "nusagate_b_total"
    ]
    assert command_faults("ledger adjust --account … --amount -5000") == []
    assert command_faults("ledger burn --all") == ["there is no ledger burn --all"]
    assert command_faults("ledger adjust --gently") == ["ledger adjust --gently: --gently"]
