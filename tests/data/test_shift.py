"""The shift between synthetic sites is real: what is learnt at one of them alone fails at another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fedlight.data.synthetic import SyntheticSites
from fedlight.randomness import seeded


def small_network() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, dilation in ((3, 1), (16, 2), (16, 4)):
        layers += [nn.Conv2d(channels, 16, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 2, 1))


def train(data: SyntheticSites, site: str) -> nn.Module:
    with seeded(0, "network"):
        network = small_network()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for batch in data.train_loader(site, seed=0, steps=120):
        logits, mask = network(batch["image"]), (batch["mask"] > 0).long()
        share = logits.softmax(1)[:, 1]
        loss = F.cross_entropy(logits, mask) + 1 - 2 * (share * mask).sum() / (share.sum() + mask.sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@torch.no_grad()
def dice(data: SyntheticSites, network: nn.Module, site: str) -> float:
    both, sizes = 0, 0
    for batch in data.loader(site, "test"):
        found, mask = network(batch["image"]).argmax(1) * batch["valid"], batch["mask"] > 0
        both, sizes = both + int((found * mask).sum()), sizes + int(found.sum() + mask.sum())
    return 2 * both / sizes


def loss_at_the_worst_other_site(shift: float) -> float:
    data = SyntheticSites(image_size=32, cases=16, shift=shift)
    network = train(data, "site1")
    scores = {site: dice(data, network, site) for site in data.sites}
    assert scores["site1"] > 0.75
    return scores["site1"] - min(scores.values())


def test_a_model_of_one_site_loses_clearly_at_another() -> None:
    assert loss_at_the_worst_other_site(shift=1.0) > 0.1


def test_without_shift_it_does_not() -> None:
    assert loss_at_the_worst_other_site(shift=0.0) < 0.1
