"""The messages of kinova_msgs that the bridge uses, made from their text: ROS tells equal messages by its md5."""

from __future__ import annotations

from genpy.dynamic import generate_dynamic

TWIST = "".join(f"float32 twist_{kind}_{axis}\n" for kind in ("linear", "angular") for axis in "xyz")
TEXTS = {
    "PoseVelocity": TWIST,
    "PoseVelocityWithFingers": f"{TWIST}float32 fingers_closure_percentage\n",
    "FingerPosition": "".join(f"float32 finger{number}\n" for number in (1, 2, 3)),
}


def _made(name: str, text: str) -> type:
    kind: type = generate_dynamic(f"kinova_msgs/{name}", text)[f"kinova_msgs/{name}"]
    return kind


PoseVelocity, PoseVelocityWithFingers, FingerPosition = (_made(name, text) for name, text in TEXTS.items())
