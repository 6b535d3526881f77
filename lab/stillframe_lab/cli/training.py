"""`stillframe train`: demonstrations, policies, memories. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import Device
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.selector import train_selector_command
from stillframe_lab.cli.shipped import TINY, TINY_MEMORY

train_app = typer.Typer(no_args_is_help=True, help="Train the policy that ships with stillframe.")

DATA, RUNS = Path("data"), Path("runs")
MEMORY_RUN = RUNS / "jaco-tiny-memory"


class Trainable(StrEnum):
    """The policies that `train policy` makes; the lab's train/policies.py says how."""

    TINY = "jaco-tiny"
    WRIST = "jaco-tiny-wrist"
    OFT = "jaco-tiny-oft"
    KITCHEN = "jaco-tiny-kitchen"
    COGACT = "jaco-tiny-cogact"
    PI0 = "jaco-tiny-pi0"
    PI05 = "jaco-tiny-pi05"
    LIBERO = "libero-tiny"
    LIBERO_OFT = "libero-tiny-oft"


Which = Annotated[Trainable, typer.Argument(help="The policy.", show_default=True)]
Wrist = Annotated[bool, typer.Option("--wrist", help="The same as jaco-tiny-wrist.")]


@train_app.command("demos")
def train_demos_command(
    policy: Which = Trainable.TINY,
    data: Annotated[Path, typer.Option(help="Folder of the frames (4 GB).")] = DATA,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one a core.")] = 2,
    *,
    wrist: Wrist = False,
) -> None:
    """Collect demonstrations: a shaky expert's frames, each labelled for several instructions."""
    require_extras("sim", "charts")
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.train.policies import POLICIES

    chosen = POLICIES[Trainable.WRIST if wrist else policy]()
    with user_errors():
        collected = chosen.collect(data, workers)
    typer.echo(f"{collected} in {data}")


@train_app.command("policy")
def train_policy_command(
    policy: Which = Trainable.TINY,
    out: Annotated[Path | None, typer.Option(help="Where it goes; default checkpoints/POLICY.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Its state; a run that is there is resumed; default runs/POLICY.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Demonstrations; collected if they are not there.")] = DATA,
    start: Annotated[Path | None, typer.Option(help="Begin with this checkpoint's weights; or a hub id's.")] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; one is often fastest on shared cores.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Simulator processes, one a core.")] = 2,
    *,
    wrist: Wrist = False,
) -> None:
    """Train one of the shipped policies: demonstrations, cloning, DAgger, selection. About an hour on two cores.

    jaco-tiny begins with random weights, jaco-tiny-wrist, jaco-tiny-cogact and jaco-tiny-pi0 as jaco-tiny,
    jaco-tiny-oft as jaco-tiny-wrist, jaco-tiny-kitchen and libero-tiny-oft as jaco-tiny-oft, jaco-tiny-pi05 as
    jaco-tiny-pi0, libero-tiny as libero-tiny-oft. The last two are for LIBERO-Spatial, whose simulator `make libero`
    installs.
    """
    require_extras("sim", "charts")
    import torch

    from stillframe.daemon.serve import choose_device
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.progress import TrainingBar
    from stillframe_lab.train.places import Places
    from stillframe_lab.train.policies import POLICIES

    torch.set_num_threads(threads)
    name = (Trainable.WRIST if wrist else policy).value
    chosen = POLICIES[name]()
    out, run = out or TINY.with_name(name), run or RUNS / name
    places = Places(run, data, out, local_folder(start) if start else chosen.start_beside(TINY))
    with user_errors(), TrainingBar(chosen.steps) as bar:
        trained = chosen.train(places, choose_device(device), workers, bar)
    typer.echo(f"chosen: {trained}, copied to {out}; measure it with `stillframe eval --checkpoint {out}`")


@train_app.command("to-lerobot")
def to_lerobot_command(
    checkpoint: Annotated[Path, typer.Argument(help="A pi0 or pi0.5 in openpi's PyTorch layout; or a hub id.")],
    out: Annotated[Path, typer.Argument(help="Folder that lerobot's layout goes to.")],
) -> None:
    """Write a pi0 or pi0.5 of openpi's layout in lerobot's."""
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.train.pi0.lerobot import save_lerobot

    with user_errors():
        save_lerobot(local_folder(checkpoint), out)
    typer.echo(f"{out}: lerobot's layout of {checkpoint}")


@train_app.command("memory")
def train_memory_command(
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes.")] = TINY_MEMORY,
    run: Annotated[Path, typer.Option(help="The run's state; resumes if there is one.")] = MEMORY_RUN,
    data: Annotated[Path, typer.Option(help="Scenes; collected if they are not there (1 GB).")] = DATA,
    start: Annotated[Path, typer.Option(help="Begin with this checkpoint's weights; or a hub id's.")] = TINY,
    device: Annotated[Device, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; one is often fastest on shared cores.")] = 1,
    *,
    together: Annotated[
        bool, typer.Option("--together", help="Then fine-tune both; it brought nothing, see docs/log.md.")
    ] = False,
) -> None:
    """Train jaco-tiny-memory: a policy that attends to older frames, then a gate that selects which are kept."""
    require_extras("sim", "charts")
    import torch

    from stillframe.daemon.serve import choose_device
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.progress import MemoryBar
    from stillframe_lab.train.history.pipeline import publish, train_memory
    from stillframe_lab.train.history.recipe import JACO_TINY_TOGETHER

    torch.set_num_threads(threads)
    with user_errors(), MemoryBar() as bar:
        recipe = JACO_TINY_TOGETHER if together else replace(JACO_TINY_TOGETHER, steps=0)
        policy = train_memory(run, data, recipe, choose_device(device), bar, local_folder(start))
    publish(policy, run, recipe, out)
    typer.echo(f"written: {out}; measure it with `stillframe eval --checkpoint {out} --task remember --history gate`")


@train_app.command("gate")
def train_gate_command(
    checkpoint: Annotated[Path, typer.Option(help="A policy with a history; its gate is replaced.")],
    run: Annotated[Path, typer.Option(help="The run's state; resumes if there is one.")] = MEMORY_RUN / "gate",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train the gate of a policy with a history, from its attention in episodes with full history."""
    require_extras("sim")
    import torch

    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.progress import MemoryBar
    from stillframe_lab.train.history.pipeline import train_gate
    from stillframe_lab.train.history.recipe import JACO_TINY_MEMORY

    torch.set_num_threads(threads)
    with user_errors(), MemoryBar() as bar:
        train_gate(run, checkpoint, JACO_TINY_MEMORY, bar)
    typer.echo(f"written: {checkpoint}/memory.safetensors")


@train_app.command("together")
def train_together_command(
    checkpoint: Annotated[Path, typer.Option(help="A policy with a history and a trained gate.")],
    run: Annotated[Path, typer.Option(help="The run's state; resumes if there is one.")] = MEMORY_RUN / "together",
    data: Annotated[Path, typer.Option(help="Scenes; collected if they are not there (1 GB).")] = DATA,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Fine-tune a policy with a history and its gate together, on histories of bounded size."""
    require_extras("sim")
    import torch

    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.progress import MemoryBar
    from stillframe_lab.train.history.pipeline import train_together
    from stillframe_lab.train.history.recipe import JACO_TINY_TOGETHER

    torch.set_num_threads(threads)
    with user_errors(), MemoryBar() as bar:
        policy = train_together(run, data, checkpoint, JACO_TINY_TOGETHER, bar)
    typer.echo(f"written: {policy}; the checkpoint that it began with is as it was")


train_app.command("selector")(train_selector_command)
