from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stillframe.cli import app
from stillframe.errors import Overloaded, StillframeError
from stillframe.sessions.settings import SessionSettings
from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe.tools.loadtest import run
from stillframe.tools.loadtest.command import LoadTest, run_loadtest
from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.report import figures
from stillframe.tools.loadtest.run import find_target, run_load
from stillframe.web.middleware.rate_limit import RateLimiter

WIRES = ("stream", "http", "openpi")
NOWHERE = Path("nowhere.yaml")
# Frames of a session may wait behind each other, however slow the machine is just now.
UNHURRIED = pytest.mark.parametrize("daemon", [{"sessions": SessionSettings(waiting=64)}], indirect=True, ids=[""])


def quick(**load):
    """Two robots, five frames each, in a quarter of a second."""
    return Load(**{"robots": 2, "hz": 20.0, "seconds": 0.25, "deadline_ms": 20_000, **load})


@UNHURRIED
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("wire", WIRES)
def test_every_frame_is_sent_and_answered_once(daemon, silent, wire):
    """Over every wire: each robot is a session, its frames are computed in order, and all are counted as answered."""
    played = run_load(quick(wire=wire), find_target(daemon.url), silent)
    by_session = {ref.id: [] for ref in daemon.policy.computed}
    for ref in daemon.policy.computed:
        by_session[ref.id].append(ref.seq)
    found = figures(played)

    assert list(by_session.values()) == [[0, 1, 2, 3, 4]] * 2
    assert found["frames"] == {
        "due": 10, "skipped": 0, "sent": 10, "answered": 10, "superseded": 0, "unanswered": 0, "problems": {}
    }  # fmt: skip
    assert found["within_deadline"] == {"frames": 10, "share": 1.0}
    assert found["fairness"]["jain_answered"] == 1.0
    assert len(found["fairness"]["robot_p99_ms"]) == 2
    assert found["reuse_ratio"] == (None if wire == "openpi" else 0.5)
    assert silent.looks > 0


@pytest.mark.parametrize("wire", WIRES)
def test_a_policy_that_reads_a_state_gets_one(silent, wire):
    """Robots at rest, over every wire: each frame is answered."""
    policy = EchoPolicy(policy_info(state=state_info("x", "y", "opening")))
    with running(policy) as url:
        played = run_load(quick(wire=wire, robots=1, hz=5.0, seconds=0.4), find_target(url), silent)

    assert figures(played)["frames"]["problems"] == {}
    assert [seen.state.tolist() for seen in policy.seen] == [[0.0] * 3] * len(policy.seen)
    assert policy.seen


@pytest.mark.parametrize("wire", WIRES)
def test_it_leaves_nothing_behind(daemon, silent, wire):
    """The robots' sessions are closed at the end, so that the next load finds the daemon as this one did."""
    run_load(quick(wire=wire), find_target(daemon.url), silent)
    left = {ref.id for ref in daemon.policy.taken}

    assert daemon.comes_true(lambda: set(daemon.policy.forgotten) == left)


@pytest.mark.parametrize("wire", WIRES)
def test_a_slow_daemon_makes_frames_late_not_fewer(daemon, silent, wire, monkeypatch):
    """Frames are due by the clock: of a daemon that never answers every frame is a miss, sent or skipped."""
    monkeypatch.setattr(run, "LAST_ANSWERS_S", 0.5)
    daemon.policy.go_on.clear()
    found = figures(run_load(quick(wire=wire), find_target(daemon.url), silent))

    assert found["frames"]["due"] == 10
    assert found["frames"]["sent"] == found["frames"]["unanswered"] == 4  # two a robot
    assert found["frames"]["skipped"] == 6
    assert found["within_deadline"]["share"] == 0.0
    assert found["latency_ms"]["p99"] is None


@pytest.mark.parametrize("wire", ["stream", "http"])
def test_in_realtime_the_newest_frame_wins(daemon, silent, wire):
    """Frames that a newer one overtook are counted as superseded, and are misses."""

    def go_on_after_three(policy):
        if len(policy.taken) >= 3:
            policy.go_on.set()

    daemon.policy.go_on.clear()
    daemon.policy.on_take = go_on_after_three
    found = figures(run_load(quick(wire=wire, robots=1, realtime=True), find_target(daemon.url), silent))

    assert found["frames"]["due"] == found["frames"]["sent"] == 5
    assert found["frames"]["superseded"] >= 1
    assert found["frames"]["answered"] + found["frames"]["superseded"] == 5
    assert found["within_deadline"]["share"] < 1.0


@pytest.mark.parametrize("wire", WIRES)
def test_problems_are_counted_by_code(daemon, silent, wire):
    """A frame that the daemon refuses is a miss under its problem's code."""
    daemon.policy.error = Overloaded("overloaded", "The device has had enough.")
    found = figures(run_load(quick(wire=wire), find_target(daemon.url), silent))

    frames = found["frames"]
    assert 0 < frames["sent"] <= frames["due"] == 10  # on a busy machine one may be due before the last is answered
    assert frames["problems"] == {"overloaded": frames["sent"]}
    assert found["within_deadline"]["share"] == 0.0


@pytest.mark.parametrize("daemon", [{}, {"frame_limiter": RateLimiter(50.0)}], indirect=True, ids=["", "limited"])
@pytest.mark.parametrize("wire", WIRES)
def test_a_flood_leaves_no_frame_of_others_unanswered(daemon, silent, wire):
    """Beside robots that send as fast as they can, every frame that the others sent is answered."""
    found = figures(run_load(quick(wire=wire, flood=2), find_target(daemon.url), silent))
    robots, flooders = found["frames"], found["flooders"]

    assert robots["answered"] == robots["sent"] > 0
    assert set(flooders["problems"]) <= {"session-busy", "rate-limited"}


@pytest.mark.parametrize("wire", ["stream", "http"])  # openpi is read one frame at a time: there is nothing to refuse
def test_a_flood_is_refused(daemon, silent, wire):
    """While its first frames are on the device, more of the flooder's are refused than wait; the robot's never are."""
    daemon.policy.go_on.clear()
    silent.on_look = lambda: daemon.policy.go_on.set() if daemon.refused("session-busy") else None
    found = figures(run_load(quick(wire=wire, robots=1, hz=10, seconds=0.5, flood=1), find_target(daemon.url), silent))

    assert found["flooders"]["problems"]["session-busy"] > 0
    assert found["frames"]["problems"] == {}


@pytest.mark.parametrize("wire", ["stream", "http"])
def test_a_daemon_that_stops_fails_no_frame_that_it_took(daemon, silent, wire):
    """Told to stop under load it computes what it has admitted, and says so to its robot; later frames are refused."""

    def stop_midway(policy):
        if len(policy.taken) == 8:
            daemon.stop()

    daemon.policy.on_take = stop_midway
    played = run_load(quick(wire=wire, robots=4, hz=20, seconds=2), find_target(daemon.url), silent)
    frames = figures(played)["frames"]

    assert frames["answered"] == len(daemon.policy.taken) >= 8
    assert set(frames["problems"]) <= {"draining", "unreachable"}
    assert frames["answered"] < 160


@pytest.mark.parametrize("wire", WIRES)
def test_frames_say_how_old_they_may_get(daemon, silent, wire):
    """With --max-age-ms every frame says so, over every wire; without, none does."""
    run_load(quick(wire=wire, max_age_ms=700), find_target(daemon.url), silent)
    limited, daemon.policy.ages_ms = daemon.policy.ages_ms, []
    run_load(quick(wire=wire), find_target(daemon.url), silent)

    assert all(age_ms <= 700 for age_ms in limited)
    assert all(age_ms > 700 for age_ms in daemon.policy.ages_ms)


@UNHURRIED
@pytest.mark.usefixtures("patient")
def test_the_command_measures_each_kind(daemon, silent):
    """One load, rounds, flooded rounds, capacity and overhead: each has its figures and a table."""
    kinds = {
        "fairness": LoadTest(quick()),
        "median": LoadTest(quick(), rounds=2),
        "p99_ratio": LoadTest(quick(flood=1), rounds=2),
        "capacity": LoadTest(quick(), capacity_up_to=2),
        "overhead": LoadTest(quick(), overhead_frames=2),
    }
    found = {name: run_loadtest(wanted, daemon.url, NOWHERE, None, silent) for name, wanted in kinds.items()}

    assert all(name in document for name, (document, _) in found.items())
    assert all(len(tables) == 1 for _, tables in found.values())
    assert found["capacity"][0]["capacity"] == 2
    assert [tried["load"]["robots"] for tried in found["capacity"][0]["tried"]] == [1, 2]
    assert [load.flood for load in silent.loads[3:7]] == [0, 1, 1, 0]
    assert set(found["overhead"][0]["overhead"]) == {"http json", "http msgpack", "stream"}


def test_the_command_line(daemon, tmp_path):
    """`stillframe loadtest URL --json F` prints a table and writes the figures with what they were measured on."""
    file = tmp_path / "new" / "figures.json"
    wanted = ["--robots", "1", "--hz", "20", "--seconds", "0.25", "--json", str(file)]
    done = CliRunner().invoke(app, ["loadtest", daemon.url, *wanted])

    assert done.exit_code == 0, done.output
    assert "1 robots at 20 Hz" in done.output
    assert '"cores"' in file.read_text()


def test_an_unreachable_daemon_is_an_error(silent):
    """Without a daemon at the address there is a line that says so."""
    with pytest.raises(StillframeError, match=r"127\.0\.0\.1:9"):
        run_loadtest(LoadTest(quick()), "http://127.0.0.1:9", NOWHERE, None, silent)


def test_no_address(silent):
    """What is no URL is said with an example."""
    with pytest.raises(StillframeError, match="expected something like"):
        run_loadtest(LoadTest(quick()), "daemon", NOWHERE, None, silent)
