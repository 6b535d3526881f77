"""Asks a policy daemon for actions over one kept-alive connection.

Knows no robot and no torch; one client belongs to one thread.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Dict, Iterator, Optional

import httpx

from stillframe_client.arguments import base_url, bearer, seconds, trust
from stillframe_client.errors import NotReady, PolicyError, TimedOut, Unreachable
from stillframe_client.frames import frame_fields
from stillframe_client.images import check_encoding, encode_picture
from stillframe_client.replies import ActionReply, ModelInfo, read_action, read_document, read_epoch, read_model_info
from stillframe_client.sessions import open_session
from stillframe_client.wire import SESSION_HEADER

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from stillframe_client.frames import Pictures


FAREWELL_S = 1.0  # that closing may take to tell the daemon so


class PolicyClient:
    """A daemon's policy, as a call: picture and instruction in, action out.

    `timeout_s` bounds each wait (to connect, to send, for the answer) and cannot be switched off: a robot that waits
    for ever is a robot out of control. A frame is never sent twice; whether an old picture is worth another try is the
    caller's to say. Proxies named in the environment are not used. What fails on the way or on the daemon
    raises a PolicyError; an argument of the wrong kind raises a ValueError.

    A client is one robot: its frames belong to one session, so that the daemon may reuse what stayed as it was. The
    session is a new one unless `session` names it; with `stateless` there is none. Call `reset` as an episode begins.
    `reuse` says how much its frames may reuse: "off", "exact", "adaptive", "paper" or "static-only"; None: as the
    daemon is set. `encoding` says how its pictures travel, unless an `act` says otherwise.

    `token` is shown to a daemon that asks for one. `ca_file` is a PEM file with the certificates to trust on https,
    for a daemon that signed its own; None: those that everybody trusts.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        encoding: str = "raw",
        jpeg_quality: int = 95,
        session: Optional[str] = None,
        stateless: bool = False,
        reuse: Optional[str] = None,
        token: Optional[str] = None,
        ca_file: Optional[str] = None,
        transport: Optional[httpx.BaseTransport] = None,
    ):
        self._timeout_s = seconds("timeout_s", timeout_s)
        self._session_id = open_session(session, stateless=stateless)
        self._ours_alone = session is None  # nobody else can go on with it
        self._is_here = False  # the daemon has told us of our session
        self._reuse = reuse
        self._encoding = check_encoding(encoding)
        self._jpeg_quality = jpeg_quality
        self._url = base_url(url)
        self._http = httpx.Client(
            base_url=self._url,
            timeout=self._timeout_s,
            headers=bearer(token),
            transport=transport or httpx.HTTPTransport(verify=trust(ca_file) or True),  # sets TCP_NODELAY
            trust_env=False,
        )

    @property
    def session_id(self) -> Optional[str]:
        """The session that this client's frames belong to; None for a stateless client."""
        return self._session_id

    def act(
        self,
        image: Pictures,
        instruction: str,
        *,
        unnorm_key: Optional[str] = None,
        max_age_ms: Optional[float] = None,
        encoding: Optional[str] = None,
        reuse: Optional[str] = None,
    ) -> NDArray[np.float64]:
        """Return the action due now, [action_dim] float64 in the robot's units: metres, radians, gripper.

        `image` is a uint8 RGB array [height, width, 3], or a mapping from camera name to such arrays. `encoding` is
        "raw" (exact), "png" (exact, smaller, slower) or "jpeg" (smallest, lossy). A frame older than `max_age_ms` when
        its turn comes is answered with DeadlineExceeded instead of an action. `reuse` is for this frame what the
        client's own is for all.
        """
        reply = self.act_with_report(
            image, instruction, unnorm_key=unnorm_key, max_age_ms=max_age_ms, encoding=encoding, reuse=reuse
        )
        return reply.action

    def act_with_report(
        self,
        image: Pictures,
        instruction: str,
        *,
        unnorm_key: Optional[str] = None,
        max_age_ms: Optional[float] = None,
        encoding: Optional[str] = None,
        reuse: Optional[str] = None,
    ) -> ActionReply:
        """Like `act`, and say what it cost: every action that was returned, stage times, what was reused."""
        write = partial(encode_picture, encoding=encoding or self._encoding, jpeg_quality=self._jpeg_quality)
        reuse = reuse or self._reuse
        request = frame_fields(image, instruction, write, unnorm_key=unnorm_key, max_age_ms=max_age_ms, reuse=reuse)
        with self._typed_failures():
            response = self._http.post("/act", json=request, headers=self._session_header())
        reply = read_action(response)
        self._is_here |= reply.session is not None
        return reply

    def reset(self) -> Optional[int]:
        """Begin the next episode: the next frame reuses nothing of this one's. Return the episode's number, from 0.

        None where there is nothing to forget: the client is stateless, or the daemon keeps no sessions.
        """
        if self._session_id is None:
            return None
        with self._typed_failures():
            response = self._http.post("/reset", json={"session_id": self._session_id})
        return read_epoch(response)

    def info(self) -> ModelInfo:
        """Return what is served: cameras, action names and units, statistics."""
        with self._typed_failures():
            response = self._http.get("/v1/models")
        return read_model_info(response)

    def wait_ready(self, timeout_s: float, *, poll_s: float = 0.2) -> None:
        """Return as soon as the daemon is ready; raise TimedOut with its last word if that takes over `timeout_s`.

        A daemon that is not listening yet counts as not ready.
        """
        give_up_at_s = time.monotonic() + seconds("timeout_s", timeout_s)
        while True:
            try:
                return self._check_ready()
            except (NotReady, Unreachable, TimedOut) as reason:
                if time.monotonic() + poll_s > give_up_at_s:
                    raise TimedOut(f"The daemon is not ready after {timeout_s} s. Its last word: {reason}") from reason
            time.sleep(poll_s)

    def close(self) -> None:
        """Close the connection, and the session unless it was named. The client cannot be used afterwards."""
        if self._ours_alone and self._is_here:
            self._is_here = False
            with contextlib.suppress(httpx.HTTPError):  # else it expires
                self._http.delete(f"/v1/sessions/{self._session_id}", timeout=min(self._timeout_s, FAREWELL_S))
        self._http.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()

    def _check_ready(self) -> None:
        with self._typed_failures():
            response = self._http.get("/readyz")
        read_document(response)

    def _session_header(self) -> Dict[str, str]:
        """Name the session where servers that know none cannot trip over it."""
        return {} if self._session_id is None else {SESSION_HEADER: self._session_id}

    @contextmanager
    def _typed_failures(self) -> Iterator[None]:
        """Turn the HTTP library's failures into ours."""
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise Unreachable(f"No connection to {self._url} within {self._timeout_s} s: check the address.") from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"No answer from {self._url} within {self._timeout_s} s: raise timeout_s.") from error
        except httpx.ConnectError as error:
            message = f"Nothing answers at {self._url}: is the daemon running (`stillframe serve`), is the port right?"
            raise Unreachable(message) from error
        except httpx.TransportError as error:
            raise Unreachable(f"The connection to {self._url} broke before the answer: is the daemon up?") from error
        except httpx.HTTPError as error:
            raise PolicyError(f"The exchange with {self._url} failed: {type(error).__name__}.") from error
