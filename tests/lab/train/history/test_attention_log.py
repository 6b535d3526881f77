from __future__ import annotations

import numpy as np
import torch

from stillframe.history.scorers import Summaries
from stillframe_lab.train.history.episodes import AttentionLog, utility_labels


def test_an_attention_log_keeps_the_most_attention() -> None:
    """Of all answers after a chunk, the most that one looked at it, beside what it looked at most."""
    log = AttentionLog()
    for chunk, masses in enumerate(([], [0.2], [0.1, 0.4], [0.0, 0.1, 0.05])):
        if masses:
            log.updated(np.ones(len(masses)), np.array(masses))
        row = torch.full((1, 2), float(chunk))
        log.score(Summaries(row, row, row), [log.begin()])
    logged = log.close()

    assert logged.inputs[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(logged.attention, [1.0, 1.0, 0.5, 0.0])
    assert log.inputs == []


def test_who_says_it_again_is_worth_less() -> None:
    """The first of each kind is worth what is looked at it; each repeat half; what is not looked at stays as it is."""
    looked = np.array([0.05, 1.0, 0.8, 0.8, 0.9, 0.1])

    np.testing.assert_allclose(utility_labels(looked, np.array([3, 0, 0, 0, 1, 3])), [0.05, 1.0, 0.4, 0.2, 0.9, 0.1])
