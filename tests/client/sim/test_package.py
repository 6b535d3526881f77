from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.process
def test_words_and_experts_import_without_mujoco_and_torch() -> None:
    """Only JacoEnv needs the engine; a robot's computer can use the rest."""
    code = (
        "import sys; sys.modules['mujoco'] = sys.modules['torch'] = sys.modules['dm_control'] = None\n"
        "from stillframe_client.sim import COLOURS, TASKS, Goal, SensorNoise, expert_action\n"
        "print(Goal('pick', COLOURS[0]).instruction)"
    )

    assert _python(code) == "pick up the red cube\n"


@pytest.mark.process
def test_a_missing_engine_explains_itself() -> None:
    """Asking for JacoEnv without MuJoCo names the extra of either distribution."""
    code = (
        "import sys; sys.modules['mujoco'] = None\n"
        "try:\n    from stillframe_client.sim import JacoEnv\n"
        "except ImportError as problem:\n    print(problem)"
    )

    assert "pip install 'stillframe[sim]' or, on a robot, 'stillframe-client[sim]'" in _python(code)


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
