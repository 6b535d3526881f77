"""A stillframe daemon in the shape of openpi's client: change the import, keep the program.

Knows openpi's observation keys and no socket. Underneath is PolicyStream: unlike the original it times out, reconnects,
resumes its session, and its `reset` reaches the daemon.
Source of the shape: Physical-Intelligence/openpi, packages/openpi-client/src/openpi_client/websocket_client_policy.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple

import httpx
import numpy as np

from stillframe_client.frames import text
from stillframe_client.streaming.blocking import PolicyStream

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from stillframe_client.replies import ModelInfo

DEFAULT_PORT = 8000
_WORDS = ("prompt", "instruction", "task")
_NESTED = ("images", "observation")  # maps that hold the pictures, as ALOHA's programs have them
_PASSED_ON = ("unnorm_key", "max_age_ms", "reuse")  # ours, for those who want them
_HAND = re.compile("wrist|gripper|(?<![a-z])hand(?![a-z])", re.IGNORECASE)  # LIBERO's is robot0_eye_in_hand_image
_ROUNDING = 1e-5  # that a float may be outside 0 to 1
_DECORATION = re.compile(r"^(observation[/.]|images?[/._])+|([/._]?(image|rgb|left))+$")


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
            "gripper": info.gripper,
        }

    def infer(self, obs: Mapping[str, Any]) -> Dict[str, Any]:
        """Ask for the chunk due now: `actions` float32 [horizon, action_dim], and timings in ms.

        Pictures are the arrays of rank 3, by the policy's camera names or openpi's keys; the words are under "prompt".
        Joint states are for policies that ask for them: none here does. Raises ValueError for an `obs` without pictures
        or words.
        """
        passed_on = {key: obs[key] for key in _PASSED_ON if key in obs}
        reply = self._stream.act_with_report(pictures_of(obs, self._info), words_of(obs), **passed_on)
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


def words_of(obs: Mapping[str, Any]) -> str:
    """The instruction in an observation: text, or an array of one text. Raises ValueError."""
    key = next((key for key in _WORDS if key in obs), None)
    if key is None or isinstance(obs[key], (list, tuple, type(None))):
        raise ValueError(f"obs has no text under 'prompt'; it holds {', '.join(map(str, obs))}.")
    return text(f"obs[{key!r}]", obs[key])


def pictures_of(obs: Mapping[str, Any], info: ModelInfo) -> Dict[str, NDArray[np.uint8]]:
    """The pictures in an observation, by the policy's cameras: same name, else wrist to wrist, the others in order.

    Raises ValueError where there is none, and for one that is not [height, width, 3] in uint8 or floats from 0 to 1.
    """
    found = {key: single(value) for key, value in _flat(obs) if _is_picture(value)}
    if not found:
        arrays = [f"{key} {value.shape}" for key, value in _flat(obs) if isinstance(value, np.ndarray)]
        held = f"; its arrays: {', '.join(arrays)}" if arrays else ""
        raise ValueError(f"obs has no picture [height, width, 3]; it holds {', '.join(map(str, obs))}{held}.")
    assigned = _assigned(list(found), info.cameras)
    return {camera: as_picture(found[key], name=key) for camera, key in assigned.items()}


def single(array: NDArray[Any]) -> NDArray[Any]:
    """A batch of one picture is that picture."""
    return array[0] if array.ndim == 4 and array.shape[0] == 1 else array


def as_picture(array: NDArray[Any], *, name: str = "the picture") -> NDArray[np.uint8]:
    """An array as uint8 [height, width, 3]: openpi's programs have channels first too, and floats from 0 to 1.

    Raises ValueError for floats outside 0 to 1 (by more than 1e-5) or that are none: clipped, they would be another
    picture. Other types and shapes are refused as they are sent.
    """
    if np.issubdtype(array.dtype, np.floating):
        array = _from_floats(array, name)
    if array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    return array


def _from_floats(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity, or nothing; expected uint8, or floats from 0 to 1.")
    low, high = float(array.min()), float(array.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            f"{name} has {array.dtype} from {low:g} to {high:g}; expected uint8, or floats from 0 to 1. If these are 0 "
            "to 255, pass .astype(np.uint8); if -1 to 1, pass (x + 1) / 2."
        )
    scaled: NDArray[np.uint8] = (array.clip(0, 1) * 255).astype(np.uint8)
    return scaled


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray) and single(value).ndim == 3


def _assigned(keys: List[str], cameras: Tuple[str, ...]) -> Dict[str, str]:
    """Camera -> the key of its picture; keys that no camera is left for stay out."""
    assigned = {camera: key for key in keys for camera in cameras if camera in (key, _DECORATION.sub("", key))}
    left = [key for key in keys if key not in assigned.values()]
    for camera in cameras:
        fitting = [key for key in left if _in_hand(key) == _in_hand(camera)]
        if camera not in assigned and fitting:
            assigned[camera] = fitting[0]
            left.remove(fitting[0])
    return {camera: assigned[camera] for camera in cameras if camera in assigned}


def _in_hand(name: str) -> bool:
    """Whether a camera sits on the arm's hand, by its name."""
    return _HAND.search(name) is not None


def _flat(obs: Mapping[str, Any]) -> Iterator[Tuple[str, Any]]:
    """Keys and values, those of nested maps as their own."""
    for key, value in obs.items():
        if key in _NESTED and isinstance(value, Mapping):
            yield from ((f"{key}/{inner}", part) for inner, part in value.items())
        else:
            yield key, value


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
