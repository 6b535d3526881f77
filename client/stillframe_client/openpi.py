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

from stillframe_client.streaming.blocking import PolicyStream

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from stillframe_client.replies import ModelInfo

DEFAULT_PORT = 8000
_WORDS = ("prompt", "instruction", "task")
_NESTED = ("images", "observation")  # maps that hold the pictures, as ALOHA's programs have them
_PASSED_ON = ("unnorm_key", "max_age_ms", "reuse")  # ours, for those who want them
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
    """The instruction in an observation. Raises ValueError."""
    words = next((obs[key] for key in _WORDS if key in obs), None)
    if not isinstance(words, str):
        raise ValueError(f"obs has no text under 'prompt'; it holds {', '.join(map(str, obs))}.")
    return words


def pictures_of(obs: Mapping[str, Any], info: ModelInfo) -> Dict[str, NDArray[np.uint8]]:
    """The pictures in an observation, by the policy's cameras: same name, else wrist to wrist, the others in order.

    Raises ValueError where there is none.
    """
    found = {key: value for key, value in _flat(obs) if isinstance(value, np.ndarray) and value.ndim == 3}
    if not found:
        raise ValueError(f"obs has no picture [height, width, 3]; it holds {', '.join(map(str, obs))}.")
    return {camera: as_picture(found[key]) for camera, key in _assigned(list(found), info.cameras).items()}


def as_picture(array: NDArray[Any]) -> NDArray[np.uint8]:
    """An array as uint8 [height, width, 3]: openpi's programs have channels first too, and floats from 0 to 1."""
    if np.issubdtype(array.dtype, np.floating):
        array = (np.nan_to_num(array.clip(0, 1)) * 255).astype(np.uint8)
    if array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    return array


def _assigned(keys: List[str], cameras: Tuple[str, ...]) -> Dict[str, str]:
    """Camera -> the key of its picture; keys that no camera is left for stay out."""
    assigned = {camera: key for key in keys for camera in cameras if camera in (key, _DECORATION.sub("", key))}
    left = [key for key in keys if key not in assigned.values()]
    for camera in cameras:
        fitting = [key for key in left if ("wrist" in key) == ("wrist" in camera)]
        if camera not in assigned and fitting:
            assigned[camera] = fitting[0]
            left.remove(fitting[0])
    return {camera: assigned[camera] for camera in cameras if camera in assigned}


def _flat(obs: Mapping[str, Any]) -> Iterator[Tuple[str, Any]]:
    """Keys and values, those of nested maps as their own."""
    for key, value in obs.items():
        if key in _NESTED and isinstance(value, Mapping):
            yield from ((f"{key}/{inner}", part) for inner, part in value.items())
        else:
            yield key, value


def _address(host: str, port: Optional[int]) -> str:
    """The daemon's address: `host` is a name, or an address already."""
    if host.startswith(("ws://", "wss://", "http://", "https://")):
        return host if port is None else str(httpx.URL(host).copy_with(port=port))
    name = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 -- where to connect, not where to listen
    return f"ws://{f'[{name}]' if ':' in name else name}:{port or DEFAULT_PORT}"
