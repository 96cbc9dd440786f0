"""What alerts and the dashboard ask for is told, and each alert says what to do."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

from app.api.metrics import Background, Standing
from app.database.chores import ChoreTally, Waiting
from app.exports.attention import AttentionKind
from app.exports.measures import LANE_STATES, Measures
from app.main import create_app
from app.metrics import REQUESTS, UPSTREAM_RESPONSES
from tests.test_containers import COMPOSE, OURS, ROOT
from tests.test_pages import part

FOLDER = ROOT / "deploy/observability"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/asana-exports.json").read_text())
GRAPHS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ASKED = [rule["expr"] for rule in RULES] + [target["expr"] for panel in GRAPHS for target in panel["targets"]]
PROMETHEUS: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
MONITORING = (ROOT / "docs/monitoring.md").read_text()
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
NOW = Measures(
    workers=1,
    lanes=dict.fromkeys(LANE_STATES, 0),
    queued=0,
    queue_oldest_seconds=0.0,
    slot_idle_seconds=0.0,
    attention=dict.fromkeys(AttentionKind, 0),
    eta_p90_hit_ratio=0.9,
)
SWEEP = ChoreTally(
    name="sweep", succeeded=1, failed=1, seconds=1.0, last_succeeded_at=datetime(2026, 1, 1, tzinfo=UTC)
)
CHORES = Background([SWEEP], [Waiting("mail", 1, 1.0)])
UPSTREAM_RESPONSES.labels("200")
for address in create_app().openapi()["paths"]:
    REQUESTS.labels(address, "200")
TOLD: list[Metric] = [
    metric
    for collector in (REGISTRY, Standing(NOW), CHORES)
    for metric in collector.collect()
    if metric.name.startswith("asana_exports_")
]
OF_PROCESSES = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}


def samples_of(metric: Metric) -> set[str]:
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(metric.type, [""])
    return {metric.name + end for end in ends}


def selectors(query: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """What a parsed query reads: names, with the labels they have to have."""
    if isinstance(query, promql_parser.VectorSelector):
        yield query.name or "", {each.name: each.value for each in query.matchers.matchers}
    parts = [getattr(query, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for each in [*parts, *getattr(query, "args", [])]:
        if each is not None:
            yield from selectors(each)


@pytest.mark.parametrize("expression", ASKED)
def test_a_query_is_well_formed_and_reads_what_is_told(expression: str) -> None:
    told = {name: metric for metric in TOLD for name in samples_of(metric)}
    read = list(selectors(promql_parser.parse(expression)))
    assert read
    for name, labels in read:
        assert name in told or name in OF_PROCESSES
        for label, value in labels.items():
            known = {sample.labels.get(label) for sample in told[name].samples} if name in told else set()
            assert label in {"job", "code"} or known.issuperset(value.split("|")), (name, label, value)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert f"\n## {rule['alert']}\n" in RUNBOOK


def test_the_runbook_is_about_alerts_that_there_are() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]
    queries = [promql_parser.parse(rule["expr"]) for rule in RULES]
    asked = {labels["kind"] for query in queries for _, labels in selectors(query) if "kind" in labels}
    assert asked == set(AttentionKind)


def test_every_metric_has_its_line() -> None:
    rows = [
        f"| `{name}` | {', '.join(f'`{label}`' for label in labels)} | {metric.documentation} |"
        for metric in sorted(TOLD, key=lambda metric: metric.name)
        for name in [metric.name + ("_total" if metric.type == "counter" else "")]
        for labels in [sorted({label for sample in metric.samples for label in sample.labels} - {"le"})]
    ]
    table = "\n".join(["| name | labels | |", "|---|---|---|", *rows]) + "\n"
    assert part("metrics", MONITORING) == table, f"the table should be:\n\n{table}"


def test_no_label_grows_with_what_the_service_serves() -> None:
    labels = {label for metric in TOLD for sample in metric.samples for label in sample.labels}
    assert labels == {
        "kind",
        "status",
        "code",
        "part",
        "what",
        "state",
        "chore",
        "outcome",
        "task",
        "route",
        "le",
    }


def test_prometheus_asks_where_processes_answer() -> None:
    ports = {
        job["job_name"]: {(tuple(found["names"]), found["port"]) for found in job["dns_sd_configs"]}
        for job in PROMETHEUS["scrape_configs"]
    }
    port = int(OURS["worker"]["environment"]["ASANA_EXPORTS_METRICS_PORT"])
    assert ports == {"api": {(("api",), 8080)}, "worker": {(("worker",), port)}}
    (key,) = COMPOSE["services"]["prometheus"]["secrets"]
    (api, _) = PROMETHEUS["scrape_configs"]
    assert api["authorization"]["credentials_file"] == f"/run/secrets/{key}"
    assert all((FOLDER / name).is_file() for name in PROMETHEUS["rule_files"])


def test_the_dashboard_reads_the_source_that_is_set_up() -> None:
    provisioned = FOLDER / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources/prometheus.yml").read_text())["datasources"]
    assert {target["datasource"]["uid"] for panel in GRAPHS for target in panel["targets"]} == {source["uid"]}
    (folder,) = yaml.safe_load((provisioned / "dashboards/dashboards.yml").read_text())["providers"]
    mounts = COMPOSE["services"]["grafana"]["volumes"]
    assert f"./deploy/observability/grafana/dashboards:{folder['options']['path']}:ro" in mounts
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(places) == len(set(places))


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, as of Debian's package prometheus")
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "--syntax-only", FOLDER / "prometheus.yml"),
        ("check", "rules", FOLDER / "alerts.yml"),
    ],
    ids=["config", "rules"],
)
def test_prometheus_understands_its_files(command: tuple[str | Path, ...]) -> None:
    subprocess.run(["promtool", *command], check=True, capture_output=True)
