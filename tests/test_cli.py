from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stillframe import __version__
from stillframe.daemon.config import DaemonConfig, load_config
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.gl import NoOpenGLError
from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.evaluate import Evaluation
from stillframe_lab.evaluation.trace import AnsweredFrame

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there
EVALUATION_FIELDS = {
    *("task", "episodes", "seed", "hz", "noise_sigma", "jpeg_quality", "policy", "success", "success_ci95"),
    *("wrong_cube", "timed_out", "steps_mean", "latency_ms", "failed_seeds", "cameras", "distractor"),
    *("delay", "variant", "first_direction", "execute", "ms_per_step", "masks"),
    *("reuse", "frames", "reuse_ratio", "keyframes", "keyframe_reasons", "reused_tokens_delta", "keyframe_latency_ms"),
    *("delta_latency_ms", "llm_prefill_ms", "llm_prefill_delta_ms", "planning_ms", "decoder_gmacs"),
    *("decoder_gmacs_delta", "drift", "slack", "passes"),
    *("history_mib", "history_end_mib", "decoder_ms", "chunks"),
}
ELSEWHERE = {"policy", "decoder_gmacs", "drift", "passes", "ms_per_step"}  # not told by a daemon, and where it is


@dataclass(frozen=True)
class Typed:
    """What came of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def stillframe(typed: Callable[..., tuple[int, str, str]]) -> Callable[..., Typed]:
    """Type a command: `stillframe("eval", "--task", "pick")`."""
    return lambda *words: Typed(*typed(*words))


def assert_one_line(typed: Typed, *parts: object) -> None:
    """Exit status 1, nothing on stdout, and one line on stderr which holds `parts` in their order."""
    assert (typed.status, typed.out) == (1, "")
    assert typed.err.startswith("stillframe: ")
    assert typed.err.count("\n") == 1
    places = [typed.err.find(str(part)) for part in parts]
    assert -1 not in places, typed.err
    assert places == sorted(places), typed.err


def test_the_version_is_the_packages(stillframe: Callable[..., Typed]) -> None:
    """`--version` names the program and the version that pip shows."""
    assert stillframe("--version") == Typed(0, f"stillframe {__version__}\n", "")


def test_a_word_that_is_no_command_is_refused(stillframe: Callable[..., Typed]) -> None:
    """A usage error is status 2, on stderr."""
    typed = stillframe("sevre")

    assert (typed.status, typed.out) == (2, "")
    assert "sevre" in typed.err


def test_serve_wants_a_checkpoint(stillframe: Callable[..., Typed]) -> None:
    """Without YAML and without options the error says what is missing."""
    assert_one_line(stillframe("serve"), "the command line", "'checkpoint' is missing")


def test_serve_refuses_a_wrong_yaml(stillframe: Callable[..., Typed], tmp_path: Path) -> None:
    """The file, the typo and what was meant."""
    (tmp_path / "a.yaml").write_text("checkpoint: there\ndytpe: float32\n")

    assert_one_line(stillframe("serve", tmp_path / "a.yaml"), tmp_path, "'dytpe'", "'dtype'")


def test_brackets_in_an_error_are_words(stillframe: Callable[..., Typed], tmp_path: Path) -> None:
    """What looks like markup is printed as it is: an error names what it found, whatever that is."""
    (tmp_path / "a.yaml").write_text('checkpoint: there\n"[/red]": 1\n"[bold]": 2\n')

    assert_one_line(stillframe("serve", tmp_path / "a.yaml"), "unknown key '[/red]'", "unknown key '[bold]'")


def test_serve_refuses_a_taken_port(stillframe: Callable[..., Typed], tmp_path: Path) -> None:
    """Before it loads anything, and with the address in the error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert_one_line(
            stillframe("serve", "--checkpoint", tmp_path, "--port", port),
            f"cannot listen on 127.0.0.1:{port}",
            "in use",
            "--port",
        )


def test_serve_refuses_an_unknown_log_level(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An environment variable is a door like any other."""
    monkeypatch.setenv("STILLFRAME_LOG", "loud")

    assert_one_line(stillframe("serve", "--checkpoint", tmp_path), "STILLFRAME_LOG is 'loud'", "warning")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("checkpoint", Path("c")), ("device", "cpu"), ("dtype", "bfloat16"), ("threads", 3)),
        *(("host", "::1"), ("port", 1), ("record", Path("r")), ("record_images", "hash")),
    ],
)
def test_options_of_serve_win_over_the_yaml(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, value: object
) -> None:
    """Each option changes its key and no other."""
    served: list[DaemonConfig] = []
    monkeypatch.setattr("stillframe.daemon.serve.serve", lambda config, _log: served.append(config))
    (tmp_path / "a.yaml").write_text("checkpoint: there\nport: 9000\nqueue_frames: 5\n")
    stillframe("serve", tmp_path / "a.yaml")
    stillframe("serve", tmp_path / "a.yaml", f"--{option.replace('_', '-')}", value)
    plain, changed = (config.model_dump() for config in served)

    assert plain["queue_frames"] == 5
    assert changed == plain | {option: value}
    assert changed != plain


def test_serve_takes_options_of_tls_and_anonymous_callers(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The options of who may ask turn their keys; a host that others reach is refused without one of them."""
    served: list[DaemonConfig] = []
    monkeypatch.setattr("stillframe.daemon.serve.serve", lambda config, _log: served.append(config))
    refused = stillframe("serve", "--checkpoint", tmp_path, "--host", "0.0.0.0")  # noqa: S104 -- never listened on
    stillframe("serve", "--checkpoint", tmp_path, "--host", "0.0.0.0", "--allow-anonymous")  # noqa: S104 -- as above
    stillframe("serve", "--checkpoint", tmp_path, "--tls-cert", "c.pem", "--tls-key", "k.pem")
    opened, secured = served

    assert_one_line(refused, "the command line", "other machines reach '0.0.0.0'", "--allow-anonymous")
    assert (opened.allow_anonymous, secured.allow_anonymous) == (True, False)
    assert (secured.tls_cert, secured.tls_key) == (Path("c.pem"), Path("k.pem"))


@pytest.mark.parametrize(
    ("options", "scopes"), [((), ["act"]), (("--scope", "admin", "--scope", "act", "--scope", "act"), ["admin", "act"])]
)
def test_a_token_is_printed_with_the_lines_that_let_it_in(
    stillframe: Callable[..., Typed], tmp_path: Path, options: tuple[str, ...], scopes: list[str]
) -> None:
    """What is printed goes into a YAML as it stands, and the daemon of that YAML knows the token by its hash alone."""
    typed = stillframe("token", "front-arm", *options)
    secret, lines = re.split(r"^#.*\n", typed.out, flags=re.MULTILINE)[1:]
    (tmp_path / "a.yaml").write_text(f"checkpoint: there\nhost: 0.0.0.0\ntokens:\n{lines}")
    (known,) = load_config(tmp_path / "a.yaml", {}).tokens

    assert (typed.status, typed.err) == (0, "")
    assert (known.name, known.scopes) == ("front-arm", scopes)
    assert known.sha256 == hashlib.sha256(secret.strip().encode()).hexdigest()
    assert secret.strip() not in lines


def test_no_two_tokens_are_alike(stillframe: Callable[..., Typed]) -> None:
    """Each is 32 bytes of chance."""
    secrets = {stillframe("token", "front").out.splitlines()[1] for _ in range(8)}

    assert len(secrets) == 8
    assert {len(secret) for secret in secrets} == {43}


def test_a_token_for_a_name_that_cannot_be_one_is_refused(stillframe: Callable[..., Typed]) -> None:
    """Before anything is printed that looks like a token."""
    assert_one_line(stillframe("token", "front arm"), "the command line", "name is 'front arm'", "expected")
    assert stillframe("token", "front", "--scope", "root").status == 2


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--task", "fetch"), ("unknown task 'fetch'", "reach, pick, push")),
        (("--hz", 7), ("hz is 7", "5, 10, 20")),
        (("--noise-sigma", -1), ("sigma is -1", "between 0 and 255")),
        (("--jpeg", 0), ("jpeg_quality is 0", "1 to 100")),
        (("--server", "localhost:8000"), ("--server: url is 'localhost:8000'", "http://127.0.0.1:8000")),
    ],
    ids=lambda value: str(value[0]),
)
def test_eval_says_in_one_line_what_cannot_be_played(
    stillframe: Callable[..., Typed], options: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    """A task, a rate or a camera that is not there, a server that is no URL: what was asked, what there is."""
    typed = stillframe("eval", "--server", NOBODY, "--episodes", 1, *options)

    assert_one_line(said(typed), *parts)


@pytest.mark.usefixtures("needs_gl")
def test_eval_says_in_one_line_that_no_daemon_answers(stillframe: Callable[..., Typed]) -> None:
    """The address, and what to look at first."""
    typed = stillframe("eval", "--server", NOBODY, "--episodes", 1, "--task", "reach")

    assert_one_line(said(typed), f"Nothing answers at {NOBODY}", "is the port right?")


def said(typed: Typed) -> Typed:
    """What came of a command, without the progress that stood on stderr before its complaint."""
    return Typed(typed.status, typed.out, typed.err[typed.err.find("stillframe: ") :])


def test_eval_refuses_a_folder_that_is_no_checkpoint(stillframe: Callable[..., Typed], tmp_path: Path) -> None:
    """As serve does, with the folder's name."""
    assert_one_line(stillframe("eval", "--checkpoint", tmp_path / "none"), tmp_path / "none", "is not a folder")


@pytest.mark.parametrize("command", [("eval",), ("train", "policy")])
def test_a_device_that_does_not_exist_is_refused(stillframe: Callable[..., Typed], command: tuple[str, ...]) -> None:
    """The choices are those of the configuration; a wrong one is a usage error."""
    typed = stillframe(*command, "--device", "gpu")

    assert (typed.status, typed.out) == (2, "")
    assert all(word in typed.err for word in ("--device", "'gpu'", "auto", "cpu", "cuda"))


def test_seeds_begin_at_nought(stillframe: Callable[..., Typed]) -> None:
    """A generator takes no negative seed, so none is accepted."""
    typed = stillframe("eval", "--seed", -1)

    assert (typed.status, typed.out) == (2, "")
    assert "--seed" in typed.err


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (("eval",), "mujoco", "stillframe[sim]"),
        (("eval",), "dm_control", "stillframe[sim]"),
        (("demo",), "mujoco", "stillframe[sim]"),
        (("demo",), "matplotlib", "stillframe[charts]"),
        (("train", "demos"), "dm_control", "stillframe[sim]"),
        (("train", "policy"), "mujoco", "stillframe[sim]"),
        (("train", "policy"), "matplotlib", "stillframe[charts]"),
        (("bench",), "transformers", "stillframe-lab[bench]"),
    ],
)
def test_a_missing_extra_is_said_first(
    stillframe: Callable[..., Typed],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    package: str,
    extra: str,
) -> None:
    """Before anything is loaded or played: the package, and the command that brings it."""
    monkeypatch.setitem(sys.modules, package, None)

    assert_one_line(stillframe(*command), package, f"pip install '{extra}'")


@pytest.mark.parametrize(
    ("command", "work"), [("demos", "pipeline.collect_demonstrations"), ("policy", "pipeline.train_policy")]
)
def test_training_says_in_one_line_what_it_lacks(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, work: str
) -> None:
    """A machine that cannot draw is its user's to mend, as it is for eval and demo."""

    def fail(*_: object) -> None:
        raise NoOpenGLError("no way to draw")

    monkeypatch.setattr(f"stillframe_lab.train.{work}", fail)
    typed = stillframe("train", command, "--data", tmp_path)

    assert_one_line(said(typed), "no way to draw")


@pytest.mark.parametrize(
    ("words", "name", "cameras", "start"),
    [
        ((), "jaco-tiny", ("front",), None),
        (("--wrist",), "jaco-tiny-wrist", ("front", "wrist"), Path("checkpoints/jaco-tiny")),
        (("jaco-tiny-wrist",), "jaco-tiny-wrist", ("front", "wrist"), Path("checkpoints/jaco-tiny")),
        (("jaco-tiny-oft",), "jaco-tiny-oft", ("front", "wrist"), Path("checkpoints/jaco-tiny-wrist")),
        (("jaco-tiny-kitchen",), "jaco-tiny-kitchen", ("front", "wrist"), Path("checkpoints/jaco-tiny-oft")),
        (("jaco-tiny-cogact",), "jaco-tiny-cogact", ("front",), Path("checkpoints/jaco-tiny")),
        (("jaco-tiny-pi0",), "jaco-tiny-pi0", ("front",), Path("checkpoints/jaco-tiny")),
        (("jaco-tiny-pi05",), "jaco-tiny-pi05", ("front",), Path("checkpoints/jaco-tiny-pi0")),
        (("--wrist", "--start", "mine"), "jaco-tiny-wrist", ("front", "wrist"), Path("mine")),
    ],
)
def test_each_policy_is_trained_by_its_recipe_from_its_start(
    stillframe: Callable[..., Typed],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    name: str,
    cameras: tuple[str, ...],
    start: Path | None,
) -> None:
    """A policy's name takes its recipe and its start, and keeps its folders apart from the others'."""
    asked: list[Any] = []

    def note(*arguments: object) -> None:
        asked.extend(arguments)
        raise NoOpenGLError("far enough")

    monkeypatch.setattr("stillframe_lab.train.pipeline.train_policy", note)
    assert_one_line(said(stillframe("train", "policy", *words)), "far enough")
    run, _, recipe, *_, begun_with, _ = asked

    assert (run, recipe.cameras, begun_with) == (Path("runs") / name, cameras, start)


@pytest.mark.parametrize(("name", "start"), [("libero-tiny", "libero-tiny-oft"), ("libero-tiny-oft", "jaco-tiny-oft")])
def test_a_policy_for_libero_is_trained_by_its_own_pipeline(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, name: str, start: str
) -> None:
    """By the same command, from its start, with as many simulators as workers."""
    asked: list[Any] = []

    def note(*arguments: object) -> None:
        asked.extend(arguments)
        raise NoOpenGLError("far enough")

    monkeypatch.setattr("stillframe_lab.train.libero.policy.train_libero", note)
    assert_one_line(said(stillframe("train", "policy", name, "--workers", 3, "--data", "demos")), "far enough")
    run, source, *_, begun_with = asked

    assert (run, begun_with) == (Path("runs") / name, Path("checkpoints") / start)
    assert (source.data, source.workers, source.recipe.suite) == (Path("demos"), 3, "libero_spatial")


def test_eval_refuses_an_unknown_dtype(stillframe: Callable[..., Typed], tmp_path: Path) -> None:
    """The option's value and the choices."""
    typed = stillframe("eval", "--checkpoint", tmp_path, "--dtype", "fp16")

    assert_one_line(typed, "'dtype' is 'fp16'", "'bfloat16'")


@pytest.fixture
def short(needs_gl: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 -- for its skip
    """Episodes end after a few steps."""
    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.JacoEnv", partial(JacoEnv, max_steps=8))


@pytest.mark.usefixtures("short")
def test_eval_reports_the_same_in_process_and_over_http(
    stillframe: Callable[..., Typed], golden_folder: Path, golden_url: str, tmp_path: Path
) -> None:
    """The promise of `eval --server`: all figures but the latencies are equal; what is printed is what is written."""
    plan = ("--task", "reach", "--episodes", 1, "--seed", 3, "--hz", 5, "--jpeg", 90)
    here = stillframe("eval", "--checkpoint", golden_folder, *plan, "--json", tmp_path / "new" / "here.json")
    there = stillframe("eval", "--server", golden_url, *plan)
    local, remote = json.loads(here.out), json.loads(there.out)

    assert (here.status, there.status) == (0, 0)
    assert set(local) == EVALUATION_FIELDS
    assert (tmp_path / "new" / "here.json").read_text() == here.out
    assert (local["policy"], remote["policy"]) == (str(golden_folder), golden_url)
    assert alike(local) == alike(remote)
    assert (local["task"], local["episodes"], local["seed"], local["hz"]) == ("reach", 1, 3, 5)
    assert 0 < local["latency_ms"]["p50"] <= local["latency_ms"]["p99"]


def alike(document: Mapping[str, Any]) -> dict[str, Any]:
    """What may not depend on the way to the policy."""
    return {key: value for key, value in document.items() if key not in ELSEWHERE and not key.endswith("_ms")}


def test_eval_that_cannot_write_still_prints(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An hour of episodes is not lost to a wrong path: the result is on stdout, the error on stderr, the status 1."""
    played = [Episode(1, "reach", success=True, wrong_object=False, steps=2, act_ms=(1.0, 2.0), wall_s=1.0)]
    plans: list[Evaluation] = []

    def evaluate(plan: Evaluation, asked: Any, _: object) -> list[Episode]:
        plans.append(plan)
        asked.trace.frames += [AnsweredFrame("off", "off", 0.0, 0, 268, {})]
        asked.trace.asked += [True, False]
        return played

    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.evaluate", evaluate)
    (tmp_path / "file").touch()
    monkeypatch.setattr("stillframe_lab.evaluation.actors.ServerActor.horizon", 4)
    typed = stillframe("eval", "--server", NOBODY, "--execute", 2, "--json", tmp_path / "file" / "out.json")

    assert typed.status == 1
    assert json.loads(typed.out)["success"] == 1.0
    assert f"cannot write {tmp_path / 'file' / 'out.json'}" in typed.err
    assert (json.loads(typed.out)["execute"], json.loads(typed.out)["frames"]) == (2, 1)
    assert plans == [Evaluation("pick", episodes=100, seed=1000, execute=2)]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("words", "mode"),
    [((), "off"), (("--config", "YAML"), "exact"), (("--config", "YAML", "--reuse", "paper"), "paper")],
)
def test_eval_reuses_as_it_is_told(
    stillframe: Callable[..., Typed], golden_folder: Path, tmp_path: Path, words: tuple[str, ...], mode: str
) -> None:
    """Nothing unless a mode or a YAML is named; the mode wins over the YAML's. Every frame is accounted for."""
    yaml = tmp_path / "a.yaml"
    yaml.write_text("checkpoint: elsewhere\nreuse:\n  mode: exact\n")
    plan = ("--task", "reach", "--episodes", 1, "--seed", 3, "--hz", 5)
    typed = stillframe("eval", "--checkpoint", golden_folder, *plan, *(str(yaml) if w == "YAML" else w for w in words))
    document = json.loads(typed.out)

    assert document["reuse"] == mode
    assert document["frames"] == document["steps_mean"]
    assert document["keyframes"] == sum(document["keyframe_reasons"].values())
    assert (document["reuse_ratio"] > 0) == (document["keyframes"] < document["frames"]) == (mode != "off")


@pytest.mark.parametrize(("enough", "status"), [(True, 0), (False, 1)])
def test_the_demos_status_is_its_result(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, *, enough: bool, status: int
) -> None:
    """A demo with too few successes fails; its report goes to a folder of its own under runs/."""
    asked: list[tuple[list[str], Path]] = []

    def run_demo(options: list[str], out: Path, _: object) -> bool:
        asked.append((options, out))
        return enough

    monkeypatch.setattr("stillframe_lab.demo.run.run_demo", run_demo)
    typed = stillframe("demo")
    ((options, out),) = asked

    assert typed.status == status
    assert options == ["configs/jaco-tiny.yaml"]
    assert out.parent == Path("runs")
    assert not out.exists()


def test_a_demo_to_watch_writes_nothing(stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves what the demo serves, until it is ended; through the bridge there is none."""
    asked: list[list[str]] = []
    monkeypatch.setattr("stillframe_lab.demo.watch.watch_demo", lambda options, _: asked.append(options))
    typed, both = stillframe("demo", "--watch"), stillframe("demo", "--watch", "--bridge")

    assert (typed.status, asked) == (0, [["configs/jaco-tiny.yaml"]])
    assert both.status != 0
    assert "--bridge with --watch" in both.err


@pytest.mark.parametrize("odd", [[], ["--watch", "--config", "configs/jaco-tiny.yaml"]])
def test_a_demo_may_be_driven_by_a_daemon_that_runs_already(
    stillframe: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, odd: list[str]
) -> None:
    """Its address is enough, to watch; a configuration beside it, or no --watch, is refused in a line that says so."""
    asked: list[str] = []
    monkeypatch.setattr("stillframe_lab.demo.watch.watch_daemon", lambda url, _: asked.append(url))
    there = ["--url", "http://robot:8000"]
    typed, refused = stillframe("demo", "--watch", *there), stillframe("demo", *there, *odd)

    assert (typed.status, asked) == (0, ["http://robot:8000"])
    assert_one_line(refused, "--url", "expected --watch")
