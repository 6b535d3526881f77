"""The group `stillframe study` and its sub-commands, in the order of --help. Knows names; does nothing."""

from __future__ import annotations

import typer

from stillframe_lab.cli.study.ablation import ablation_command
from stillframe_lab.cli.study.bridge import bridge_command
from stillframe_lab.cli.study.drafts import drafts_command
from stillframe_lab.cli.study.evidence import evidence_command
from stillframe_lab.cli.study.families import families_command
from stillframe_lab.cli.study.memory import memory_command
from stillframe_lab.cli.study.methods import methods_command
from stillframe_lab.cli.study.prefix_caches import prefix_caches_command
from stillframe_lab.cli.study.rtc import rtc_command
from stillframe_lab.cli.study.under_load import under_load_command

study_app = typer.Typer(
    no_args_is_help=True,
    help="Play many cells and write the tables that compare them. They go into docs/ unless --out says where; a study "
    "that was stopped goes on from the cells that --run has. `stillframe eval` plays a policy in one way alone.",
)

study_app.command("ablation")(ablation_command)
study_app.command("families")(families_command)
study_app.command("methods")(methods_command)
study_app.command("memory")(memory_command)
study_app.command("prefix-caches")(prefix_caches_command)
study_app.command("rtc")(rtc_command)
study_app.command("bridge")(bridge_command)
study_app.command("drafts")(drafts_command)
study_app.command("under-load")(under_load_command)
study_app.command("evidence")(evidence_command)
