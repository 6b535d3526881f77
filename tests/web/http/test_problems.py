from __future__ import annotations

import re

import pytest
from fastapi import FastAPI

from stillframe import errors
from stillframe.errors import NoSuchRoute, Overloaded, WrongMethod
from stillframe.web.http.problems import RequestValidationError, pointer
from stillframe.web.openapi.problem_codes import PROBLEM_CODES

MEMBERS = ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"]


def assert_problem(reply, status, code):
    """Hold a reply against RFC 9457 and our own additions."""
    document = reply.json()
    assert (reply.status_code, document["status"], document["code"]) == (status, status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert list(document)[:8] == MEMBERS
    assert document["type"] == f"/problems/{code}"
    assert document["request_id"] == reply.headers["x-request-id"]
    assert document["detail"].endswith((".", "?"))
    assert "Traceback" not in reply.text
    return document


@pytest.fixture(scope="module")
def one_desk(new_desk):
    """A desk for all codes: each case says itself what its policy raises, and leaves no session."""
    return new_desk()


@pytest.mark.parametrize("code", PROBLEM_CODES)
def test_every_code_has_its_shape(one_desk, frame, code):
    """Whatever a policy raises from the catalogue arrives as that problem."""
    one_desk.policy.error = PROBLEM_CODES[code].kind(code, "It went wrong.", pointer="/image", retry_after_s=0.5)
    reply = one_desk.act(frame)
    document = assert_problem(reply, PROBLEM_CODES[code].status, code)

    assert document["errors"] == [{"pointer": "/image", "detail": "It went wrong."}]
    assert (reply.headers["retry-after"], document["retry_after_ms"]) == ("1", 500)


@pytest.mark.parametrize("code", PROBLEM_CODES)
def test_every_type_can_be_looked_up(one_desk, code):
    """A problem's type is a path that says what the code means."""
    answer = one_desk.ask("GET", f"/problems/{code}")

    assert answer.status_code == 200
    assert answer.json() == {"code": code, "status": PROBLEM_CODES[code].status, "meaning": PROBLEM_CODES[code].meaning}


def test_every_code_of_the_web_floor_is_in_the_catalogue(request):
    """No room raises a code that nobody wrote down."""
    rooms = request.config.rootpath / "server/stillframe"
    kinds = "|".join(kind.__name__ for kind in {entry.kind for entry in PROBLEM_CODES.values()})
    raised = {
        code
        for room in rooms.rglob("*.py")
        for code in re.findall(rf'(?:{kinds})\(\s*"([a-z-]+)"', room.read_text(encoding="utf-8"))
    }

    assert len(raised) > 25
    assert raised <= set(PROBLEM_CODES)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("POST", "/act/"), ("GET", "/redoc"), ("GET", "/%C3%A9%0A")]
)
def test_unknown_paths(desk, method, path):
    """A path that is not served is a 404 problem that quotes the path safely."""
    document = assert_problem(desk.ask(method, path), 404, "not-found")

    assert document["instance"].isascii()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/act", "POST"),
        ("POST", "/livez", "GET"),
        ("PUT", "/v1/sessions", "GET, POST"),
        ("POST", "/v1/sessions/arm", "DELETE, GET"),
    ],
)
def test_wrong_methods(desk, method, path, allowed):
    """A wrong method is a 405 problem that names the right ones."""
    reply = desk.ask(method, path)
    assert_problem(reply, 405, "method-not-allowed")

    assert reply.headers["allow"] == allowed


def test_the_unforeseen_is_a_plain_500(desk, frame, caplog):
    """An unexpected exception is logged with its traceback and the id; the wire gets neither its type nor its words."""
    desk.policy.error = ZeroDivisionError("secret 0x7f00")
    reply = desk.act(frame)
    assert_problem(reply, 500, "internal")

    assert "secret" not in reply.text
    assert "ZeroDivisionError" not in reply.text
    assert "secret" in caplog.text
    assert reply.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize(("wait_s", "seconds", "milliseconds"), [(0.05, "1", 50), (1.0, "1", 1000), (1.2, "2", 1200)])
def test_a_wait_is_never_said_too_short(desk, frame, wait_s, seconds, milliseconds):
    """In whole seconds in the header, as that has none else, to the millisecond in the document."""
    desk.policy.submit = lambda *_, **__: (_ for _ in ()).throw(Overloaded("overloaded", "Full.", retry_after_s=wait_s))
    reply = desk.act(frame)
    document = assert_problem(reply, 503, "overloaded")

    assert (reply.headers["retry-after"], document["retry_after_ms"]) == (seconds, milliseconds)


def test_a_long_path_comes_back_short_and_quoted(desk):
    """What a client asks for is repeated as far as that helps, in letters that are safe everywhere."""
    document = assert_problem(desk.ask("GET", "/a b" + "é" * 5000), 404, "not-found")

    assert document["instance"] == "/a%20b" + "%C3%A9" * 196


def test_a_fault_points_at_its_field(desk, frame):
    """The place in what was sent, and what is wrong there; nothing of the kind where it is in no field."""
    blank = assert_problem(desk.act({**frame, "instruction": " "}), 422, "instruction-empty")
    nowhere = assert_problem(desk.ask("GET", "/nothing"), 404, "not-found")

    assert blank["errors"] == [{"pointer": "/instruction", "detail": blank["detail"]}]
    assert nowhere["errors"] == []


def test_validation_errors_of_the_framework(desk):
    """What the framework itself refuses is a problem that points at the field without repeating its value."""
    app = desk.app
    assert isinstance(app, FastAPI)

    @app.get("/double/{number}")
    async def double(number: int) -> int:
        return 2 * number

    document = assert_problem(desk.ask("GET", "/double/many"), 400, "bad-field")

    assert [fault["pointer"] for fault in document["errors"]] == ["/number"]
    assert "many" not in document["errors"][0]["detail"]


def test_an_image_address_is_answered_with_its_reason(desk):
    """Nothing is fetched: the client learns that only bytes are accepted."""
    reply = desk.act({"image": "http://127.0.0.1/cat.jpg", "instruction": "go"})
    document = assert_problem(reply, 422, "image-invalid")

    assert "nothing is fetched" in document["detail"]


@pytest.mark.parametrize(("given", "kept"), [("robot-7.frame_1", True), ("a b", False), ("x" * 65, False), ("", False)])
def test_request_ids(desk, given, kept):
    """A harmless id of the client's is kept; any other is replaced by one of ours."""
    answer = desk.ask("GET", "/livez", headers={"X-Request-Id": given})

    assert (answer.headers["x-request-id"] == given) == kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["x-request-id"])


def test_pointers_are_escaped():
    """RFC 6901: ~ becomes ~0 and / becomes ~1."""
    assert pointer("images", "a/b~c", 0) == "/images/a~1b~0c/0"


def test_catalogue_and_error_tree_agree():
    """Every kind of RequestError has a code in the catalogue."""
    kinds = {*errors.RequestError.__subclasses__()}

    assert {entry.kind for entry in PROBLEM_CODES.values()} == kinds
    assert {NoSuchRoute, WrongMethod} <= kinds
    assert not issubclass(RequestValidationError, errors.RequestError)
