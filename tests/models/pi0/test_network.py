from __future__ import annotations

import torch

from stillframe.models.pi0.model import Pi0
from stillframe.models.pi0.prefix import PrefixKV
from stillframe.reuse.kv import FrameKV, KVShape


@torch.inference_mode()
def test_the_states_row_goes_with_the_first_step(folder_of, load) -> None:  # type: ignore[no-untyped-def] # fixtures
    """Chunks are those of a loop in which it goes through the expert with every step, as in the reference."""
    model: Pi0 = load(folder_of("pi0-micro"), real=True)
    network, lengths = model.network, [9, 6]
    sizes, random = network.sizes, torch.Generator().manual_seed(3)
    shape = KVShape(sizes.decoder.num_hidden_layers, 1, sizes.decoder.head_dim, 9, torch.float32, model.device)
    caches = [FrameKV(shape.allocate().normal_(generator=random)) for _ in lengths]
    noise = torch.stack([model.noise(robot) for robot in range(2)])
    states = torch.randn(2, sizes.action_dim, generator=random)
    rows = network.state_proj(states)[:, None]
    actions = noise
    for step in range(network.flow.steps):
        prefix = PrefixKV.of(caches, lengths, 1, noise.shape[1])
        rotary = network._rotary(prefix.positions, 1 + noise.shape[1])
        actions = actions + network.flow.stride * network.velocity(actions, step, rotary, prefix, rows)

    torch.testing.assert_close(network.draw(caches, lengths, states, noise), actions, rtol=0, atol=1e-5)
