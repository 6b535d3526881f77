from __future__ import annotations

import pytest
import torch
from torch import nn

from stillframe.history.gate import Cell, Gate, GateSizes, Linear

INPUTS, HIDDEN = 12, 4
NOISE = torch.Generator().manual_seed(8)
CHUNKS = 5 + 3 * torch.randn(6, INPUTS, generator=NOISE)  # six of one session, in their order


def opinionated(cell: Cell) -> Gate:
    """A gate that has learnt something, and from what."""
    torch.manual_seed(5)
    gate = Gate(GateSizes(INPUTS, HIDDEN, cell))
    nn.init.normal_(gate.outward.weight)
    gate.norm.fit(CHUNKS)
    return gate.eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_gate_is_its_cell_over_the_chunks_in_turn(cell: Cell) -> None:
    """Asked chunk by chunk with the states it returned, it says what the cell says when it is run by hand."""
    gate, states, said, expected = opinionated(cell), opinionated(cell).begin(1), [], []
    hidden, kept = torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN)
    for chunk in CHUNKS:
        logit, states = gate(chunk[None], states)
        said.append(logit)
        standard = ((chunk - CHUNKS.mean(0)) / CHUNKS.std(0)).clamp(-6, 6)
        seen = torch.tanh(gate.inward(standard))[None]
        if isinstance(gate.cell, nn.LSTMCell):
            hidden, kept = gate.cell(seen, (hidden, kept))
        else:
            hidden = gate.cell(seen, hidden)
        expected.append(gate.outward(hidden)[:, 0])

    torch.testing.assert_close(torch.stack(said), torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert len({round(float(logit), 3) for logit in said}) > 1


def test_learnt_scores_see_what_differs_not_what_is_in_common() -> None:
    """The same chunks a long way off, in other units, are worth the same once a scorer is fitted to those."""
    far = 1000 + 50 * CHUNKS
    gates, linears = [opinionated("gru") for _ in range(2)], [Linear(INPUTS) for _ in range(2)]
    torch.manual_seed(6)
    nn.init.normal_(linears[0].outward.weight)
    linears[1].load_state_dict(linears[0].state_dict())
    for seen, gate, linear in zip((CHUNKS, far), gates, linears, strict=True):
        gate.norm.fit(seen)
        linear.norm.fit(seen)

    torch.testing.assert_close(gates[0](CHUNKS, gates[0].begin(6)), gates[1](far, gates[1].begin(6)), atol=0.01, rtol=0)
    torch.testing.assert_close(linears[0](CHUNKS), linears[1](far), atol=0.01, rtol=0)
    assert len({round(logit, 1) for logit in linears[0](CHUNKS).tolist()}) > 1
