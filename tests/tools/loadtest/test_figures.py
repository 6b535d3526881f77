from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import ConfigError
from stillframe.tools.loadtest.experiments import compare_flood, find_capacity, measure_capacity, repeat_rounds
from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.report import figures, jain, load_table
from stillframe.tools.loadtest.run import LoadResult
from stillframe.tools.loadtest.senders import SenderStats
from stillframe.tools.loadtest.transports.base import as_jpeg, pictures
from stillframe.tools.machine import machine


def tally(*latencies_s, **counts):
    """A robot with these answers."""
    sent = len(latencies_s) + counts.get("superseded", 0) + counts.get("unanswered", 0)
    sent += Counter(counts.get("problems", {})).total()
    made = SenderStats(due=sent + counts.get("skipped", 0), sent=sent, latencies_s=[*latencies_s], **counts)
    made.check()
    return made


def played(*robots, **load):
    """What came of a load."""
    return LoadResult(Load(**load), robots, (), took_s=1.0, cpu_share=0.01, load_average=0.0)


def found_of(load, p99_s, share=1.0):
    """Figures as a load with these would have them."""
    within, late = round(1000 * share), round(1000 * (1 - share))
    robots = [tally(*[p99_s] * within, *[9.0] * late)] * load.robots
    return figures(LoadResult(load, robots, (), took_s=1.0, cpu_share=0.01, load_average=0.0))


@given(st.integers(0, 40), st.integers(1, 40))
def test_capacity_is_the_largest_that_holds(limit, most):
    """Wherever the limit lies, up to the most that may be tried, and nothing is tried twice."""
    tried = []

    def holds(robots):
        tried.append(robots)
        return robots <= limit

    assert find_capacity(holds, most) == min(limit, most)
    assert len(tried) == len(set(tried))
    assert all(1 <= robots <= most for robots in tried)


def test_misses_of_every_kind_count():
    """Late, skipped, superseded, refused, unanswered: none of them is within the deadline, all of them were due."""
    robot = tally(0.1, 0.2, 0.3, skipped=1, superseded=2, unanswered=3, problems=Counter({"overloaded": 4}))
    found = figures(played(robot, deadline_ms=200))

    assert found["frames"]["due"] == 13
    assert found["within_deadline"] == {"frames": 2, "share": 2 / 13}


def test_fairness_finds_who_is_served_worse():
    """The worst robot's p99 against the median's, and Jain's index over answers."""
    found = figures(played(tally(0.1), tally(0.1), tally(0.4, 0.4)))

    assert found["fairness"]["worst_over_median_p99"] == pytest.approx(4.0)
    assert found["fairness"]["jain_answered"] == pytest.approx(16 / 18, abs=1e-3)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_jains_index_lies_between_one_share_and_one(shares):
    """1/n where one has everything, 1 where all have the same; none where nobody has anything."""
    index = jain(shares)

    assert index is None if not any(shares) else 1 / len(shares) - 1e-3 <= index <= 1


def test_nothing_answered_has_figures_and_a_table():
    """A daemon that answers nobody is reported, not divided by."""
    found = figures(played(tally(unanswered=2)))

    assert found["latency_ms"]["p50"] is None
    assert found["fairness"]["worst_over_median_p99"] is None
    assert load_table(found).row_count > 5


def test_a_frame_counted_twice_is_noticed():
    """The counts have to add up."""
    with pytest.raises(AssertionError):
        SenderStats(due=1, sent=1, latencies_s=[0.1], superseded=1).check()


def test_a_flood_is_compared_round_by_round():
    """Each round has the same phases with and without; the order changes; the median ratio is the figure."""
    measured = []

    def measure(load):
        measured.append((load.seed, load.flood))
        return found_of(load, 0.1 * (1 + load.flood * (1 + load.seed)))

    found = compare_flood(Load(robots=2, flood=1), 3, measure)

    assert measured == [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]
    assert found["p99_ratios"] == pytest.approx([2, 3, 4], abs=1e-2)
    assert found["p99_ratio"] == pytest.approx(3, abs=1e-2)
    assert found["calm"]["p99"] == pytest.approx(100)


def test_rounds_have_other_phases():
    """The median of rounds is over other lies of the robots' periods."""
    seeds = []

    def measure(load):
        seeds.append(load.seed)
        return found_of(load, 0.01 * (1 + load.seed))

    assert repeat_rounds(Load(), 3, measure)["median"]["p99"] == pytest.approx(20)
    assert seeds == [0, 1, 2]


def test_capacity_wants_995_of_1000_in_time():
    """A number of robots holds with 99.5 % of their frames in time, and does not with less."""
    shares = {1: 1.0, 2: 0.995, 3: 0.994, 4: 0.9}

    assert measure_capacity(Load(), 4, lambda load: found_of(load, 0.1, shares[load.robots]))["capacity"] == 2


def test_phases_lie_within_a_period():
    """Random phases repeat with their seed; even ones are spread, those together are zero."""
    load = Load(robots=4, hz=5)

    assert load.offsets_s() == Load(robots=4, hz=5).offsets_s() != Load(robots=4, hz=5, seed=1).offsets_s()
    assert all(0 <= offset_s < 0.2 for offset_s in load.offsets_s())
    assert Load(robots=4, hz=5, phases="even").offsets_s() == pytest.approx([0, 0.05, 0.1, 0.15])
    assert Load(robots=2, phases="together").offsets_s() == [0.0, 0.0]


@pytest.mark.parametrize(
    "load", [{"realtime": True, "wire": "openpi"}, {"hz": 0}, {"hz": float("nan")}, {"seconds": 0.01}]
)
def test_what_cannot_be_played_is_refused(load):
    """Realtime is not for openpi's wire; a robot sends at least one frame."""
    with pytest.raises(ConfigError, match="--"):
        Load(**load)


def test_pictures_change_a_little():
    """From one to the next, the last to the first too, something moves, and most of the picture stays as it was."""
    views = pictures()
    changed = [float((one != other).mean()) for one, other in zip(views, [*views[1:], views[0]], strict=True)]

    assert all(0 < share < 0.05 for share in changed)
    assert all(as_jpeg(view)[:2] == b"\xff\xd8" for view in views)


def test_the_machine_is_described(tmp_path):
    """Processor, cores, load; a system without the file has a name too."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: AMD EPYC\n")

    assert machine(file)["cpu"] == "AMD EPYC"
    assert machine(tmp_path / "none")["cpu"]
    assert machine()["cores"] >= 1
