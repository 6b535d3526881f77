"""Fail an image's build whose torch is not of the kind that was asked for: `check_torch.py any|cpu|cuda`."""

import sys

import torch

KINDS = ("any", "cpu", "cuda")
REMEDIES = {
    "cpu": "point TORCH_INDEX at PyTorch's CPU index, or put its wheel among `wheels`",
    "cuda": "leave TORCH_INDEX away on x86-64, point it at one of PyTorch's CUDA indexes elsewhere",
}


def complaint(asked: str, cuda: str | None) -> str | None:
    """What is wrong with a torch made for this version of CUDA, None for a CPU's; None: it is what was asked for."""
    if asked not in KINDS:
        return f"ACCELERATOR={asked}: expected one of {', '.join(KINDS)}"
    came = "cpu" if cuda is None else "cuda"
    if asked in {"any", came}:
        return None
    return f"ACCELERATOR={asked}, and pip found a torch for {f'CUDA {cuda}' if cuda else 'CPUs'}: {REMEDIES[asked]}"


if __name__ == "__main__":
    sys.exit(complaint(sys.argv[1], torch.version.cuda))
