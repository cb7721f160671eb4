"""What operators start from is true: compose and image name real commands and settings, every alert real metrics and a page."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from admin.cli import nusagate
from admin.jobs import admin_jobs
from admin.settings import load_portal_settings
from gateway.http.error_table import ERRORS
from gateway.ledger.model import EndReason
from gateway.runtime import metrics
from gateway.runtime.settings import load_settings
from gateway.upstream.catalogue import parse_catalogue

SECRET = "v1:a-secret-that-is-long-enough"
REQUIRED = re.compile(r"\$\{(\w+):\?([^}]+)\}")
OPTIONAL = re.compile(r"\$\{(\w+):-([^}]*)\}")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
SELECTOR = re.compile(r"\b([a-z_]+)(?:\{([^}]*)\})?(?=[\s\[)]|$)")
MATCHER = re.compile(r'(\w+)=~?"([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")
OF_TARGETS = {"job", "instance"}
OF_PROMETHEUS = {"up": OF_TARGETS}
LABEL_VALUES: dict[str, set[str]] = {
    "code": set(ERRORS),
    "end_reason": {ending.value for ending in EndReason},
    "job": {"nusagate"},
}


def read_by_the_worker(environ: Mapping[str, str]) -> None:
    admin_jobs(load_settings(environ), environ)


READ_BY = {"admin": load_portal_settings, "worker": read_by_the_worker}
"""What reads the settings of a process that reads more than the gateway."""


class Recorder(dict[str, str]):
    """An environment that remembers which variables somebody asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)


def filled(text: str) -> str:
    """The text as compose would read it, with a value for everything that it requires."""
    # One secret, one use: each has its own value.
    return OPTIONAL.sub(r"\2", REQUIRED.sub(rf"{SECRET}-\1", text))


def command_faults(words: list[str]) -> list[str]:
    """Say what `nusagate` would not understand of a command."""
    command = nusagate.commands.get(words[0])
    if command is None:
        return [f"nusagate has no command {words[0]}"]
    options = {option for parameter in command.params for option in parameter.opts}
    return [f"{words[0]} has no {word}" for word in words[1:] if word.startswith("-") and word not in options]


def declared_metrics() -> dict[str, set[str]]:
    """Every series that the product exports, with its labels as Prometheus stores them.

    A label that a target has too is stored as ``exported_…`` (https://prometheus.io/docs, ``honor_labels``).
    """
    return {
        f"{metric._name}{suffix}": {
            f"exported_{label}" if label in OF_TARGETS else label for label in metric._labelnames
        }
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
        for suffix in SUFFIXES[metric._type]
    }


def expression_faults(expression: str) -> list[str]:
    """Say which metrics, labels and label values of an alert's expression do not exist."""
    known = declared_metrics() | OF_PROMETHEUS
    series = {
        name: labels or ""
        for name, labels in SELECTOR.findall(expression)
        if name in known or "nusagate" in name
    }
    found = [f"there is no metric {name}" for name in series if name not in known]
    labels = set().union(*(known[name] for name in series if name in known))
    matchers = [matcher for selector in series.values() for matcher in MATCHER.findall(selector)]
    named = [name for name, _ in matchers]
    named += [name.strip() for names in GROUPING.findall(expression) for name in names.split(",")]
    found += [f"there is no label {name}" for name in named if name not in labels]
    found += [
        f"{name} is never {value}"
        for name, values in matchers
        for value in values.split("|")
        if name in LABEL_VALUES and value not in LABEL_VALUES[name]
    ]
    return found if series else ["the expression has no metric"]


@pytest.fixture(scope="module")
def compose(root) -> dict:
    return yaml.safe_load(filled((root / "docker-compose.yml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def alerts(root) -> list[dict]:
    rules = yaml.safe_load((root / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def our_services(compose: dict) -> Iterator[tuple[str, dict]]:
    return ((name, service) for name, service in compose["services"].items() if "build" in service)


def test_the_services_of_compose_run_commands_that_exist(compose):
    services = dict(our_services(compose))
    assert {"migrate", "gateway", "admin", "worker", "simulator"} <= set(services)
    assert {name: faults for name, s in services.items() if (faults := command_faults(s["command"]))} == {}


def test_the_services_of_compose_set_only_variables_that_the_settings_read(compose):
    for name, service in our_services(compose):
        environment = Recorder(service["environment"])
        if environment:
            READ_BY.get(name, load_settings)(environment)
            assert set(environment) <= environment.asked, name


def test_the_gateway_of_compose_has_its_database_and_no_redis_unless_it_is_asked_for(compose):
    settings = load_settings(compose["services"]["gateway"]["environment"])
    assert settings.database_url.startswith("postgresql://nusagate:")
    assert settings.redis_url is None


def test_the_portal_of_compose_reaches_the_gateway_inside_and_is_found_outside(compose):
    services = compose["services"]
    settings = load_portal_settings(services["admin"]["environment"])
    gateway, port = settings.gateway_url.removeprefix("http://").split(":")
    assert port in services[gateway]["command"]
    assert settings.mail_on_page
    (published,) = services["admin"]["ports"]
    host, outside, inside = published.split(":")
    assert settings.base.public_url == f"http://{host}:{outside}"
    assert services["admin"]["command"][-1] == inside


def test_compose_refuses_to_start_without_its_secrets(root):
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    assert {name for name, _ in REQUIRED.findall(text)} == {
        "NUSAGATE_DATABASE_PASSWORD",
        "NUSAGATE_KEY_PEPPER",
        "NUSAGATE_SESSION_SECRET",
    }


def test_the_catalogue_of_compose_is_valid_and_names_its_simulator(compose):
    text = compose["configs"]["catalogue"]["content"]
    catalogue = parse_catalogue(text, {}, source="docker-compose.yml")
    assert catalogue.get("nusantara-base").upstreams[0].base_url == "http://simulator:9100/v1"
    assert tomllib.loads(text)["upstreams"].keys() <= compose["services"].keys()


def test_the_image_copies_what_exists_and_runs_a_real_command(root):
    lines = (root / "deploy/Dockerfile").read_text(encoding="utf-8").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    sources = [source for line in copies for source in line]
    assert "uv.lock" in sources
    assert [source for source in sources if not (root / source).exists()] == []
    words = yaml.safe_load(next(line for line in lines if line.startswith("CMD ")).removeprefix("CMD "))
    assert command_faults(words) == []


def test_the_image_is_given_all_that_it_copies(root):
    kept = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    text = (root / "deploy/Dockerfile").read_text(encoding="utf-8")
    copied = {
        word.split("/")[0]
        for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)
        for word in line.split()
    }
    assert copied == kept


def test_every_alert_is_about_metrics_that_exist(alerts):
    assert {rule["alert"]: faults for rule in alerts if (faults := expression_faults(rule["expr"]))} == {}


def test_every_alert_has_its_runbook_and_every_runbook_its_alert(root, alerts):
    # Pages of alerts have their names; a page in lower case is a reference that several of them lead to.
    pages = {page.stem: page for page in (root / "deploy/runbooks").glob("[A-Z]*.md")}
    assert sorted(pages) == sorted(rule["alert"] for rule in alerts)
    for rule in alerts:
        assert rule["annotations"]["runbook"] == f"deploy/runbooks/{rule['alert']}.md"
        assert pages[rule["alert"]].read_text(encoding="utf-8").startswith(f"# {rule['alert']}\n")


def test_every_link_between_pages_leads_somewhere(root):
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "deploy").rglob("*.md")]
    assert {str(page.relative_to(root)): broken for page in pages if (broken := broken_links(page))} == {}


def broken_links(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_a_command_or_an_option_that_does_not_exist_is_found():
    assert command_faults(["dance"]) == ["nusagate has no command dance"]
    assert command_faults(["migrate", "--sideways"]) == ["migrate has no --sideways"]


def test_a_metric_a_label_or_a_value_that_does_not_exist_is_found():
    assert expression_faults("rate(nusagate_coffees_total[5m]) > 0") == [
        "there is no metric nusagate_coffees_total"
    ]
    assert expression_faults('nusagate_refusals_total{colour="red"}') == ["there is no label colour"]
    assert expression_faults("sum by (colour) (nusagate_refusals_total)") == ["there is no label colour"]
    assert expression_faults('nusagate_refusals_total{code="overloaded|shy"}') == ["code is never shy"]
    assert expression_faults("vector(1)") == ["the expression has no metric"]


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[here](page.md) [there](gone.md) [far](https://example.org/)")
    assert broken_links(page) == ["gone.md"]
