"""Record the expert's episode of LIBERO-Spatial's first task in the real simulator, with the pictures of three steps.

    PYTHONPATH=server:client:lab .venv/bin/python tests/lab/libero/recorded/record.py

Takes `make libero`. Pictures are JPEG of quality 95, as LIBERO's data sets have them.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from stillframe_client.wire.packing import pack
from stillframe_lab.libero.expert.player import ExpertPlayer
from stillframe_lab.libero.process import Pictures, SimulatorProcess, simulator_python, start_command
from stillframe_lab.libero.suites import SETTLE, SETTLE_STEPS, most_steps

SUITE, TASK, INIT_STATE, SEED = "libero_spatial", 0, 0, 0
LOOKED_AT = (0, 30, 60)  # steps


def jpeg(pictures: Pictures) -> dict[str, bytes]:
    """Compressed, rows upwards as they came."""
    files = {name: io.BytesIO() for name in pictures}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(files[name], "JPEG", quality=95)
    return {name: file.getvalue() for name, file in files.items()}


def main() -> None:
    """Play and write."""
    player = ExpertPlayer(SUITE)
    with SimulatorProcess(start_command(simulator_python())) as simulator:
        scene = simulator.open(SUITE, TASK)
        readings = [simulator.reset(INIT_STATE, SEED)]
        readings += [simulator.step(SETTLE) for _ in range(SETTLE_STEPS)]
        player.begin(scene)
        actions, pictures = [], []
        while not readings[-1].success and len(actions) < most_steps(SUITE):
            if len(actions) in LOOKED_AT:
                pictures.append({"step": len(actions), **jpeg(simulator.pictures())})
            actions.append(player.action(readings[-1], simulator.pictures))
            readings.append(simulator.step(actions[-1]))
    document: dict[str, Any] = {
        "suite": SUITE,
        "task": TASK,
        "init_state": INIT_STATE,
        "seed": SEED,
        "scene": asdict(scene),
        "readings": [asdict(reading) for reading in readings],
        "actions": actions,
        "pictures": pictures,
    }
    Path(__file__).with_name("spatial-0.msgpack").write_bytes(pack(document))


if __name__ == "__main__":
    main()
