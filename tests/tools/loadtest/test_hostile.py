from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.loadtest.command import run_hostile
from stillframe.tools.loadtest.hostile import experiment, neighbours
from stillframe.tools.loadtest.hostile.experiment import _config_with_tokens, _Measurements
from stillframe.tools.loadtest.hostile.neighbours import KINDS, Daemon, run_neighbour
from stillframe.tools.loadtest.hostile.page import BEGIN, END, replace_table, table
from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.run import LoadResult
from stillframe.tools.loadtest.senders import SenderStats

LOAD = Load(1, 10.0, 1.0, "http")


def played(*latencies_s: float, due: int | None = None) -> LoadResult:
    """One robot's frames."""
    tally = SenderStats(due=len(latencies_s) if due is None else due, latencies_s=list(latencies_s))
    return LoadResult(LOAD, [tally], [], 1.0, 0.1, 0.0)


def seen(alone: list[float], beside: list[float], due: int | None = None) -> dict[str, Any]:
    """The figures of one daemon."""
    made = _Measurements()
    made.alone, made.beside = [played(*alone)], [played(*beside, due=due)]
    made.rss_mib = [(100.0, 150.0, 110.0), (101.0, 140.0, 120.0)]
    return made.figures(LOAD)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_neighbour_does_its_thing_and_the_daemon_goes_on(
    golden_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind reaches the daemon, a few times over; after it the daemon is as ready as before."""
    act, count = KINDS[kind]
    dialled: Counter[str] = Counter()
    dial = Daemon.dial

    async def counted(self: Daemon) -> Any:
        dialled[kind] += 1
        return await dial(self)

    monkeypatch.setattr(Daemon, "dial", counted)
    monkeypatch.setattr(neighbours, "KINDS", {kind: (act, min(count, 3))})
    url = httpx.URL(golden_url)
    asyncio.run(run_neighbour(kind, Daemon(url.host, url.port or 0, "token"), 0.3))

    assert dialled[kind] >= min(count, 3)
    assert httpx.get(f"{golden_url}/readyz", timeout=30, trust_env=False).status_code == 200


def test_kept_is_p99_within_a_quarter_and_a_step_and_hardly_a_frame_lost() -> None:
    """The step is what a frame takes alone at the median."""
    alone = [0.040] * 98 + [0.060] * 2

    assert seen(alone, [0.114] * 100)["within"]  # 1.25 x 60 + 40 = 115
    assert not seen(alone, [0.116] * 100)["within"]
    assert not seen(alone, [0.040] * 98, due=100)["within"]
    assert seen(alone, [0.040] * 99, due=100)["within"]


def test_memory_is_the_largest_of_all_rounds() -> None:
    """Before, at most, after."""
    assert seen([0.04], [0.04])["rss_mib"] == {"before": 101.0, "largest": 150.0, "after": 120.0}


def test_a_daemon_that_ended_is_no_figure() -> None:
    """It says how that showed."""
    made = _Measurements()
    made.ended, made.reason = True, "Unreachable: nothing answers"

    assert made.figures(LOAD) == {"ended": True, "reason": "Unreachable: nothing answers"}


def document() -> dict[str, Any]:
    """What a campaign brings back."""
    row = {"kind": "noise", "before": {"ended": True, "reason": "it ended"}, "now": seen([0.04] * 9, [0.05] * 9)}
    return {"machine": {"cpu": "a CPU", "cores": 2}, "hz": 10.0, "wire": "http", "rounds": 2, "kinds": [row]}


def test_a_page_has_the_table_between_its_marks(tmp_path: Path) -> None:
    """What stood there goes, what stands around it stays; a page without marks is told so."""
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    replace_table(page, document())
    replace_table(page, document())

    assert page.read_text(encoding="utf-8") == f"# Title\n{BEGIN}\n{table(document())}{END}\nafter\n"
    assert "| noise | now | 40 | 40 | 50 | 50 | 90 | 100.0 % | 101 / 150 / 120 | yes |" in table(document())
    assert "| noise | before | | | | | | 0 % | | no: it ended |" in table(document())
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the lines"):
        replace_table(page, document())


def test_each_is_let_in_by_a_token_of_its_own() -> None:
    """The configuration that is measured is the one named, with two tokens that it did not have."""
    with _config_with_tokens(Path("configs/jaco-tiny.yaml"), {"robot": "r" * 20, "neighbour": "n" * 20}, None) as file:
        config, plain = load_config(file, {}), load_config(Path("configs/jaco-tiny.yaml"), {})

    assert [token.name for token in config.tokens] == ["robot", "neighbour"]
    assert config.model_copy(update={"tokens": []}) == plain
    assert not config.one_caller


def test_a_kind_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a daemon is started, with the closest name."""
    monkeypatch.setattr(experiment, "started", None)
    with pytest.raises(ConfigError, match="Did you mean 'small requests'"):
        run_hostile(LOAD, 1, ["small request"], None, Path("configs/jaco-tiny.yaml"), None)  # type: ignore[arg-type]
