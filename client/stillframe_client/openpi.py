"""A stillframe daemon in the shape of openpi's client: change the import, keep the program.

Knows openpi's observation keys and no socket. Underneath is PolicyStream: unlike the original it times out, reconnects,
resumes its session, and its `reset` reaches the daemon.
Source of the shape: Physical-Intelligence/openpi, packages/openpi-client/src/openpi_client/websocket_client_policy.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

import httpx
import numpy as np

from stillframe_client.frames import text
from stillframe_client.robot_state import state_field
from stillframe_client.streaming.blocking import PolicyStream
from stillframe_client.wire.camera_names import Mount, NameMatch, camera_mount, match_camera, mount_of
from stillframe_client.wire.openpi import (
    INSTRUCTION_KEYS,
    PASSED_ON,
    FloatRangeError,
    channels_last,
    flat_items,
    to_uint8,
    unbatched,
)
from stillframe_client.wire.openpi_state import PART_KEYS, STATE_KEYS, choose_state

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from stillframe_client.replies import ModelInfo

DEFAULT_PORT = 8000


class WebsocketClientPolicy:
    """openpi's `WebsocketClientPolicy`, for a stillframe daemon.

    `host` may be an address such as "wss://robots.example/arm"; "0.0.0.0" is this machine. The constructor waits up to
    `wait_s` for the daemon to be ready; each call takes at most `timeout_s`. Failures raise a PolicyError.
    """

    def __init__(
        self,
        host: str = "0.0.0.0",  # noqa: S104 -- openpi's default; nothing is bound
        port: Optional[int] = None,
        api_key: Optional[str] = None,
        *,
        session: Optional[str] = None,
        encoding: str = "raw",
        timeout_s: float = 10.0,
        wait_s: float = 60.0,
        ca_file: Optional[str] = None,
    ):
        self._stream = PolicyStream(
            _address(host, port),
            session=session,
            token=api_key,
            ca_file=ca_file,
            timeout_s=timeout_s,
            encoding=encoding,
        )
        try:
            self._stream.wait_ready(wait_s)
            self._info = self._stream.info()
        except BaseException:
            self._stream.close()
            raise

    def get_server_metadata(self) -> Dict[str, Any]:
        """Return what is served, in plain values."""
        info = self._info
        return {
            "server": "stillframe",
            "policy": info.name,
            "cameras": list(info.cameras),
            "image_size": list(info.image_size),
            "action_names": list(info.action_names),
            "action_horizon": info.chunk_horizon,
            "replan_steps": info.execute,
            "gripper": info.gripper,
            "state": None if info.state is None else info.card["observation"]["state"]["fields"],
            **info.openpi_metadata,
        }

    def infer(self, obs: Mapping[str, Any]) -> Dict[str, Any]:
        """Ask for the chunk due now: `actions` float32 [horizon, action_dim], and timings in ms.

        Pictures are the arrays of rank 3, by the policy's camera names or openpi's keys; the words are under "prompt".
        The robot's state goes to a policy that reads one: "observation/state" or "state", or joints or the hand's
        pose, with the gripper behind. Raises ValueError for an `obs` without pictures, or without
        words where the daemon has no default for them.
        """
        passed_on = {key: obs[key] for key in PASSED_ON if key in obs}
        if self._info.state is not None:
            passed_on["state"] = state_of(obs, self._info.state.names)
        words = words_of(obs, self._info.default_instruction)
        reply = self._stream.act_with_report(pictures_of(obs, self._info), words, **passed_on)
        total_ms = reply.timing_ms.get("total", 0.0)
        return {
            "actions": reply.actions.astype(np.float32),
            "policy_timing": {"infer_ms": total_ms - reply.timing_ms.get("queue", 0.0)},
            "server_timing": {"infer_ms": total_ms},
        }

    def reset(self) -> None:
        """Begin the next episode: its first frame reuses nothing of this one's."""
        self._stream.reset()

    def close(self) -> None:
        """End the session and the connection."""
        self._stream.close()

    def __enter__(self) -> WebsocketClientPolicy:
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()


def words_of(obs: Mapping[str, Any], default: Optional[str] = None) -> str:
    """The instruction in an observation: text, or an array of one text; without any the default. Raises ValueError."""
    key = next((key for key in INSTRUCTION_KEYS if key in obs), None)
    if key is None and default is not None:
        return default
    if key is None or isinstance(obs[key], (list, tuple, type(None))):
        raise ValueError(f"obs has no text under 'prompt'; it holds {', '.join(map(str, obs))}.")
    return text(f"obs[{key!r}]", obs[key])


def state_of(obs: Mapping[str, Any], names: Tuple[str, ...]) -> Any:
    """The state that a policy reads under `names`; None where there is none, for the daemon to say what is missing.

    Raises ValueError where joints and the hand's pose fit alike, and for parts that are no numbers.
    """
    said = {key: value for key, value in flat_items(obs) if value is not None}
    key = next((key for key in STATE_KEYS if key in said), None)
    if key is not None:
        return said[key]
    parts = {key: list(state_field(f"obs[{key!r}]", np.atleast_1d(said[key]))) for key in PART_KEYS if key in said}
    chosen = choose_state({key: len(part) for key, part in parts.items()}, names)
    return [number for key in chosen for number in parts[key]] or None


def pictures_of(obs: Mapping[str, Any], info: ModelInfo) -> Dict[str, NDArray[np.uint8]]:
    """The pictures in an observation, by the policy's cameras: same name, else wrist to wrist, the others in order.

    Raises ValueError where there is none, and for one that is not [height, width, 3] in uint8 or floats from 0 to 1.
    """
    found = {key: unbatched(value) for key, value in flat_items(obs) if _is_picture(value)}
    if not found:
        arrays = [f"{key} {value.shape}" for key, value in flat_items(obs) if isinstance(value, np.ndarray)]
        held = f"; its arrays: {', '.join(arrays)}" if arrays else ""
        raise ValueError(f"obs has no picture [height, width, 3]; it holds {', '.join(map(str, obs))}{held}.")
    assigned = _assigned(list(found), {camera: info.camera_slots.get(camera, camera) for camera in info.cameras})
    return {camera: as_picture(found[key], name=key) for camera, key in assigned.items()}


def as_picture(array: NDArray[Any], *, name: str = "the picture") -> NDArray[np.uint8]:
    """An array as uint8 [height, width, 3]: openpi's programs have channels first too, and floats from 0 to 1.

    Raises ValueError for floats outside 0 to 1 (by more than 1e-5), or none at all. Other types and shapes are refused
    as they are sent.
    """
    if not array.size:
        raise ValueError(f"{name} holds nothing; expected uint8, or floats from 0 to 1.")
    try:
        return to_uint8(channels_last(array))
    except FloatRangeError as error:
        if not np.isfinite([error.low, error.high]).all():
            detail = f"{name} holds NaN or infinity; expected uint8, or floats from 0 to 1."
            raise ValueError(detail) from error
        raise ValueError(
            f"{name} has {array.dtype} from {error.low:g} to {error.high:g}; expected uint8, or floats from 0 to 1. If "
            "these are 0 to 255, pass .astype(np.uint8); if -1 to 1, pass (x + 1) / 2."
        ) from error


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray) and unbatched(value).ndim == 3


def _assigned(keys: List[str], slots: Mapping[str, str]) -> Dict[str, str]:
    """Camera -> the key of its picture; keys that no camera is left for stay out. `slots`: camera -> its slot."""
    matches = {camera: partial(match_camera, camera, slot) for camera, slot in slots.items()}
    named = {camera: [key for key in keys if match(key) <= NameMatch.ABRIDGED] for camera, match in matches.items()}
    assigned = {camera: min(fits, key=matches[camera]) for camera, fits in named.items() if fits}
    left = [key for key in keys if key not in assigned.values()]
    for camera, slot in slots.items():
        in_hand = camera_mount(camera, slot) is Mount.HAND
        fitting = [key for key in left if (mount_of(key) is Mount.HAND) == in_hand]
        if camera not in assigned and fitting:
            assigned[camera] = fitting[0]
            left.remove(fitting[0])
    return {camera: assigned[camera] for camera in slots if camera in assigned}


def _address(host: str, port: Optional[int]) -> str:
    """The daemon's address: `host` is a name, or an address already. Raises ValueError."""
    if not isinstance(host, str):
        raise ValueError(f"host is {host!r:.80}; expected a name such as '127.0.0.1', or 'ws://127.0.0.1:8000'.")
    if not host.startswith(("ws://", "wss://", "http://", "https://")):
        name = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 -- where to connect, not where to listen
        return f"ws://{f'[{name}]' if ':' in name else name}:{port or DEFAULT_PORT}"
    try:
        return host if port is None else str(httpx.URL(host).copy_with(port=port))
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise ValueError(f"host is {host!r} and port {port!r}; expected an address and a number.") from error
