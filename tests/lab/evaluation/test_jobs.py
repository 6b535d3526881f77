from __future__ import annotations

from pathlib import Path

from stillframe_lab.evaluation.jobs import checkpoint_digest, load_or_make


def test_the_digest_is_of_tensors_and_configuration(tmp_path: Path) -> None:
    """A changed byte of any changes it, what is remembered by among them; a model card does not."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(name)
    digests = [checkpoint_digest(tmp_path)]
    (tmp_path / "README.md").write_text("better than ever")
    digests.append(checkpoint_digest(tmp_path))
    for name in ("config.json", "model.safetensors", "memory.json", "memory.safetensors"):
        (tmp_path / name).write_text("other")
        digests.append(checkpoint_digest(tmp_path))

    assert digests[0] == digests[1]
    assert len(set(digests[1:])) == 5


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    """Unless its origin is another one."""
    made = [load_or_make(tmp_path / "a.json", {"seed": seed}, lambda n=n: {"n": n}) for n, seed in enumerate((1, 1, 2))]

    assert [one["n"] for one in made] == [0, 0, 2]
