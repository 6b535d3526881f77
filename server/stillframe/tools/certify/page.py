"""A certificate as a page that a person reads: Markdown, beside the JSON.

Knows the certificate's fields; adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stillframe.tools.certify.certificate import Answers, ArmResult, Certificate, Times, seal_of

ANSWERS = (
    *("arm", "promise", "verdict", "ticks equal", "tokens that differ", "actions that differ"),
    *("drift p50", "p90", "largest", "reuse", "passes"),
)
TIMES = (
    *("arm", "frames a pass", "p50", "p99", "worst", "jitter (p99 - p50)", "std"),
    *("CPU p50", "CPU p99", "plain / this, a frame"),
)
COUNTED = ("equal", "within rounding", "approximate", "broken", "not here")


def page(certificate: Certificate, json_name: str) -> str:
    """The page of the certificate that lies beside it as `json_name`."""
    return "\n".join(_lines(certificate, json_name)) + "\n"


def verdict_line(certificate: Certificate) -> str:
    """All of it in one line."""
    verdicts = [arm.verdict for arm in certificate.arms]
    counts = ", ".join(f"{verdicts.count(one)} {one}" for one in COUNTED if one in verdicts)
    kept = "a promise is broken" if certificate.broken else "every promise is kept"
    return f"{certificate.checkpoint.name}: {kept}; of {len(verdicts)} arms {counts}"


def broken_lines(certificate: Certificate) -> list[str]:
    """What is broken, and where first."""
    return [
        f"{arm.name} promises {arm.promise}, and tick {arm.answers.broken_ticks[0]} is further off"
        f" ({len(arm.answers.broken_ticks)} of {arm.answers.ticks} ticks)"
        for arm in certificate.arms
        if arm.answers is not None and arm.answers.broken_ticks
    ]


def _lines(certificate: Certificate, json_name: str) -> Iterator[str]:
    checkpoint, frames = certificate.checkpoint, certificate.frames
    yield f"# Certificate of {checkpoint.name}\n"
    yield f"{verdict_line(certificate)}.\n"
    yield (
        f"Made {certificate.made} by `stillframe certify`. "
        f"Every figure is in [{json_name}]({json_name}), whose seal is\n"
        f"`{seal_of(certificate.model_dump(mode='json'))}`.\n"
    )
    yield from (f"- **broken**: {line}" for line in broken_lines(certificate))
    yield "\n## Answers\n"
    yield from _table(
        ANSWERS,
        [(arm.name, arm.promise, arm.verdict, *_answers(arm.answers)) for arm in certificate.arms],
    )
    yield "\nDrift is in normalised units, of which a number's whole range is 2.\n"
    yield from _ties(certificate.arms)
    yield "## Distances, in the robot's units\n"
    yield from _distances(certificate.arms)
    yield "\n## Times\n"
    before, after = (load[0] for load in certificate.machine.load_average)
    yield (
        "Wall time of a pass, pictures to actions, in ms; no queue and no network. Arms took turns, tick by tick;\n"
        f"{certificate.warm_up_ticks} ticks before the first, and idle refreshes between ticks, are not in it. Load "
        f"average (1 minute)\n{before:.2f} before and {after:.2f} after, on {certificate.machine.cores} cores: above "
        "that, the machine did other work too. CPU: time of the\none thread that does all the work, where it is one; "
        "the last column is of it then.\n"
    )
    yield from _table(TIMES, [(arm.name, *_times(arm.times)) for arm in certificate.arms if arm.times is not None])
    absent = [arm for arm in certificate.arms if arm.why is not None]
    if absent:
        yield "\n## Not here\n"
        yield from (f"- **{arm.name}**: {arm.why}" for arm in absent)
    yield "\n## What was certified, and on what\n"
    yield from (f"- **{name}**: {said}" for name, said in _facts(certificate))
    yield "\n## The rule\n"
    yield from (f"- {line}" for line in certificate.rule)
    scene = f"seed {frames.seed}" if frames.kind == "scene" else "its recording"
    yield f"\nWhat to do with it, and how to check it ({scene}): docs/certificates/README.md of stillframe."


def _answers(found: Answers | None) -> tuple[str, ...]:
    if found is None:
        return ("-",) * 8
    drift = found.drift
    return (
        f"{found.equal} of {found.ticks}",
        f"{found.tokens_differ} of {found.tokens}" if found.tokens else "-",
        f"{found.actions_differ} of {found.actions}",
        *(f"{value:.2g}" for value in (drift.p50, drift.p90, drift.largest)),
        f"{found.reuse_ratio:.2f}",
        f"{found.passes:.2f}",
    )


def _times(times: Times | None) -> tuple[str, ...]:
    if times is None:
        return ("-",) * 9
    wall = (times.p50_ms, times.p99_ms, times.worst_ms, times.jitter_ms, times.std_ms)
    cpu = ("-" if value is None else f"{value:.2f}" for value in (times.cpu_p50_ms, times.cpu_p99_ms))
    return (str(times.frames_per_pass), *(f"{value:.2f}" for value in wall), *cpu, f"{times.times_plain:.2f}x")


def _ties(arms: Sequence[ArmResult]) -> Iterator[str]:
    """Where an arm that promises equality chose another token: how near the choice was."""
    ties = [(arm.name, tie) for arm in arms if arm.answers for tie in arm.answers.near_ties]
    if ties:
        yield "First tokens that differ, and how near the choice was, in logits:\n"
        yield from _table(
            ("arm", "tick", "token", "the plain token's lead", "what rounding can turn"),
            [(name, str(tie.tick), str(tie.token), f"{tie.lead:.3g}", f"{tie.reach:.3g}") for name, tie in ties],
        )
        yield ""


def _distances(arms: Sequence[ArmResult]) -> Iterator[str]:
    """Largest / mean, of the arms that are not equal."""
    apart = [(arm.name, arm.answers.distance) for arm in arms if arm.answers and arm.answers.equal < arm.answers.ticks]
    if not apart:
        yield "None: every arm is equal."
        return
    names = [*apart[0][1]]
    yield from _table(
        ("largest / mean", *names),
        [(arm, *(f"{own[name].largest:.2g} / {own[name].mean:.2g}" for name in names)) for arm, own in apart],
    )


def _facts(certificate: Certificate) -> Iterator[tuple[str, str]]:
    checkpoint, machine, frames = certificate.checkpoint, certificate.machine, certificate.frames
    yield (
        "checkpoint",
        f"{checkpoint.source or checkpoint.name}, {checkpoint.family}, {checkpoint.parameters:,} parameters",
    )
    yield "weights", f"SHA-256 of {len(checkpoint.files)} files' digests `{checkpoint.sha256}`"
    seed = "" if frames.seed is None else f", seed {frames.seed}"
    yield "frames", f"{frames.ticks} of a {frames.kind}{seed}, SHA-256 `{frames.sha256}`"
    flags = ", ".join(machine.cpu_flags)
    yield (
        "machine",
        f"{machine.cpu}, {machine.cores} cores, {machine.threads} thread(s), {machine.cpu_capability} ({flags})",
    )
    yield "GPU", machine.gpu or "none"
    yield "batch invariant", "yes" if machine.batch_invariant else "no"
    yield "dtype", str(certificate.settings["dtype"])
    yield "versions", ", ".join(f"{name} {said}" for name, said in certificate.versions.items() if said is not None)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
