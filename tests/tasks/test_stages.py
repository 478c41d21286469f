"""Claims about the names of places in a network."""

import pytest
import torch
from torch import Tensor, nn

from fedlight.tasks.segmentation import SegmentationTask

NETWORKS = [
    ("Unet", "plain-16"),
    ("FPN", "plain-16"),
    ("Unet", "resnet18"),
    ("Unet", "mobilenet_v2"),
    ("Unet", "efficientnet-b0"),
    ("Unet", "tu-mobilenetv3_small_100"),
    ("UnetPlusPlus", "resnet18"),
    ("FPN", "resnet18"),
    ("DeepLabV3Plus", "resnet18"),
    ("Linknet", "resnet18"),
]


def built(architecture: str = "Unet", encoder: str = "plain-16") -> SegmentationTask:
    torch.manual_seed(0)
    task = SegmentationTask(architecture=architecture, encoder=encoder)
    task.configure_model()
    return task


@pytest.mark.parametrize(("architecture", "encoder"), NETWORKS)
def test_a_change_at_any_stage_reaches_the_logits(architecture: str, encoder: str) -> None:
    task = built(architecture, encoder).eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = task(images)
        stages = dict(task.stages())
        assert stages.pop("input") == ""
        assert {"encoder1", "encoder2", "bottleneck", "decoder1", "logits"} <= set(stages)
        for stage, place in stages.items():
            module = task.network.get_submodule(place)
            hook = module.register_forward_hook(lambda _, args, output: output * 1.5 + 0.5)
            assert not torch.equal(task(images), before), stage
            hook.remove()
        assert torch.equal(task(images), before)


def test_stages_of_the_plain_u_net() -> None:
    expected = [
        "input",
        "encoder1",
        "encoder2",
        "encoder3",
        "bottleneck",
        *(f"decoder{i}" for i in range(1, 5)),
        "decoder",
        "logits",
    ]
    assert list(built().stages()) == expected


def test_what_passes_a_stage_is_the_feature_of_the_encoder() -> None:
    """In a ResNet the activation of the next stage works in place on the same tensor, but is not the stage."""
    task = built(encoder="resnet18").eval()
    seen: list[Tensor] = []
    module = task.network.get_submodule(task.stages()["encoder2"])
    with torch.no_grad():
        hook = module.register_forward_hook(lambda _, args, output: seen.append(output))
        features = task.network.get_submodule("encoder")(torch.rand(1, 3, 64, 64))
        hook.remove()
    assert seen[0] is features[2]


def test_finding_stages_disturbs_nothing() -> None:
    torch.manual_seed(0)
    task = SegmentationTask(encoder="resnet18", norm="batch")
    task.configure_model()
    task.network.get_submodule("encoder.layer1").eval()
    modes = [module.training for module in task.modules()]
    state = {name: value.clone() for name, value in task.state_dict().items()}
    numbers = torch.random.get_rng_state()
    task.stages()
    assert modes == [module.training for module in task.modules()]
    assert all(torch.equal(value, state[name]) for name, value in task.state_dict().items())
    assert torch.equal(numbers, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in task.modules())


class Repeating(nn.Module):
    """A network whose decoder block runs twice in a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 1)
        self.decoder = nn.Module()
        self.decoder.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1)])
        self.segmentation_head = nn.Conv2d(4, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        block = self.get_submodule("decoder.blocks.0")
        logits: Tensor = self.segmentation_head(block(block(self.encoder(images))))
        return logits


def test_a_module_that_runs_twice_is_no_stage() -> None:
    from fedlight.tasks.stages import find_stages

    assert find_stages(Repeating(), in_channels=3) == {"input": "", "logits": "segmentation_head"}
