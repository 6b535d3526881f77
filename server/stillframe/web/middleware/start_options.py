"""Options fixed per port for clients that cannot send them; other policy servers take them as start options.

Knows no client and no port; parsers, dialects and /v1/models read the PolicyInfo that `apply` returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stillframe.domain import PolicyInfo
from stillframe.errors import ConfigError, closest


@dataclass(frozen=True)
class StartOptions:
    """Start options of one port, from the configuration."""

    profile: str = "native"  # the clients it is for
    unnorm_key: str | None = None  # of frames that name none; None: the policy's only one
    cameras: Mapping[str, str] = field(default_factory=dict)  # the policy's camera -> the client's key of its picture
    center_crop: float | None = None  # central share of each picture's area that is used; None, 1: all
    default_instruction: str | None = None  # of frames without one, where their session has none yet; None: refused
    openpi_metadata: Mapping[str, Any] = field(default_factory=dict)  # more members of openpi's first message

    def apply(self, info: PolicyInfo) -> PolicyInfo:
        """Return `info` with these options, as this port's clients see it."""
        return replace(
            info,
            profile=self.profile,
            fixed_unnorm_key=self.unnorm_key,
            default_unnorm_key=self.unnorm_key or info.default_unnorm_key,
            camera_keys=self.cameras,
            center_crop=None if self.center_crop == 1 else self.center_crop,
            default_instruction=self.default_instruction,
            openpi_metadata=self.openpi_metadata,
        )

    def check(self, info: PolicyInfo, where: str) -> None:
        """Raise ConfigError for a key or camera that the policy does not have; `where` names the section."""
        faults = [*self._faults(info)]
        if faults:
            raise ConfigError(f"{where}: " + "; ".join(faults))

    def _faults(self, info: PolicyInfo) -> Iterator[str]:
        if self.unnorm_key is not None and self.unnorm_key not in info.norm_stats:
            known = sorted(info.norm_stats)
            detail = f"unnorm_key is {self.unnorm_key!r}; {info.name} has statistics for {', '.join(known)}"
            yield f"{detail}.{closest(self.unnorm_key, known)}"
        for camera in self.cameras:
            if camera not in info.cameras:
                detail = f"cameras names a camera {camera!r}; {info.name} has {', '.join(info.cameras)}"
                yield f"{detail}.{closest(camera, info.cameras)}"
