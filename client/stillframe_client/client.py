"""Asks a policy daemon for actions over one kept-alive connection.

Knows no robot and no torch; one client belongs to one thread.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Dict, Optional

import httpx

from stillframe_client.action_spec import ACTION_DIM, ActionSpec, action_spec_of
from stillframe_client.arguments import base_url, bearer, seconds, trust
from stillframe_client.errors import BadReply, NotReady, PolicyError, Refused, TimedOut, Unreachable
from stillframe_client.frames import FrameOptions, frame_fields
from stillframe_client.http.connection import HttpConnection, headers_of_all
from stillframe_client.http.limits import CallLimits
from stillframe_client.http.transport import BoundedTransport
from stillframe_client.images import check_encoding, encode_picture
from stillframe_client.replies import ActionReply, ModelInfo, read_action, read_document, read_epoch, read_model_info
from stillframe_client.reply_checks import ReplyOrder, check_reply
from stillframe_client.sessions import open_session
from stillframe_client.wire import CHUNK_HEADER, IDEMPOTENCY_HEADER, SESSION_HEADER, WHOLE_CHUNK, encode_array

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from stillframe_client.frames import FrameKeywords, Pictures


FAREWELL_S = 1.0  # for closing to tell the daemon
QUESTION_S = 0.5  # the least time for a readiness check, however little wait_ready has left
_LEAST_S = 0.001  # the least time of a call


class PolicyClient:
    """A daemon's policy, as a call: picture and instruction in, action out.

    `timeout_s` bounds each call as a whole, from looking the name up to the reply's last byte, and cannot be switched
    off: a robot that waits for ever is a robot out of control. A reply has at most 16 MiB. Proxies named in the
    environment are not used, redirects are not followed. What fails on the way or on the daemon raises a PolicyError;
    an argument of the wrong kind raises a ValueError.

    A frame of a session is sent once more where its connection died before a byte of the answer came: it carries an
    Idempotency-Key, so the daemon computes it once. A stateless client's is never sent twice.

    An answer is returned only if it is one to the frame that was asked about: of this session, its epoch, and a later
    seq than the last one's, else StaleAnswer; and only if it is an action: numbers, as many as `info` named (where it
    was not called: seven, or what /v1/models names, or as many as the first answer had) and none over a million, or a
    million times the statistics', else BadReply. An epoch that is not ours any more takes a `reset` to go on.

    A client is one robot: its frames belong to one session, so that the daemon may reuse what stayed as it was. The
    session is a new one unless `session` names it; with `stateless` there is none. Call `reset` as an episode begins.
    `reuse` says how much its frames may reuse: "off", "exact", "adaptive", "paper" or "static-only"; or, to compare
    with, how they are pruned: "fastv", "sparsevlm" or "tome"; None: as the daemon is set. `encoding` says how its
    pictures travel, unless an `act` says otherwise.

    `token` is shown to a daemon that asks for one. `ca_file` is a PEM file with the certificates to trust on https,
    for a daemon that signed its own; None: the system's.
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
        self._ours_alone = session is None and not stateless  # no other client can resume it
        self._is_here = False  # the daemon has answered for our session
        self._reuse = reuse
        self._encoding = check_encoding(encoding)
        self._jpeg_quality = jpeg_quality
        self._order = ReplyOrder(self._session_id)
        self._action_spec = ActionSpec()
        self._model: Optional[str] = None  # as `info` named it
        address, trusted, limits = base_url(url), trust(ca_file), CallLimits()
        self._http = httpx.Client(
            base_url=address,
            timeout=self._timeout_s,
            headers=headers_of_all(bearer(token)),
            transport=transport or transport_to(address, trusted, limits),
            trust_env=False,
        )
        self._connection = HttpConnection(self._http, address, limits)

    @property
    def session_id(self) -> Optional[str]:
        """The session that this client's frames belong to; None for a stateless client."""
        return self._session_id

    def act(self, image: Pictures, instruction: str, **options: Unpack[FrameKeywords]) -> NDArray[np.float64]:
        """Return the action due now, [action_dim] float64 in the robot's units: metres, radians, gripper.

        `image` is a uint8 RGB array [height, width, 3], or a mapping from camera name to such arrays. Options, all
        None by default: `unnorm_key`, the statistics that scale the action; `max_age_ms`, beyond which a frame is
        answered with DeadlineExceeded instead of an action; `encoding`, "raw" (exact), "png" (exact, smaller, slower)
        or "jpeg" (smallest, lossy), and `reuse`, which override the client's own for this frame; `t_obs_ns`, your
        time stamp, which the reply returns; `state`, the robot's own, for a policy that reads one: float64 numbers in
        the order of `info().state`, or a mapping from its names to numbers; `slack_ms`, for how long the robot has
        actions left to play, so that the daemon may let frames go first whose robots have less; `rtc`, for a chunk
        that goes on with the last one (see Rtc; ChunkPlayer fills it in); `masks`, what matters in each picture, by
        camera: [height, width], 0 where nothing does, for a daemon whose plans go by masks.
        """
        return self.act_with_report(image, instruction, **options).action

    def act_with_report(self, image: Pictures, instruction: str, **options: Unpack[FrameKeywords]) -> ActionReply:
        """Like `act`, and return the whole reply: every action, stage times, what was reused."""
        said = FrameOptions(**options)
        write = partial(encode_picture, encoding=said.encoding or self._encoding, jpeg_quality=self._jpeg_quality)
        request = frame_fields(image, instruction, write, replace(said, reuse=said.reuse or self._reuse))
        if "masks" in request:
            request["masks"] = {camera: encode_array(mask) for camera, mask in request["masks"].items()}
        until_s = time.monotonic() + self._timeout_s
        response = self._connection.request(
            "POST",
            "/act",
            fields=request,
            headers={CHUNK_HEADER: WHOLE_CHUNK, **self._session_headers()},
            timeout_s=self._timeout_s,
            idempotent=self._session_id is not None,
        )
        reply = read_action(response)
        self._check(reply, said.unnorm_key, until_s)
        self._is_here |= reply.session is not None
        return reply

    def reset(self) -> Optional[int]:
        """Begin the next episode: its first frame reuses nothing. Return the episode's number, from 0.

        None where there is nothing to reset: the client is stateless, or the daemon keeps no sessions.
        """
        if self._session_id is None:
            return None
        self._order.begin_reset()
        fields = {"session_id": self._session_id}
        response = self._connection.request("POST", "/reset", fields=fields, timeout_s=self._timeout_s, idempotent=True)
        epoch = read_epoch(response)
        self._order.begin_epoch(epoch)
        return epoch

    def info(self) -> ModelInfo:
        """Return what is served: cameras, action names and units, statistics. Answers are held to it from then on."""
        return self._learn(self._timeout_s)

    def wait_ready(self, timeout_s: float, *, poll_s: float = 0.2) -> None:
        """Return as soon as the daemon is ready; raise TimedOut with its last word if that takes over `timeout_s`.

        A daemon that is not listening yet counts as not ready. The last question may take half a second more.
        """
        give_up_at_s = time.monotonic() + seconds("timeout_s", timeout_s)
        while True:
            remaining_s = max(give_up_at_s - time.monotonic(), QUESTION_S)
            try:
                return self._check_ready(min(self._timeout_s, remaining_s))
            except (NotReady, Unreachable, TimedOut) as reason:
                if time.monotonic() + poll_s > give_up_at_s:
                    raise TimedOut(f"The daemon is not ready after {timeout_s} s. Its last word: {reason}") from reason
            time.sleep(poll_s)

    def close(self) -> None:
        """Close the connection, and the session unless it was named. The client cannot be used afterwards."""
        if self._ours_alone and self._is_here:
            self._is_here = False
            with contextlib.suppress(PolicyError):  # else it expires
                path = f"/v1/sessions/{self._session_id}"
                self._connection.request("DELETE", path, timeout_s=min(self._timeout_s, FAREWELL_S))
        self._http.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()

    def _check_ready(self, timeout_s: float) -> None:
        read_document(self._connection.request("GET", "/readyz", timeout_s=timeout_s))

    def _session_headers(self) -> Dict[str, str]:
        """Headers, which servers without sessions ignore: the session, and the frame's idempotency key."""
        if self._session_id is None:
            return {}
        return {SESSION_HEADER: self._session_id, IDEMPOTENCY_HEADER: uuid.uuid4().hex}

    def _check(self, reply: ActionReply, unnorm_key: Optional[str], until_s: float) -> None:
        """Check that the reply answers this frame. Raises StaleAnswer and BadReply."""
        if self._action_spec.action_dim is None and reply.actions.shape[1] != ACTION_DIM:
            self._learn_of_others(max(until_s - time.monotonic(), _LEAST_S))
        self._action_spec.check(reply.actions)
        check_reply(reply, unnorm_key=unnorm_key, model=self._model)
        self._order.accept(reply)
        self._action_spec = self._action_spec.learned(reply.actions)

    def _learn(self, timeout_s: float) -> ModelInfo:
        info = read_model_info(self._connection.request("GET", "/v1/models", timeout_s=timeout_s, idempotent=True))
        self._action_spec, self._model = action_spec_of(info), info.name
        return info

    def _learn_of_others(self, timeout_s: float) -> None:
        """The first action has not seven numbers: ask the daemon how many; a server of another kind does not say."""
        with contextlib.suppress(BadReply, Refused):
            self._learn(timeout_s)


def transport_to(url: str, trusted: Optional[ssl.SSLContext], limits: CallLimits) -> BoundedTransport:
    """The transport to a daemon; certificates are loaded only for https."""
    tls = url.startswith("https://")
    return BoundedTransport(limits, (trusted or httpx.create_ssl_context()) if tls else None)
