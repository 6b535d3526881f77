from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from stillframe.domain import TokenScope
from stillframe.errors import BadRequest, Forbidden, Unauthorized
from stillframe.web.middleware import auth
from stillframe.web.middleware.auth import ANONYMOUS, UNIDENTIFIED, Authenticator, Caller, Token, require

FRONT, PANEL = "front-secret-0f9a", "panel-secret-77c1"
ACT, BOTH = frozenset({"act"}), frozenset({"act", "admin"})


def token(name: str, secret: str, scopes: frozenset[str] = ACT) -> Token:
    """What a daemon knows of a token."""
    return Token(name, hashlib.sha256(secret.encode()).hexdigest(), scopes)


KNOWN = Authenticator([token("front", FRONT), token("panel", PANEL, BOTH)])


def sent(*pairs: tuple[str, str]) -> Headers:
    """The headers of a request, as they come over the wire."""
    return Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in pairs])


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", f"Bearer {FRONT}"),
        ("authorization", f"bearer   {FRONT} "),
        ("Authorization", f"Api-Key {FRONT}"),
        ("Authorization", f"API-KEY {FRONT}"),
        ("X-Api-Key", FRONT),
        ("x-api-key", f" {FRONT}"),
    ],
)
def test_a_token_is_read_from_every_header_that_clients_use(header: tuple[str, str]) -> None:
    """Bearer, openpi's Api-Key and X-Api-Key name the same caller, in any case of letters."""
    assert KNOWN.authenticate(sent(header)) == Caller("front", ACT)


def test_a_caller_has_the_scopes_of_its_token() -> None:
    """One daemon, two tokens, two rights."""
    assert KNOWN.authenticate(sent(("X-Api-Key", PANEL))) == Caller("panel", BOTH)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", f"Basic {FRONT}")],
        [("Authorization", FRONT)],
        [("X-Api-Key", "")],
        [("Cookie", f"token={FRONT}")],
    ],
)
def test_no_token_is_unauthorized_and_told_how_to_send_one(headers: list[tuple[str, str]]) -> None:
    """An empty header, another scheme or a cookie is no token."""
    with pytest.raises(Unauthorized, match="No token was given; send it as 'Authorization: Bearer TOKEN'") as caught:
        KNOWN.authenticate(sent(*headers))

    assert (caught.value.status, caught.value.code) == (401, "unauthorized")


@pytest.mark.parametrize("wrong", [FRONT[:-1], FRONT + "x", FRONT.upper(), "é", "x" * 10_000])
def test_an_unknown_token_is_unauthorized_and_not_repeated(wrong: str) -> None:
    """Nearly right is wrong, and what was sent does not come back."""
    with pytest.raises(Unauthorized, match="not known here") as caught:
        KNOWN.authenticate(sent(("X-Api-Key", wrong)))

    assert wrong not in str(caught.value)


def test_the_hash_of_a_token_is_no_token() -> None:
    """Who reads the configuration cannot ask with what stands there."""
    with pytest.raises(Unauthorized):
        KNOWN.authenticate(sent(("X-Api-Key", hashlib.sha256(FRONT.encode()).hexdigest())))


def test_a_token_sent_twice_is_one() -> None:
    """A client behind a proxy that adds the other header is understood."""
    assert KNOWN.authenticate(sent(("X-Api-Key", FRONT), ("Authorization", f"Bearer {FRONT}"))).name == "front"


@pytest.mark.parametrize("other", [PANEL, "unknown"])
def test_two_different_tokens_are_refused(other: str) -> None:
    """Nobody guesses which was meant, even if one of them is good."""
    with pytest.raises(BadRequest, match="two different tokens") as caught:
        KNOWN.authenticate(sent(("X-Api-Key", other), ("Authorization", f"Bearer {FRONT}")))

    assert caught.value.code == "bad-field"


def test_without_tokens_everybody_is_anonymous() -> None:
    """A daemon that asks for none reads none, and lets everything be done."""
    found = Authenticator().authenticate(sent(("X-Api-Key", "a"), ("Authorization", "Bearer b")))

    assert found is ANONYMOUS
    assert found.scopes == BOTH


def test_two_tokens_of_one_name_are_one_caller() -> None:
    """While a token is replaced, its holder keeps its sessions."""
    both = Authenticator([token("front", FRONT), token("front", PANEL)])

    assert both.authenticate(sent(("X-Api-Key", FRONT))) == both.authenticate(sent(("X-Api-Key", PANEL)))


@pytest.mark.parametrize("secret", [FRONT, "second", PANEL, "nobody's"])
def test_every_token_is_compared_whatever_is_found(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """First, middle, last or unknown: as many comparisons, each in constant time and of digests."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append((known, given))
        return hmac_compare(known, given)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    three = Authenticator([token("front", FRONT), token("second", "second"), token("panel", PANEL)])
    try:
        three.authenticate(sent(("X-Api-Key", secret)))
    except Unauthorized:
        assert secret == "nobody's"  # noqa: S105 -- a test's

    assert [len(known) for known, _ in compared] == [32, 32, 32]
    assert {given for _, given in compared} == {hashlib.sha256(secret.encode()).digest()}


def test_a_scope_that_is_there_is_enough() -> None:
    """Nothing is raised, for a token with it and for everybody where there are no tokens."""
    require(Caller("front", ACT), TokenScope.ACT)
    require(ANONYMOUS, TokenScope.ADMIN)


@pytest.mark.parametrize(
    ("caller", "scope"), [(Caller("front", ACT), TokenScope.ADMIN), (Caller("p", frozenset({"admin"})), TokenScope.ACT)]
)
def test_a_scope_that_is_not_there_is_forbidden(caller: Caller, scope: TokenScope) -> None:
    """Which scope is named; admin does not mean act."""
    with pytest.raises(Forbidden, match=f"{caller.name!r} lacks the scope '{scope}'") as caught:
        require(caller, scope)

    assert caught.value.status == 403


def test_nobody_may_do_anything() -> None:
    """Who was let in without being asked has no scope."""
    for scope in TokenScope:
        with pytest.raises(Forbidden):
            require(UNIDENTIFIED, scope)


VALUES = st.binary(max_size=60) | st.sampled_from([f"Bearer {FRONT}".encode(), FRONT.encode(), b"Api-Key", b"Bearer "])


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"cookie"]), VALUES), max_size=6))
def test_garbage_is_refused_as_garbage(raw: Sequence[tuple[bytes, bytes]]) -> None:
    """Whatever bytes stand in the headers: a caller that holds a token, or a refusal that repeats none of them."""
    said = ""
    try:
        caller = KNOWN.authenticate(Headers(raw=list(raw)))
    except (Unauthorized, BadRequest) as refusal:
        said = refusal.detail
        caller = None

    assert FRONT not in said
    assert caller is None or any(FRONT.encode() in value for _, value in raw)
