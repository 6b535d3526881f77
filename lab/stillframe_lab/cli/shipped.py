"""The shipped policies and their configurations, by path from the repository's root. Knows names; opens nothing."""

from __future__ import annotations

from pathlib import Path

TINY, TINY_WRIST = Path("checkpoints/jaco-tiny"), Path("checkpoints/jaco-tiny-wrist")
TINY_OFT, TINY_COGACT = Path("checkpoints/jaco-tiny-oft"), Path("checkpoints/jaco-tiny-cogact")
TINY_PI0, TINY_PI05 = Path("checkpoints/jaco-tiny-pi0"), Path("checkpoints/jaco-tiny-pi05")
TINY_MEMORY, LIBERO_OFT = Path("checkpoints/jaco-tiny-memory"), Path("checkpoints/libero-tiny-oft")
TINY_CONFIG, TINY_WRIST_CONFIG = Path("configs/jaco-tiny.yaml"), Path("configs/jaco-tiny-wrist.yaml")
TINY_MEMORY_CONFIG = Path("configs/jaco-tiny-memory.yaml")
TINY_OFT_CONFIG, TINY_COGACT_CONFIG = Path("configs/jaco-tiny-oft.yaml"), Path("configs/jaco-tiny-cogact.yaml")
TINY_PI0_CONFIG, TINY_PI05_CONFIG = Path("configs/jaco-tiny-pi0.yaml"), Path("configs/jaco-tiny-pi05.yaml")
BRIDGE_CONFIG = Path("configs/jaco2-sim.toml")  # of the simulated arm
LIBERO_OFT_CONFIG = Path("configs/libero-tiny-oft.yaml")
TINY_KITCHEN, TINY_KITCHEN_CONFIG = Path("checkpoints/jaco-tiny-kitchen"), Path("configs/jaco-tiny-kitchen.yaml")
SHIPPED = {
    TINY: TINY_CONFIG,
    TINY_WRIST: TINY_WRIST_CONFIG,
    TINY_MEMORY: TINY_MEMORY_CONFIG,
    TINY_OFT: TINY_OFT_CONFIG,
    TINY_COGACT: TINY_COGACT_CONFIG,
    TINY_PI0: TINY_PI0_CONFIG,
    TINY_PI05: TINY_PI05_CONFIG,
    LIBERO_OFT: LIBERO_OFT_CONFIG,
    TINY_KITCHEN: TINY_KITCHEN_CONFIG,
}
FAMILIES = (TINY, TINY_OFT, TINY_COGACT, TINY_PI0, TINY_PI05)  # one policy of each family


def knobs_of(checkpoint: Path, file: Path | None) -> Path | None:
    """The YAML to read: `file`, or the shipped one of a shipped checkpoint."""
    ours = {folder.resolve(): config for folder, config in SHIPPED.items() if config.is_file()}
    return file or ours.get(checkpoint.resolve())
