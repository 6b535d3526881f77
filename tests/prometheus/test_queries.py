"""Every query of the shipped dashboards and rules, asked of a real Prometheus that scrapes two daemons under load.

One daemon has a policy that says actions as tokens and looks at older frames, and records; the other draws chunks. With
STILLFRAME_PICTURES, a folder, the dashboards are drawn into it from some minutes of these answers.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from stillframe.tools.charts import save_figure
from stillframe.tools.local_daemon import daemon
from stillframe_client import DeadlineExceeded, PolicyClient, Refused
from stillframe_lab.dashboards.answers import Series, Span, ask_range
from stillframe_lab.dashboards.drawing import draw
from stillframe_lab.dashboards.panels import Dashboard, Query

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DASHBOARDS = [Dashboard.read(file) for file in sorted((DOCKER / "grafana/dashboards").glob("*.json"))]
QUERIES = [(panel.title, query) for dashboard in DASHBOARDS for panel in dashboard.panels for query in panel.queries]
RULES = [rule for group in yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
VARIABLES = {"job": ".+", "instance": ".+", "__rate_interval": "1m"}  # as Grafana fills them in, with all chosen
ON_A_GPU = re.compile(r"stillframe_(graph_replays|eager_passes|gpu_memory)")  # what a CPU has none of
WORDS = "pick up the red cube"
EVERY_S = 3  # between two scrapes: a busy machine takes its time for one
SOON_S = 120.0
PICTURES = os.environ.get("STILLFRAME_PICTURES")  # a folder in which pictures of the dashboards are kept
SEEN_S = 180.0 if PICTURES else 20.0  # of the daemons' time, on a picture

KV_BUDGET_MIB = 4.5  # room for three of the sessions

Ask = Callable[[str], list[float]]


@dataclass(frozen=True)
class Robot:
    """How one robot goes about it. What is in the way for so many seconds comes and goes."""

    session: str
    rest_s: float = 0.5  # between one burst of frames and the next
    moving_s: float = 0.0  # for so long something moves before its camera, then it rests for so long
    away_s: float = 0.0  # for so long it is there, then it is gone for so long
    options: dict[str, Any] = field(default_factory=dict)  # of its frames

    def drive(self, url: str, over: threading.Event) -> None:
        """Until it is over."""
        began_s, scene = time.monotonic(), np.random.default_rng(7).integers(0, 256, (6, 8, 3), np.uint8)
        with PolicyClient(url, timeout_s=60, session=self.session) as client:
            state = {"state": np.zeros(len(named.names))} if (named := client.info().state) else {}
            while not over.is_set():
                since_s = time.monotonic() - began_s
                picture = scene.repeat(10, 0).repeat(10, 1)
                for at in range(0 if comes_and_goes(since_s, self.away_s) else 4):
                    if not comes_and_goes(since_s, self.moving_s, first=False):
                        picture[10:40, 10 * at : 10 * at + 20] = scene[at, at]
                    with suppress(DeadlineExceeded):
                        client.act(picture, WORDS, **state, **self.options)
                if not self.away_s:
                    with suppress(Refused):
                        client.act(picture, WORDS, unnorm_key="another robot's", **state)
                over.wait(self.rest_s)


def comes_and_goes(since_s: float, every_s: float, *, first: bool = True) -> bool:
    """Whether it is the turn of what takes turns every so many seconds: not at first, or at first; 0: `not first`."""
    return (since_s // every_s % 2 == 1) if every_s else not first


ROBOTS = {
    "jaco-tiny-memory": [
        Robot("still"),
        Robot("reaching", moving_s=20.0),
        Robot("hurried", rest_s=0.8, options={"max_age_ms": 120.0}),
        Robot("visitor", rest_s=0.7, away_s=25.0),
    ],
    "jaco-tiny-pi0": [
        Robot("chunks", options={"slack_ms": 250.0, "rtc": {"delay_steps": 1, "executed_steps": 5}}),
        Robot("swaying", rest_s=0.8, moving_s=30.0),
    ],
    "jaco-tiny": [Robot("shadowed", moving_s=20.0)],
}


@pytest.fixture(scope="module")
def program(tool: Callable[[str], str]) -> str:
    """Prometheus; without it nothing is started."""
    return tool("prometheus")


@pytest.fixture(scope="module")
def daemons(
    program: str,  # noqa: ARG001 (it skips)
    tmp_path_factory: pytest.TempPathFactory,
    new_port: Callable[[], int],
) -> Iterator[list[str]]:
    """The addresses of three real ones, each with a robot that drives it until the tests are done."""
    folder = tmp_path_factory.mktemp("daemons")
    settings: dict[str, dict[str, Any]] = {
        "jaco-tiny-memory": {
            "record": str(folder / "episodes"),
            "sessions": {"most": 8},
            "reuse": {"mode": "adaptive", "drift_budget": 0.02, "kv_budget_mib": KV_BUDGET_MIB},
        },
        "jaco-tiny-pi0": {},
        # Never refreshed, so that keyframes are audited; its idle time is the shadow's.
        "jaco-tiny": {
            "reuse": {"mode": "adaptive", "drift_budget": 0.02, "slack": False},
            "shadow": {"checkpoint": str(ROOT / "checkpoints" / "jaco-tiny")},
        },
    }
    with ExitStack() as running:
        urls = []
        for name, more in settings.items():
            config = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text()) | more
            file = folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump({**config, "checkpoint": str(ROOT / "checkpoints" / name)}))
            urls.append(running.enter_context(daemon([str(file)], new_port())))
        for url, name in zip(urls, settings, strict=True):
            for robot in ROBOTS[name]:
                running.enter_context(driven(url, robot))
        yield urls


@contextmanager
def driven(url: str, robot: Robot) -> Iterator[None]:
    """A robot sends frames until the tests are done: some on each other's heels, one that is rejected, then a pause."""
    over = threading.Event()
    driver = threading.Thread(target=robot.drive, args=(url, over))
    driver.start()
    try:
        yield
    finally:
        over.set()
        driver.join()


@pytest.fixture(scope="module")
def prometheus_api(
    program: str,
    daemons: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    new_port: Callable[[], int],
) -> Iterator[httpx.Client]:
    """The API of a real one: the shipped configuration with other targets, the shipped rules, every few seconds."""
    folder, port = tmp_path_factory.mktemp("prometheus"), new_port()
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], f"{EVERY_S}s")
    config["rule_files"] = [str(DOCKER / Path(named).name) for named in config["rule_files"]]
    targets = [url.removeprefix("http://") for url in daemons]
    config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    words = [f"--config.file={file}", f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen([program, *words, "--log.level=error"])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=SOON_S) as client:
            wait_until(lambda: is_ready(client))
            yield client
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def ask(prometheus_api: httpx.Client) -> Ask:
    """What Prometheus answers to a query now: a value for each series. An invalid one fails the test."""

    def values(query: str) -> list[float]:
        reply = prometheus_api.get("/api/v1/query", params={"query": query}).json()
        assert reply["status"] == "success", reply
        return [float(series["value"][1]) for series in reply["data"]["result"]]

    return values


def is_ready(client: httpx.Client) -> bool:
    """Whether it answers queries."""
    with suppress(httpx.TransportError):
        return client.get("/-/ready").is_success
    return False


def wait_until(holds: Callable[[], Any]) -> Any:
    """What it gives once that is true, or at the end: waits for long but not forever."""
    until_s = time.monotonic() + SOON_S
    while not (found := holds()) and time.monotonic() < until_s:
        time.sleep(0.5)
    return found


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=lambda value: getattr(value, "expr", None))
def test_panel_has_data(title: str, query: Query, ask: Ask) -> None:
    """Numbers, where the daemons have met what it shows; of a GPU there is nothing here."""
    asked = query.filled_in(VARIABLES)

    if ON_A_GPU.search(asked):
        assert ask(asked) == []
        return
    assert wait_until(lambda: any(map(math.isfinite, ask(asked)))), title


@pytest.mark.parametrize("name", ["job", "instance"])
def test_daemons_can_be_chosen(name: str, prometheus_api: httpx.Client, ask: Ask, daemons: list[str]) -> None:
    """$job and $instance, each label_values(SELECTOR, LABEL), list the shipped configuration's job and its daemons."""
    dashboard = json.loads((DOCKER / "grafana/dashboards/fleet.json").read_text())
    (variable,) = [variable for variable in dashboard["templating"]["list"] if variable["name"] == name]
    selector, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
    selector = Query(selector, "").filled_in(VARIABLES)
    wait_until(lambda: len(ask(selector)) == len(daemons))
    values = prometheus_api.get(f"/api/v1/label/{label}/values", params={"match[]": selector}).json()["data"]

    assert values == {"job": ["stillframe"], "instance": sorted(url.removeprefix("http://") for url in daemons)}[name]


@pytest.mark.parametrize("name", ["job", "instance"])
def test_what_is_not_chosen_is_not_shown(name: str, ask: Ask) -> None:
    """With a job or a daemon that there is not, no panel has a value."""
    chosen = VARIABLES | {name: "another"}

    assert [query.expr for _, query in QUERIES if ask(query.filled_in(chosen))] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_has_both_its_sides(rule: dict[str, Any], ask: Ask, daemons: list[str]) -> None:
    """Asked with `bool`, its comparisons answer 0 or 1 for each daemon that has what it asks about."""
    asked = re.sub(r" ([<>]=?|[!=]=) ", r" \1 bool ", rule["expr"])
    those = 1 if "stillframe_recording" in asked else len(daemons)  # one records

    assert asked != rule["expr"]
    assert set(wait_until(lambda: len(found := ask(asked)) == those and found)) <= {0.0, 1.0}


def test_rules_are_evaluated(prometheus_api: httpx.Client) -> None:
    """Prometheus has all of the shipped rules, and none of them fails."""

    def health() -> dict[str, str]:
        groups = prometheus_api.get("/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    wait_until(lambda: "unknown" not in health().values())

    assert health() == dict.fromkeys((rule["alert"] for rule in RULES), "ok")


@pytest.mark.parametrize(
    "query",
    [
        'stillframe_frames_total{outcome="answered"}',
        'stillframe_frames_total{outcome="rejected"}',
        'stillframe_recording_frames_total{result="kept"}',
        'stillframe_reuse_ratio_sum{mode="adaptive"}',
        "stillframe_drift_count",
        "stillframe_audit_drift_count",
        "stillframe_shadow_drift_count",
        "stillframe_chunk_drift_count",
        "stillframe_history_utility_count",
        "stillframe_draft_accepted_tokens_count",
        "stillframe_slack_yield_seconds_count",
    ],
)
def test_load_is_one(query: str, ask: Ask) -> None:
    """The robots bring about what panels are asked for: otherwise zeros would do."""
    assert wait_until(lambda: max(ask(query), default=0.0) > 0)


def test_daemons_expose_what_the_registry_of_the_tests_has(daemons: list[str], registry: CollectorRegistry) -> None:
    """All of it, but for what a GPU counts; so that the page and the dashboard are held to the whole."""
    exposed = {
        family.name
        for url in daemons
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", trust_env=False).text)
        if not family.name.endswith("_created")
    }
    known = {f"{metric.name}_info" if metric.type == "info" else metric.name for metric in registry.collect()}

    assert exposed == {name for name in known if not ON_A_GPU.match(name)}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_dashboard_is_drawn(dashboard: Dashboard, prometheus_api: httpx.Client, ask: Ask, tmp_path: Path) -> None:
    """From the answers to its own queries over time; all panels have some, but for a GPU's."""
    wait_until(lambda: min(ask("count_over_time(up[10m])"), default=0) * EVERY_S >= SEEN_S)
    now_s = time.time()
    variables, span = VARIABLES | {"__rate_interval": "15s"}, Span(now_s - SEEN_S, now_s, 2.0)
    empty: list[str] = []

    def asked(query: Query) -> list[Series]:
        found = ask_range(prometheus_api, query.filled_in(variables), span)
        if not any(np.isfinite(series.values).any() for series in found):
            empty.append(query.expr)
        return found

    file = Path(PICTURES or tmp_path) / f"{dashboard.name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_figure(draw(dashboard, asked), file, dpi=100)

    assert [expr for expr in empty if not ON_A_GPU.search(expr)] == []
    with Image.open(file) as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 100
