from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNS, LONGEST_BYTES, WAIT_S = 12_000, 2048, 300
NAMES = ["act-json", "v1-msgpack", "cogact-form", "openpi", "stream-json", "picture", "head"]


@pytest.fixture(scope="session")
def python(load: Callable[[str], ModuleType]) -> str:
    """The interpreter of an environment that holds atheris; it is published for CPython on Linux only."""
    if sys.platform != "linux" or not (3, 11) <= sys.version_info < (3, 14):
        pytest.skip("atheris 3.0.0 has no wheel for this Python")
    return str(load("e2e/clients/real.py").interpreter("atheris"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_coverage_leads_nowhere_else(python: str, tmp_path: Path, name: str) -> None:
    """A fuzzer that is led by what it reaches finds no way out but an answer or a RequestError, nor one that hangs."""
    paths = [ROOT / "server", ROOT / "client", sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    options = [f"-runs={RUNS}", f"-max_len={LONGEST_BYTES}", "-timeout=20", "-rss_limit_mb=1500", "-seed=7"]
    joined = os.pathsep.join(dict.fromkeys(map(str, paths)))
    command = [python, str(HERE / "climb.py"), name, str(tmp_path), joined, *options, f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, cwd=tmp_path, check=False)

    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {RUNS} " in done.stderr or f"#{RUNS}\tDONE" in done.stderr, done.stderr[-500:]
