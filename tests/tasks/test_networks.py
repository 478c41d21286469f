"""Claims about building networks and loading pretrained weights."""

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedlight.tasks.segmentation import SegmentationTask


def network_of(task: SegmentationTask) -> nn.Module:
    task.configure_model()
    return task.network


def encoder_state(task: SegmentationTask) -> dict[str, Tensor]:
    return network_of(task).get_submodule("encoder").state_dict()


def test_plain_16_u_net_has_half_a_million_parameters() -> None:
    count = sum(parameter.numel() for parameter in network_of(SegmentationTask()).parameters())
    assert 450_000 < count < 550_000


def test_plain_encoder_starts_at_full_resolution() -> None:
    encoder = network_of(SegmentationTask()).get_submodule("encoder")
    assert [tuple(feature.shape[1:]) for feature in encoder(torch.zeros(1, 3, 32, 32))] == [
        (3, 32, 32),
        (16, 32, 32),
        (32, 16, 16),
        (64, 8, 8),
        (128, 4, 4),
    ]
    assert encoder.output_stride == 8


@pytest.mark.parametrize("depth", [1, 3, 5])
@pytest.mark.parametrize("channels", [1, 4])
def test_plain_encoders_of_any_depth_and_channels_give_logits_of_image_size(depth: int, channels: int) -> None:
    network = network_of(SegmentationTask(encoder="plain-8", encoder_depth=depth, in_channels=channels))
    assert network(torch.zeros(1, channels, 32, 32)).shape == (1, 1, 32, 32)


@pytest.mark.parametrize("architecture", ["FPN", "PSPNet", "DeepLabV3Plus", "PAN"])
def test_upsampling_follows_the_strides_of_the_plain_encoder(architecture: str) -> None:
    network = network_of(SegmentationTask(architecture=architecture, encoder="plain-8")).eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_group_norm_leaves_no_buffers_and_batch_norm_does() -> None:
    assert not list(network_of(SegmentationTask(encoder="resnet18")).buffers())
    assert list(network_of(SegmentationTask(encoder="resnet18", norm="batch")).buffers())


def test_gradient_reaches_every_parameter() -> None:
    network = network_of(SegmentationTask())
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture": "UNet"}, "architecture must be one of .*Unet"),
        ({"encoder": "plain-15"}, "encoder must be one .* got plain-15. Near: plain-16"),
        ({"architecture": "Linknet"}, "encoder must suit the architecture, got plain-16 for Linknet"),
        ({"decoder_channels": [8, 8]}, r"plain-16 does not make a Unet .*\(8, 8\)"),
        ({"architecture": "Linknet", "encoder": "resnet18", "decoder_channels": [8]}, "decoder_channels must suit"),
        ({"encoder_weights": "imagenet"}, "encoder_weights of plain-16 must be a local file"),
        ({"encoder_weights": "gone.safetensors"}, "a file that exists, got gone.safetensors"),
        ({"classes": ["background"]}, "classes must be two or more"),
        ({"dice_weight": 0.0, "cross_entropy_weight": 0.0}, "not both 0"),
        ({"overlap": 1.0}, r"overlap must be in \[0, 1\), got 1.0"),
        ({"window": 0}, "window must be at least 1"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        SegmentationTask(**settings).configure_model()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_a_network_the_way_out_is_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch.encoders as encoders

    def refuse(*args: object, **settings: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(encoders, "hf_hub_download", refuse)
    with pytest.raises(ValueError, match=r"imagenet of resnet18 could not be had .* Name a local file"):
        SegmentationTask(encoder="resnet18", encoder_weights="imagenet").configure_model()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_from_a_local_file(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    source = encoder_state(SegmentationTask(encoder="plain-8", norm="batch"))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"network.encoder.{k}": v for k, v in source.items()}}, path)
    else:
        save_file(source, path)
    loaded = encoder_state(SegmentationTask(encoder="plain-8", encoder_weights=str(path)))
    assert all(torch.equal(value, source[name]) for name, value in loaded.items())


def test_classifier_of_a_pretrained_file_is_left_out_and_its_first_convolution_adapted(tmp_path: Path) -> None:
    """A grey image is the same in every colour, so the weights over colours add up."""
    source = encoder_state(SegmentationTask(encoder="resnet18", norm="batch"))
    path = tmp_path / "resnet18.pt"
    torch.save({**source, "fc.weight": torch.zeros(10, 512)}, path)
    grey = encoder_state(SegmentationTask(encoder="resnet18", encoder_weights=str(path), in_channels=1))
    assert torch.allclose(grey["conv1.weight"], source["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(grey["layer1.0.conv1.weight"], source["layer1.0.conv1.weight"])


def test_weights_of_another_encoder_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(encoder_state(SegmentationTask(encoder="plain-8")), path)
    with pytest.raises(ValueError, match=r"has another shape for stages.0.0.weight"):
        SegmentationTask(encoder="plain-16", encoder_weights=str(path)).configure_model()


def test_batch_norm_needs_the_statistics_of_pretrained_weights(tmp_path: Path) -> None:
    path = tmp_path / "group.pt"
    torch.save(encoder_state(SegmentationTask(encoder="plain-8")), path)
    SegmentationTask(encoder="plain-8", encoder_weights=str(path)).configure_model()
    with pytest.raises(ValueError, match=r"lacks stages\.0\.1\.running_mean"):
        SegmentationTask(encoder="plain-8", encoder_weights=str(path), norm="batch").configure_model()


def test_a_pickled_object_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Conv2d(1, 1, 1), path)
    with pytest.raises(ValueError, match="cannot be read as one"):
        SegmentationTask(encoder_weights=str(path)).configure_model()


def test_importing_the_task_imports_no_model_library() -> None:
    source = inspect.getsource(inspect.getmodule(SegmentationTask))  # type: ignore[arg-type]
    assert "\nimport segmentation_models_pytorch" not in source
    assert "\nfrom monai" not in source
