"""The live page in a real browser: what it shows, how it is used without a mouse, and what it survives."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stillframe.sessions.settings import SessionSettings
from stillframe.web.live.settings import LiveSettings

PICTURES = os.environ.get("STILLFRAME_PICTURES")  # a folder in which screenshots are kept
SECRET = "front-0123456789abcdef"  # noqa: S105 (the token of the caller `front`, here alone)
SHOWN = "document.querySelectorAll('#cameras canvas').length"
PIXELS = """(() => {
  const canvas = document.querySelector('%s'), {width, height} = canvas;
  return [...new Set(canvas.getContext('2d').getImageData(0, 0, width, height).data)].length;
})()"""
PRINT = """(() => {
  const canvas = document.querySelector('#cameras canvas'), {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  return data.reduce((sum, one, at) => sum + one * (at % 97), 0);
})()"""
TAB, ENTER, LEFT = ("Tab", 9), ("Enter", 13, "\r"), ("ArrowLeft", 37)


@contextmanager
def moving(there: Any, session: str = "arm", words: str = "lift the lid") -> Iterator[None]:
    """Send frames while the block runs."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(0.05):
            there.act(session, words=words)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def focus(tab: Any, selector: str) -> None:
    """Reach an element with the Tab key alone."""
    for _ in range(40):
        tab.press(*TAB)
        if tab.ask(f"document.activeElement.matches('{selector}')"):
            return
    raise AssertionError(f"{selector} cannot be reached")


def test_it_shows_the_running_arm(arm: str, tab: Any, tmp_path: Path) -> None:
    """Pictures with their patches, every chart drawn, the contract; nothing from elsewhere, no complaint."""
    tab.open(f"{arm}/")
    tab.wait("document.querySelectorAll('.session').length === 2")
    tab.click(".session[title='jaco-left']")
    tab.wait("document.querySelectorAll('#keyframes li').length > 1")
    tab.wait("/[0-9]/.test(document.querySelector('#drift-figure').innerText)")
    tab.wait(SHOWN)

    assert tab.ask(PIXELS % "#cameras canvas") > 100
    for name in ("reuse", "latency", "drift", "passes", "memory"):
        assert tab.ask(PIXELS % f"#{name}-chart") > 4, name
        assert re.search("[0-9]", tab.text(f"#{name}-figure")), name
    assert "pick up the" in tab.text("#instruction")
    assert tab.text("#served") == "jaco-tiny on cpu, float32"
    assert "first-frame" in tab.text("#keyframes") or "reset" in tab.text("#keyframes")
    assert len(tab.ask("[...document.querySelectorAll('#action tbody tr')].map((row) => row.innerText)")) == 7
    assert "reuse.mode" in tab.ask("document.querySelector('#settings').textContent")
    assert {url.split("/")[2] for url in tab.requested if url.startswith("http")} == {arm.split("/")[2]}
    assert tab.faults == []
    keep_pictures(tab, Path(PICTURES) if PICTURES else tmp_path)


def keep_pictures(tab: Any, folder: Path) -> None:
    """Screenshots in both schemes, which differ."""
    folder.mkdir(parents=True, exist_ok=True)
    tab.resize(1440, 1064, 1.5 if PICTURES else 1)
    if PICTURES:
        tab.wait("Number(document.querySelector('#seek').max) >= 60")
    for scheme in ("light", "dark"):
        tab.scheme(scheme)
        tab.wait("document.querySelector('#badge').dataset.frame === 'delta'")
        tab.ask("new Promise((next) => setTimeout(next, 1500))")
        tab.screenshot(folder / f"live-{scheme}.png")

    assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(14, 20, 23)"
    assert (folder / "live-light.png").read_bytes() != (folder / "live-dark.png").read_bytes()


def test_a_screen_reader_is_told_what_the_pictures_show(daemon: Any, tab: Any) -> None:
    """Canvases have words for what is drawn, buttons and fields have names, the page has its landmarks."""
    there = daemon(cameras=("front", "wrist"))
    tab.open(f"{there.url}/")
    with moving(there):
        tab.wait(f"{SHOWN} === 2")
        tab.wait("document.querySelector('#reuse-chart').ariaLabel?.includes('mean')")
        names = tab.names()
    said = [name for role, name in names if role == "image"]

    assert [name for name in said if name.startswith("Camera wrist: of 16 patches 4 reused, 4 computed")]
    assert [name for name in said if name.startswith("Reuse ratio of ")]
    assert {"banner", "main", "navigation"} <= {role for role, _ in names}
    for role in ("button", "slider", "checkbox", "link", "image", "meter"):
        assert [name for kind, name in names if kind == role], role
        assert [name for kind, name in names if kind == role and not name.strip()] == [], role


def test_it_can_be_used_by_keyboard_alone(daemon: Any, tab: Any) -> None:
    """Pause, step back, go on; while it is paused the picture stays, whatever comes."""
    there = daemon()
    tab.open(f"{there.url}/")
    with moving(there):
        tab.wait("Number(document.querySelector('#seek').max) >= 4")
        focus(tab, "#pause")
        outlined = tab.ask("getComputedStyle(document.activeElement).outlineStyle")
        tab.press(*ENTER)
        tab.wait("document.querySelector('#pause').ariaPressed === 'true'")
        stood, newest = tab.text("#place"), int(tab.ask("document.querySelector('#seek').max"))
        tab.wait(f"Number(document.querySelector('#seek').max) > {newest}")
        still = tab.text("#place")
        focus(tab, "#seek")
        tab.press(*LEFT)
        tab.wait(f"!document.querySelector('#place').innerText.includes({frame_of(stood)!r})")
        before = tab.text("#place")
        tab.ask("document.querySelector('#pause').focus()")
        tab.press(*ENTER)
        tab.wait("document.querySelector('#pause').ariaPressed === 'false'")
        tab.wait(f"!document.querySelector('#place').innerText.includes({frame_of(stood)!r})")

    assert outlined == "solid"
    assert frame_of(still) == frame_of(stood)
    assert int(frame_of(before).split()[-1]) < int(frame_of(stood).split()[-1])
    assert tab.faults == []


def frame_of(place: str) -> str:
    """The frame in "episode 0, frame 7 (3 behind)"."""
    return place.split(", ")[1].split(" (")[0]


def test_each_mark_can_be_left_out(daemon: Any, tab: Any, until: Any) -> None:
    """The picture changes with every box, and is as before when all are ticked again."""
    there = daemon()
    tab.open(f"{there.url}/")
    with moving(there):
        tab.wait("document.querySelector('#badge').dataset.frame === 'delta'")
        tab.wait(SHOWN)
    tab.click("#pause")
    prints = [tab.ask(PRINT)]
    for fate in range(4):
        tab.click(f"[data-fate='{fate}']")
        until(lambda: tab.ask(PRINT) != prints[-1])
        prints.append(tab.ask(PRINT))
    for fate in range(4):
        tab.click(f"[data-fate='{fate}']")

    assert len({*prints}) == 5
    until(lambda: tab.ask(PRINT) == prints[0])


def test_a_dropped_connection_is_said_and_taken_up_again(daemon: Any, relay: Any, tab: Any) -> None:
    """The last picture stays, marked as old; when the daemon is back so is the feed, and frames go on."""
    there = daemon()
    with relay(there.url) as cable, moving(there):
        tab.open(f"{cable.url}/")
        tab.wait(SHOWN)
        cable.cut()
        tab.wait("document.querySelector('#feed-state').innerText.includes('connection lost')")
        filtered = tab.ask("getComputedStyle(document.querySelector('#cameras canvas')).filter")
        seen = int(tab.ask("document.querySelector('#seek').max"))
        cable.mend()
        tab.wait("document.querySelector('#feed-state').innerText.startsWith('live')")
        tab.wait(f"Number(document.querySelector('#seek').max) > {seen}")
        then = tab.ask("getComputedStyle(document.querySelector('#cameras canvas')).filter")
        told = int(tab.ask("document.querySelector('#reuse-chart').ariaLabel").split()[3])

    assert "grayscale" in filtered
    assert then == "none"
    assert told <= len(there.policy.seen)  # frames that are told again are not counted again


def test_a_connection_that_falls_silent_is_noticed(daemon: Any, relay: Any, tab: Any) -> None:
    """The daemon speaks every second: a link that is gone without a word is no robot at rest."""
    there = daemon()
    with relay(there.url) as cable, moving(there):
        tab.open(f"{cable.url}/")
        tab.wait(SHOWN)
        cable.freeze()
        tab.wait("document.querySelector('#feed-state').innerText.includes('connection lost')")
        cable.cut()
        cable.mend()
        tab.wait("document.querySelector('#feed-state').innerText.startsWith('live')")


def test_an_eviction_is_said_and_the_next_session_followed(daemon: Any, tab: Any) -> None:
    """What became of the session that was watched stands there, and the newcomer is shown in its place."""
    there = daemon(sessions=SessionSettings(most=1, lease_s=0))
    there.act()
    tab.open(f"{there.url}/")
    tab.wait("document.querySelector('#session-title').innerText === 'arm'")
    with moving(there, "newcomer"):
        tab.wait("document.querySelector('#session-title').innerText === 'newcomer'")
        tab.wait(SHOWN)

    assert "arm was evicted" in tab.text("#notice")
    assert "arm evicted" in tab.text("#ended")
    assert tab.ask("document.querySelectorAll('.session').length") == 1
    assert tab.faults == []


def test_a_chosen_session_is_kept_when_it_ends(daemon: Any, tab: Any) -> None:
    """Its last frame stays in sight, and nothing else takes its place unasked."""
    there = daemon(sessions=SessionSettings(most=2, lease_s=0))
    for session in ("left", "right"):
        there.act(session)
    tab.open(f"{there.url}/")
    tab.wait("document.querySelectorAll('.session').length === 2")
    tab.click(".session[title='left']")
    tab.wait("document.querySelector('#session-title').innerText === 'left'")
    tab.wait("document.querySelector('.session[title=left]').ariaCurrent === 'true'")
    with moving(there, "left"):
        tab.wait(SHOWN)
    with moving(there, "right"), moving(there, "third"):
        tab.wait("document.querySelector('#notice').innerText.includes('left was evicted')")
        tab.wait("[...document.querySelectorAll('.session')].some((one) => one.title === 'third')")

    assert tab.text("#session-title") == "left"
    assert tab.ask(SHOWN) == 1
    assert tab.ask("document.body.dataset.watched") == "over"


def test_it_asks_for_a_token_and_keeps_it_in_the_tab(daemon: Any, tab: Any) -> None:
    """A wrong one is asked for again; the right one shows its own sessions, and is kept nowhere else."""
    there = daemon(tokens=("front", "back"))
    there.act("mine", "front")
    there.act("theirs", "back")
    tab.open(f"{there.url}/")
    for word in ("wrong", SECRET):
        tab.wait("document.querySelector('#token-dialog').open && document.activeElement.id === 'token'")
        tab.write(word)
        tab.press(*ENTER)
        if word == "wrong":
            tab.wait("document.querySelector('#token-reason').innerText.includes('not known here')")
    tab.wait("document.querySelectorAll('.session').length")
    shown = tab.ask("[...document.querySelectorAll('.session')].map((one) => one.title)")
    tab.command("Page.reload")
    tab.wait("document.readyState === 'complete' && document.querySelectorAll('.session').length")

    assert shown == ["mine"]
    assert tab.ask("document.querySelector('#token-dialog').open") is False
    assert tab.ask("[document.cookie, localStorage.length]") == ["", 0]
    assert not [url for url in tab.requested if SECRET in url]
    assert SECRET not in tab.ask("document.documentElement.outerHTML")


def test_names_and_words_are_text(daemon: Any, tab: Any) -> None:
    """What a robot calls itself and is told is shown letter for letter, and runs nowhere."""
    there, bad = daemon(), "<img src=x onerror=document.title='owned'>"
    tab.open(f"{there.url}/")
    with moving(there, bad, words=f"lift {bad}"):
        tab.wait(SHOWN)

    assert tab.text("#session-title") == bad
    assert bad in tab.text("#instruction")
    assert tab.ask("document.title") == "stillframe"
    assert tab.faults == []


@pytest.mark.parametrize("page", ["", "live"])
def test_it_works_below_a_path(daemon: Any, relay: Any, tab: Any, page: str) -> None:
    """Behind a proxy that serves the daemon under a prefix, pages, files, feed and links stay below it."""
    there = daemon()
    with relay(there.url, "/robots/seven") as proxy, moving(there):
        tab.open(f"{proxy.url}/{page}")
        tab.wait(SHOWN)
        tab.click("a[href='docs']")
        tab.wait("document.querySelectorAll('#groups details').length > 5")

    assert tab.ask("location.pathname") == "/robots/seven/docs"
    assert [url for url in tab.requested if url.startswith("http") and "/robots/seven/" not in url] == []
    assert tab.faults == []


def test_one_watcher_too_many_is_told_why_and_let_in_later(daemon: Any, browser: Any, tab: Any) -> None:
    """The second page says what the daemon said, and goes on by itself once there is room."""
    there = daemon(live=LiveSettings(most=1, rate_hz=20))
    there.act()
    with browser.tab() as first:
        first.open(f"{there.url}/")
        first.wait("document.querySelector('#feed-state').innerText.startsWith('live')")
        tab.open(f"{there.url}/")
        tab.wait("document.querySelector('#feed-state').innerText.startsWith('refused')")
        told = tab.text("#notice")
    tab.wait("document.querySelector('#feed-state').innerText.startsWith('live')")

    assert "as many are open as may be" in told
    assert tab.text("#notice") == ""


@pytest.mark.parametrize("width", [360, 800, 1280, 2200])
def test_nothing_is_cut_off(daemon: Any, tab: Any, width: int) -> None:
    """On a telephone and on a wide screen: no sideways scrolling."""
    there = daemon(cameras=("front", "wrist"))
    tab.resize(width, 900)
    tab.open(f"{there.url}/")
    with moving(there, "a-session-with-a-rather-long-name-0123456789abcdef"):
        tab.wait(SHOWN)

    assert tab.ask("document.documentElement.scrollWidth") <= width


def test_the_api_is_there_to_read(daemon: Any, tab: Any) -> None:
    """Every route of openapi.json with its members, without a script from elsewhere; a search narrows it."""
    there = daemon(tokens=("front",))
    tab.open(f"{there.url}/docs#post-v1-act")
    tab.wait("document.querySelector('#token-dialog').open")
    tab.write(SECRET)
    tab.press(*ENTER)
    tab.wait("document.querySelectorAll('#groups details.card').length > 10")
    act = "document.getElementById('post-v1-act')"
    words = tab.ask(f"{act}.textContent")
    tab.ask("document.getElementById('search').focus()")
    tab.write("unnorm_key")
    tab.wait("document.querySelectorAll('#groups details.card[hidden]').length > 5")

    assert tab.ask(f"{act}.open") is True
    assert all(word in words for word in ("instruction", "session_id", "max_age_ms", "base64 of a JPEG"))
    assert tab.ask(f"{act}.hidden") is False
    assert [fault for fault in tab.faults if "401" not in fault] == []
