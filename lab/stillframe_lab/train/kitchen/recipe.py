"""The recipe of jaco-tiny-kitchen, what it is told, and the words that it knows.

Knows numbers and words; no code that uses them.
"""

from __future__ import annotations

from stillframe_client.sim.kitchen import TASKS
from stillframe_lab.train.chunked.recipe import InstructedRecipe
from stillframe_lab.train.demonstrations import Mixture
from stillframe_lab.train.new_checkpoint import WORDS as JACO_WORDS

NAMES = tuple(TASKS)
INSTRUCTIONS = tuple(task.instruction for task in TASKS.values())
NEW_WORDS = ("in", "pot", "box", "sausage", "pan", "wipe", "table")
# In the place of words that jaco-tiny-oft never learnt: all others keep the ids, and the rows, that it knows them by.
WORDS = (*JACO_WORDS[: -len(NEW_WORDS)], *NEW_WORDS)

SHARES = (0.16, 0.30, 0.28, 0.26)  # of each task among the episodes: longer ones more
NOISY_EXPERT = Mixture(home=0.45, anywhere=0.15, near=0.20, holding=0.20, keep_far=0.35, keep_near=0.6, max_steps=110)
DAGGER = Mixture(home=0.80, anywhere=0.05, near=0.08, holding=0.07, keep_far=0.5, keep_near=0.7, max_steps=130)


JACO_TINY_KITCHEN = InstructedRecipe(
    seed=14,
    cameras=("front", "wrist"),
    demo_frames=9_000,
    dagger_frames=2_400,
    dagger_at=(600, 1_200, 1_800),
    steps=3_000,
    learning_rate=1e-3,
    warmup_steps=60,
    decay_from=0.5,
    ema_decay=0.995,
    action_weights=(1.0, 1.0, 1.0, 0.2, 0.2, 0.2, 1.0),
    select_episodes=20,
)
