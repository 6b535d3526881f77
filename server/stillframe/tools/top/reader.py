"""Asks a daemon for one reading after another, over one connection.

Knows the client's connection and the routes; draws nothing.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from stillframe.files.kinds import shown
from stillframe.tools.top.metrics import read_totals
from stillframe.tools.top.snapshot import Contract, Models, Reading, Snapshot, Totals
from stillframe_client import BadReply, NotReady, Refused
from stillframe_client.arguments import base_url, bearer, trust
from stillframe_client.client import transport_to
from stillframe_client.http.connection import HttpConnection, headers_of_all
from stillframe_client.http.limits import CallLimits
from stillframe_client.replies import read_document

TIMEOUT_S = 10.0  # of each request
NO_LIVE_PAGE = 404

Document = TypeVar("Document", bound=BaseModel)


class DaemonReader:
    """One daemon, as a token shows it. Asks for no picture, and takes no watcher's place on the live page."""

    def __init__(self, url: str, token: str | None = None, ca_file: str | None = None):
        """Raises ValueError for a URL, token or file that is none."""
        self.url, limits, trusted = base_url(url), CallLimits(), trust(ca_file)
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers_of_all(bearer(token)),
            transport=transport_to(self.url, trusted, limits),
            trust_env=False,
        )
        self._connection = HttpConnection(self._http, self.url, limits)
        self._contract: Contract | None = None
        self._state: str | None = None
        self._totals: Totals | None = None

    def read(self) -> Reading:
        """Ask once. Raises PolicyError."""
        snapshot = _checked(Snapshot, self._snapshot(), "/live/sessions")
        before, self._totals = self._totals, self._read_totals()
        if self._contract is None or self._state != snapshot.state:
            self._contract = self._read_contract()
        self._state = snapshot.state
        return Reading(self.url, snapshot, self._totals, self._contract, before)

    def close(self) -> None:
        """Disconnect."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str) -> httpx.Response:
        return self._connection.request("GET", path, timeout_s=TIMEOUT_S, idempotent=True)

    def _snapshot(self) -> Any:
        try:
            return read_document(self._get("/live/sessions"))
        except Refused as error:
            if error.problem.status != NO_LIVE_PAGE:
                raise
            why = "either its configuration says 'live: {enabled: false}', or it is an older stillframe"
            raise BadReply(f"{self.url} does not say what its sessions do: {why}.") from error

    def _read_contract(self) -> Contract | None:
        try:
            document = read_document(self._get("/v1/models"))
        except NotReady:  # still loading
            return None
        return _checked(Models, document, "/v1/models").models[0]

    def _read_totals(self) -> Totals:
        reply = self._get("/metrics")
        if reply.status_code != httpx.codes.OK:
            read_document(reply)  # raises the problem as what it is
        try:
            return read_totals(reply.text, time.monotonic())
        except ValueError as error:
            raise BadReply(f"/metrics is not a stillframe daemon's: {shown(error)}.") from error


def _checked(kind: type[Document], document: Any, path: str) -> Document:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(".".join(map(str, first["loc"])))
        raise BadReply(f"{path} is not as this version reads it: {where}: {shown(first['msg'])}.") from error
