"""Who asks: reads the token of a request and finds whose it is, in a time that tells nothing.

Knows no route, and of each token only its hash; the token itself is neither kept, logged nor repeated.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from starlette.datastructures import Headers

from stillframe.errors import BadRequest, Forbidden, Unauthorized
from stillframe.sessions.session import ANONYMOUS as OWNER_WITHOUT_TOKENS

SCHEMES = {"bearer", "api-key"}  # of the header Authorization; openpi's clients say Api-Key


class Scope(StrEnum):
    """What a token is good for. Every known token may read what is served, and the metrics."""

    ACT = "act"
    ADMIN = "admin"


@dataclass(frozen=True)
class Token:
    """One that is known here, by its hash."""

    name: str  # who holds it; two tokens of one name are one caller, as while a token is replaced
    sha256: str  # of the token's bytes, 64 hexadecimal digits
    scopes: frozenset[str]


@dataclass(frozen=True)
class Caller:
    """Who asks, and what they may."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Whether that is within its scopes."""
        return scope in self.scopes


ANONYMOUS = Caller(OWNER_WITHOUT_TOKENS, frozenset(Scope))  # everybody, where no tokens are configured
NOBODY = Caller("nobody", frozenset())  # whoever asks where nobody is asked for a token


class Callers:
    """All that are known. Without tokens everybody is ANONYMOUS."""

    def __init__(self, tokens: Iterable[Token] = ()):
        self._known = [(bytes.fromhex(token.sha256), Caller(token.name, token.scopes)) for token in tokens]

    def identify(self, headers: Headers) -> Caller:
        """Return who sent these headers; raise Unauthorized, or BadRequest for two different tokens."""
        if not self._known:
            return ANONYMOUS
        given = _tokens_in(headers)
        if not given:
            raise Unauthorized(
                "unauthorized",
                "No token was given; send it as 'Authorization: Bearer TOKEN', 'Authorization: Api-Key TOKEN' or "
                "'X-Api-Key: TOKEN'.",
            )
        if len(given) > 1:
            raise BadRequest("bad-field", "The headers hold two different tokens; send one.")
        return self._holder(given.pop())

    def _holder(self, token: bytes) -> Caller:
        """Compare with all of them, whatever is found: the time says neither whose token it is nor how near it came."""
        digest = hashlib.sha256(token).digest()
        holders = [caller for known, caller in self._known if hmac.compare_digest(known, digest)]
        if not holders:
            raise Unauthorized(
                "unauthorized",
                "This token is not known here; ask whoever runs this daemon for one (`stillframe token`).",
            )
        return holders[0]


def require(caller: Caller, scope: Scope) -> None:
    """Raise Forbidden unless `caller` has `scope`."""
    if not caller.may(scope):
        detail = f"The token of {caller.name!r} lacks the scope '{scope}' that this needs; ask for one that has it."
        raise Forbidden("forbidden", detail)


def _tokens_in(headers: Headers) -> set[bytes]:
    """The different tokens that a request's headers hold, as the bytes that were sent."""
    found = [value.strip() for value in headers.getlist("x-api-key")]
    for value in headers.getlist("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() in SCHEMES:
            found.append(token.strip())
    return {token.encode("latin-1") for token in found if token}  # as which the headers were decoded
