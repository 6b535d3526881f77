"""The services of kinova_msgs that the bridge calls: an empty request, and a text in return."""

from __future__ import annotations

import hashlib

from genpy.dynamic import generate_dynamic


def _made(name: str, answer: str) -> type:
    kinds = {}
    for part, text in (("Request", ""), ("Response", f"string {answer}\n")):
        kinds[part] = generate_dynamic(f"kinova_msgs/{name}{part}", text)[f"kinova_msgs/{name}{part}"]
    digest = hashlib.md5(f"string {answer}".encode(), usedforsecurity=False).hexdigest()
    about = {"_type": f"kinova_msgs/{name}", "_md5sum": digest}
    return type(name, (), {**about, "_request_class": kinds["Request"], "_response_class": kinds["Response"]})


Start, Stop = _made("Start", "start_result"), _made("Stop", "stop_result")
ClearTrajectories, HomeArm = _made("ClearTrajectories", "clear_trajectories_result"), _made("HomeArm", "homearm_result")
