"""What a deployment fixes for the clients of a port, who cannot say it: other servers take that as start options.

Knows no client and no port; a PolicyInfo with these terms in it is what readers, dialects and /v1/models look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from stillframe.domain import PolicyInfo
from stillframe.errors import ConfigError, closest


@dataclass(frozen=True)
class Terms:
    """Start options, as the configuration has them."""

    profile: str = "native"  # whose clients come in here
    unnorm_key: str | None = None  # whose statistics scale the action of a frame that names none; None: the only ones
    cameras: Mapping[str, str] = field(default_factory=dict)  # the policy's camera -> the client's key of its picture
    center_crop: float | None = None  # share of each picture's area, at its middle, that is looked at; None, 1: all

    def over(self, info: PolicyInfo) -> PolicyInfo:
        """The policy as those see it who come in under these terms."""
        return replace(
            info,
            profile=self.profile,
            fixed_unnorm_key=self.unnorm_key,
            default_unnorm_key=self.unnorm_key or info.default_unnorm_key,
            camera_keys=self.cameras,
            center_crop=None if self.center_crop == 1 else self.center_crop,
        )

    def check(self, info: PolicyInfo, where: str) -> None:
        """Raise ConfigError for what this policy does not have; `where` names the section at fault."""
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
