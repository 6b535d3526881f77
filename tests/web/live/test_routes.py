"""The live page's routes over real HTTP: what needs no token, which sessions a caller sees, what a watcher is sent."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from stillframe.sessions.settings import SessionSettings
from stillframe.web.live.settings import LiveSettings

SHELLS = ("/", "/live", "/docs")


@pytest.mark.parametrize("path", SHELLS)
def test_a_page_is_open_to_all_and_says_nothing(house: Any, path: str) -> None:
    """A browser cannot send a token before it has the page; nothing of the deployment is in it."""
    there = house(tokens=True)
    there.act("secret-arm", "front")
    reply = there.get(path)

    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not [word for word in ("secret-arm", "front", there.policy.info.name) if word in reply.text]


@pytest.mark.parametrize("path", [*SHELLS, "/live/static/live.js", "/live/static/page.css", "/live/static/icon.svg"])
def test_a_page_may_load_from_its_own_daemon_only(house: Any, path: str) -> None:
    """Scripts, styles, pictures and requests; nothing inline, no frame round it, no type guessed."""
    headers = house().get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))

    assert policy.pop("require-trusted-types-for") == "'script'"
    assert {*policy.values()} == {"'none'", "'self'"}
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", SHELLS)
def test_a_page_has_nothing_that_its_policy_forbids(house: Any, path: str) -> None:
    """No script, style or handler in the HTML, no address but relative ones: it works below any prefix, and offline."""
    text = house().get(path).text

    assert text.count("<script") == text.count('<script type="module" src="live/static/') == 1
    assert not [bad for bad in ("<style", " style=", " onclick=", "://", 'src="/', 'href="/') if bad in text]


def test_every_file_of_the_pages_is_there(house: Any) -> None:
    """What pages and modules name is served, as its own type."""
    there, seen, due = house(), set(), ["live.js", "docs.js", "page.css", "live.css", "docs.css", "icon.svg"]
    while due:
        name = due.pop()
        reply = there.get(f"/live/static/{name}")
        seen.add(name)
        assert reply.status_code == 200, name
        assert reply.headers["content-type"].split(";")[0] in {"text/javascript", "text/css", "image/svg+xml"}
        imports = [line.split('"./')[1].split('"')[0] for line in reply.text.splitlines() if 'from "./' in line]
        due += [other for other in imports if other not in seen and name.endswith(".js")]

    assert {"feed.js", "overlay.js", "charts.js", "token.js"} <= seen


@pytest.mark.parametrize(
    "path",
    [
        "/live/static/",
        "/live/static/nothing.js",
        "/live/static/..%2f..%2froutes.py",
        "/live/static/live.html",
        "/live/",
    ],
)
def test_nothing_else_is_there(house: Any, path: str) -> None:
    """Files are served by exact name: no path reaches the disk."""
    assert house().get(path).status_code == 404


def test_a_browser_asks_whether_a_file_is_still_the_same(house: Any) -> None:
    """It is told so without the file; HEAD has no body either."""
    there = house()
    first = there.get("/live/static/live.js")
    again = there.get("/live/static/live.js", headers={"If-None-Match": first.headers["etag"]})
    head = there.http.head(there.url + "/")

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert (head.status_code, head.content) == (200, b"")


def test_the_pages_are_no_part_of_the_api(house: Any) -> None:
    """/openapi.json is for programs: it has no page and no feed."""
    assert not [
        path
        for path in house().get("/openapi.json").json()["paths"]
        if path in SHELLS or ("/live" in path and path != "/livez")
    ]


def test_a_daemon_may_have_no_page(house: Any) -> None:
    """Then a browser gets what it got before, and Prometheus no metric of it."""
    there = house(live=LiveSettings(enabled=False))

    assert [
        there.get(path).status_code for path in (*SHELLS, "/live/feed", "/live/sessions", "/live/static/live.js")
    ] == [404] * 6
    assert "stillframe_live" not in there.get("/metrics").text


@pytest.mark.parametrize(("as_", "status"), [(None, 401), ("stranger", 401), ("none", 403)])
def test_the_feed_needs_a_token_that_may_see_sessions(house: Any, refused: Any, as_: str | None, status: int) -> None:
    """As /v1/sessions does, with the same problems."""
    there = house(tokens=True)
    with pytest.raises(refused) as caught, there.watch(as_=as_):
        pass
    listed = there.get("/v1/sessions", as_)

    assert caught.value.reply.status_code == listed.status_code == status
    assert caught.value.reply.json()["code"] == listed.json()["code"]


def test_a_caller_sees_its_own_sessions_an_admin_all(house: Any) -> None:
    """Two callers' arms of one name are two; what ended is shown to its owner alone too."""
    there = house(tokens=True)
    for as_ in ("front", "back"):
        there.act("arm", as_)
        there.act("gone", as_)
        assert there.http.delete(there.url + "/v1/sessions/gone", headers={"X-Api-Key": as_}).status_code == 204
    listed, ended = {}, {}
    for as_ in ("front", "back", "boss"):
        with there.watch(as_=as_) as watching:
            told = watching.until("sessions")
        listed[as_] = [(one["owner"], one["id"]) for one in told["sessions"]]
        ended[as_] = [(one["owner"], one["id"], one["state"]) for one in told["ended"]]

    assert listed == {
        "front": [("front", "arm")],
        "back": [("back", "arm")],
        "boss": [("front", "arm"), ("back", "arm")],
    }
    assert ended["front"] == [("front", "gone", "closed")]
    assert ended["boss"] == [("back", "gone", "closed"), ("front", "gone", "closed")]


@pytest.mark.parametrize("asked", [{}, {"owner": "back"}])
def test_anothers_session_cannot_be_watched(house: Any, refused: Any, asked: dict[str, str]) -> None:
    """Nor found out about: it is unknown, whatever owner is named."""
    there = house(tokens=True)
    there.act("arm", "back")
    with pytest.raises(refused) as caught, there.watch("arm", "front", **asked):
        pass

    assert (caught.value.reply.status_code, caught.value.reply.json()["code"]) == (404, "unknown-session")


def test_anothers_frames_are_not_sent(house: Any) -> None:
    """Two arms of one name: each owner is sent its own figures and pictures, an admin those of the owner it names."""
    there = house(tokens=True)
    for as_, words in (("front", "mine"), ("back", "theirs")):
        there.act("arm", as_, instruction=words)
    seen = {}
    for as_, asked in (("front", {}), ("back", {}), ("boss", {"owner": "back"})):
        with there.watch("arm", as_, **asked) as watching:
            watching.until("frames")
            for owner, words in (("front", "mine"), ("back", "theirs")):
                there.act("arm", owner, instruction=words)
            seen[as_] = watching.until("picture")["instruction"]

    assert seen == {"front": "mine", "back": "theirs", "boss": "theirs"}


def test_an_admin_names_the_owner_where_there_are_two(house: Any, refused: Any) -> None:
    """As for every other route of a session."""
    there = house(tokens=True)
    for as_ in ("front", "back"):
        there.act("arm", as_)
    with pytest.raises(refused) as caught, there.watch("arm", "boss"):
        pass

    assert caught.value.reply.json()["code"] == "session-ambiguous"


def test_a_watcher_is_told_how_things_stand(house: Any) -> None:
    """First the daemon with its contract, then the sessions with figures of their last frames and the memory."""
    there = house(in_force={"reuse": {"mode": "adaptive"}})
    for _ in range(3):
        there.act()
    with there.watch() as watching:
        (first, daemon), (second, told) = watching.next(), watching.next()
    (arm,) = told["sessions"]

    assert (first, second) == ("daemon", "sessions")
    assert (daemon["state"], daemon["settings"]) == ("ready", {"reuse": {"mode": "adaptive"}})
    assert daemon["model"] == there.get("/v1/models").json()["models"][0]
    assert (arm["id"], arm["seq"], arm["state"], arm["recent"]["total_ms"]) == ("arm", 2, "idle", 2.5)
    assert arm["recent"]["reuse_ratio"] == pytest.approx(1 / 3)
    assert (told["kv_in_use_bytes"], told["sessions_limit"]) == (1000, 64)


def test_a_session_is_watched_frame_by_frame(house: Any) -> None:
    """Figures of frames before and after, and the picture of one that came while it was watched."""
    there = house()
    there.act()
    with there.watch("arm") as watching:
        before = watching.until("frames")
        there.act(instruction="open the drawer")
        after = watching.until("frames")
        picture = watching.until("picture")
    (camera,) = picture["cameras"]

    assert [(one["seq"], one["cache"]["frame"]) for one in (*before, *after)] == [(0, "keyframe"), (1, "delta")]
    assert (picture["seq"], picture["instruction"]) == (1, "open the drawer")
    assert (camera["width"], camera["height"], camera["patches"]) == (12, 8, "0000111122223333")
    assert base64.b64decode(camera["jpeg"])[:2] == b"\xff\xd8"


def test_frames_of_no_session_are_nowhere(house: Any) -> None:
    """They belong to no robot: the list stays empty."""
    there = house()
    there.act(None)
    with there.watch() as watching:
        assert watching.until("sessions")["sessions"] == []


def test_a_session_that_ends_is_said_to_have(house: Any) -> None:
    """With its end, once; the feed goes on, and a request for it anew is told that it is gone."""
    there = house(sessions=SessionSettings(most=1, lease_s=0))
    there.act()
    with there.watch("arm") as watching:
        watching.until("frames")
        there.act("newcomer")
        ended = watching.until("ended")
        listed = watching.until("sessions", lambda told: told["ended"])
        watching.until("sessions")
    gone = there.get("/live/feed?session=arm")

    assert ended == {"id": "arm", "owner": "anonymous", "state": "evicted"}
    assert [(one["id"], one["state"]) for one in listed["ended"]] == [("arm", "evicted")]
    assert [one["id"] for one in listed["sessions"]] == ["newcomer"]
    assert [name for name, _ in watching.seen].count("ended") == 1
    assert (gone.status_code, gone.json()["code"]) == (410, "session-evicted")


def test_no_picture_is_made_where_nothing_watches(house: Any) -> None:
    """Nor once the last watcher has left; the counters say so."""
    there = house()
    there.act()
    unwatched = there.series("stillframe_live_pictures_total")
    with there.watch("arm") as watching:
        watching.until("frames")
        there.act()
        watching.until("picture")
        watched = there.series("stillframe_live_watchers")
    _until(lambda: there.series("stillframe_live_watchers") == 0)
    for _ in range(3):
        there.act()

    assert (unwatched, watched) == (0, 1)
    assert there.series("stillframe_live_pictures_total") == 1
    assert there.feed.read("arm", 1, 0).newest is None


def test_watchers_of_one_session_share_its_pictures(house: Any) -> None:
    """Each is sent the same picture, which is encoded once."""
    there = house()
    there.act()
    with there.watch("arm") as one, there.watch("arm") as other:
        for watching in (one, other):
            watching.until("frames")
        there.act()
        pictures = [watching.until("picture") for watching in (one, other)]

    assert pictures[0] == pictures[1]
    assert there.series("stillframe_live_pictures_total") == 1


def test_one_watcher_too_many_is_told_to_come_again(house: Any, refused: Any) -> None:
    """503 with a wait, counted; the place is free when its holder leaves."""
    there = house(live=LiveSettings(most=1, rate_hz=30))
    with there.watch() as watching:
        watching.until("sessions")
        with pytest.raises(refused) as caught, there.watch():
            pass
    problem = caught.value.reply
    _until(lambda: there.series("stillframe_live_watchers") == 0)
    with there.watch() as again:
        again.until("sessions")

    assert (problem.status_code, problem.json()["code"], problem.headers["retry-after"]) == (503, "overloaded", "5")
    assert there.series("stillframe_live_watchers_refused_total") == 1


def test_a_change_of_the_daemons_state_is_told(house: Any) -> None:
    """When it comes, not when a page is loaded again."""
    there = house()
    with there.watch() as watching:
        watching.until("sessions")
        there.policy.ready = False

        assert watching.until("daemon")["state"] == "warming"


@pytest.mark.parametrize(("as_", "status"), [(None, 401), ("stranger", 401), ("none", 403)])
def test_a_snapshot_needs_a_token_that_may_see_sessions(house: Any, as_: str | None, status: int) -> None:
    """As the feed does."""
    assert house(tokens=True).get("/live/sessions", as_).status_code == status


def test_a_snapshot_has_each_session_with_its_newest_frame(house: Any) -> None:
    """What the feed's list and its newest entry say; of a session without a frame there is none. It is not cached."""
    there = house(in_force={"reuse": {"mode": "adaptive"}})
    for _ in range(3):
        there.act()
    there.http.post(there.url + "/v1/sessions", json={"session_id": "new"}).raise_for_status()
    reply = there.get("/live/sessions")
    told = reply.json()
    arm, new = told["sessions"]
    with there.watch("arm") as watching:
        newest = watching.until("frames")[-1]

    assert (told["state"], told["settings"]) == ("ready", {"reuse": {"mode": "adaptive"}})
    assert (arm["id"], arm["recent"]["total_ms"], arm["latest"]["seq"]) == ("arm", 2.5, 2)
    assert {name: arm["latest"][name] for name in newest} == newest
    assert arm["latest"]["median_ms"] == newest["timing_ms"]
    assert (new["id"], new["latest"]) == ("new", None)
    assert reply.headers["cache-control"] == "no-store"


def test_a_snapshot_has_the_callers_sessions_alone(house: Any) -> None:
    """Those of one name are two callers' own; an admin gets both, each with its own newest frame."""
    there = house(tokens=True)
    there.act("arm", "front")
    for _ in range(2):
        there.act("arm", "back")
    listed = {
        as_: [(one["owner"], one["latest"]["seq"]) for one in there.get("/live/sessions", as_).json()["sessions"]]
        for as_ in ("front", "back", "boss")
    }

    assert listed == {"front": [("front", 0)], "back": [("back", 1)], "boss": [("front", 0), ("back", 1)]}


def test_a_snapshot_asks_for_no_picture(house: Any) -> None:
    """Nor is it a watcher."""
    there = house()
    there.act()
    there.get("/live/sessions")
    there.act()

    assert there.series("stillframe_live_pictures_total") == there.series("stillframe_live_watchers") == 0
    assert there.feed.read("arm", 1, 0).newest is None


def _until(condition: Any) -> None:
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
