"""The shipped policies and their configurations, by path from the repository's root. Knows names; opens nothing."""

from __future__ import annotations

from pathlib import Path

TINY, TINY_WRIST = Path("checkpoints/jaco-tiny"), Path("checkpoints/jaco-tiny-wrist")
TINY_MEMORY, TINY_KITCHEN = Path("checkpoints/jaco-tiny-memory"), Path("checkpoints/jaco-tiny-kitchen")
TINY_OFT, TINY_COGACT = Path("checkpoints/jaco-tiny-oft"), Path("checkpoints/jaco-tiny-cogact")
TINY_PI0, TINY_PI05 = Path("checkpoints/jaco-tiny-pi0"), Path("checkpoints/jaco-tiny-pi05")
LIBERO, LIBERO_OFT = Path("checkpoints/libero-tiny"), Path("checkpoints/libero-tiny-oft")
FAMILIES = (TINY, TINY_OFT, TINY_COGACT, TINY_PI0, TINY_PI05)  # one policy of each family
SHIPPED = {  # and the configuration of each
    folder: Path("configs") / f"{folder.name}.yaml"
    for folder in (*FAMILIES, TINY_WRIST, TINY_MEMORY, TINY_KITCHEN, LIBERO, LIBERO_OFT)
}
TINY_CONFIG, TINY_PI0_CONFIG = SHIPPED[TINY], SHIPPED[TINY_PI0]
BRIDGE_CONFIG = Path("configs/jaco2-sim.toml")  # of the simulated arm


def knobs_of(checkpoint: Path, file: Path | None) -> Path | None:
    """The YAML to read: `file`, or the shipped one of a shipped checkpoint."""
    ours = {folder.resolve(): config for folder, config in SHIPPED.items() if config.is_file()}
    return file or ours.get(checkpoint.resolve())
