"""Authentication: find the caller of a request by its token, in constant time.

Knows no route, and of each token only its hash; the token is never stored, logged or echoed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers

from stillframe.domain import TokenScope
from stillframe.errors import BadRequest, Forbidden, Unauthorized
from stillframe.sessions.session import ANONYMOUS as OWNER_WITHOUT_TOKENS

SCHEMES = {"bearer", "api-key"}  # of the header Authorization; openpi's clients say Api-Key


@dataclass(frozen=True)
class Token:
    """A configured token, by its hash."""

    name: str  # who holds it; two tokens of one name are one caller, as while a token is replaced
    sha256: str  # of the token's bytes, 64 hexadecimal digits
    scopes: frozenset[str]


@dataclass(frozen=True)
class Caller:
    """An authenticated caller and its scopes."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: TokenScope) -> bool:
        """Return whether it has `scope`."""
        return scope in self.scopes


ANONYMOUS = Caller(OWNER_WITHOUT_TOKENS, frozenset(TokenScope))  # every caller, where no tokens are configured
UNIDENTIFIED = Caller("unidentified", frozenset())  # a caller of a path that needs no token


class Authenticator:
    """The configured tokens. Without any, every caller is ANONYMOUS."""

    def __init__(self, tokens: Iterable[Token] = ()):
        self._known = [(bytes.fromhex(token.sha256), Caller(token.name, token.scopes)) for token in tokens]

    def authenticate(self, headers: Headers) -> Caller:
        """Return the caller of a request. Raises Unauthorized, BadRequest for two different tokens."""
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
        """Compare with all tokens, even after a match: the time taken reveals nothing."""
        digest = hashlib.sha256(token).digest()
        holders = [caller for known, caller in self._known if hmac.compare_digest(known, digest)]
        if not holders:
            raise Unauthorized(
                "unauthorized",
                "This token is not known here; ask the daemon's operator for one (`stillframe token`).",
            )
        return holders[0]


def require(caller: Caller, scope: TokenScope) -> None:
    """Raise Forbidden unless `caller` has `scope`."""
    if not caller.may(scope):
        detail = f"The token of {caller.name!r} lacks the scope '{scope}' that this needs; ask for one that has it."
        raise Forbidden("forbidden", detail)


def _tokens_in(headers: Headers) -> set[bytes]:
    """Return the distinct tokens in a request's headers, as bytes."""
    found = [value.strip() for value in headers.getlist("x-api-key")]
    for value in headers.getlist("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() in SCHEMES:
            found.append(token.strip())
    return {token.encode("latin-1") for token in found if token}  # as which the headers were decoded
