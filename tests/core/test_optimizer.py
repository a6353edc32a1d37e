"""SGD with momentum beside AdamW: torch's own with clip_grad_norm_, and when a config may ask for it."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from kdnb.core.config import RunConfig
from kdnb.core.optimizer import Optimizer

BASE = RunConfig(task="digits", profile="toy", data="0" * 16, method="erm", student="mlp-small", lr=0.1)
SGD = replace(BASE, optimizer="sgd", momentum=0.8, weight_decay=5e-4)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.mark.parametrize("clip", [0.0, 0.05, 1e3], ids=["unclipped", "clipped", "below the bound"])
def test_sgd_is_torchs_own_with_its_clipping(clip):
    config, ours, theirs = replace(SGD, clip=clip), network(), network()
    optimizer = Optimizer(ours, config, "fp32")
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.8, weight_decay=5e-4, fused=False)
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        inputs, labels = torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)
        lr = 0.1 / (step + 1)
        nn.functional.cross_entropy(ours(inputs), labels).backward()
        optimizer.step(lr)
        nn.functional.cross_entropy(theirs(inputs), labels).backward()
        if clip:
            norm = nn.utils.clip_grad_norm_(theirs.parameters(), clip)
            assert (norm > clip) == (clip == 0.05)  # it is clipped where the test says so
        reference.param_groups[0]["lr"] = lr
        reference.step()
        reference.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_momentum_decay_and_optimizer_each_change_what_is_learnt():
    def ends(config):
        model = network()
        optimizer = Optimizer(model, config, "fp32")
        for _ in range(3):
            model(torch.ones(2, 6)).square().sum().backward()
            optimizer.step(config.lr)
        return model[0].weight.detach()

    results = [ends(one) for one in (BASE, SGD, replace(SGD, momentum=0.0), replace(SGD, weight_decay=0.1))]
    assert all(not torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])


def test_a_config_names_its_optimizer_only_where_it_is_not_adamw():
    assert '"optimizer"' not in BASE.to_json()
    assert '"momentum": 0.8' in SGD.to_json()
    assert len({BASE.run_id(), SGD.run_id(), replace(SGD, momentum=0.9).run_id()}) == 3
    for wrong, words in (
        ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd, got 'adam'"),
        ({"momentum": 0.5}, "momentum must be 0.9 for adamw, got 0.5"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum must be in [0, 1), got 1.0"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
            replace(BASE, **wrong)
