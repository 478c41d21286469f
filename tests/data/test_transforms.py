from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from fedlight.data.federated import DataError, FederatedDataModule
from fedlight.data.folder import FolderSites
from fedlight.data.transforms import Augmentation, TransformConfig

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
MASK = IMAGE[..., 0].copy()
VALID = np.ones((8, 8), dtype=np.bool_)


@pytest.mark.parametrize(
    "config",
    [
        "HorizontalFlip",
        "albumentations.HorizontalFlip",
        {"class_path": "HorizontalFlip"},
        {"class_path": "albumentations.HorizontalFlip", "init_args": {"p": 0.5}},
        {"class_path": "OneOf", "init_args": {"transforms": [{"class_path": "HorizontalFlip"}], "p": 0.5}},
    ],
)
def test_transforms_are_named_in_many_ways(config: TransformConfig) -> None:
    augmentation = Augmentation([config])
    flipped = [bool((augmentation.apply(IMAGE, MASK, VALID, seed)[0] != IMAGE).any()) for seed in range(50)]
    assert 0 < sum(flipped) < 50


def test_image_mask_and_valid_move_together() -> None:
    augmentation = Augmentation([{"class_path": "RandomRotate90"}, {"class_path": "HorizontalFlip"}])
    for seed in range(20):
        image, mask, valid = augmentation.apply(IMAGE, MASK, VALID, seed)
        np.testing.assert_array_equal(image[..., 0], mask)
        assert valid.all()


def test_what_comes_from_outside_is_not_valid() -> None:
    shift = {"class_path": "Affine", "init_args": {"translate_px": {"x": [4, 4], "y": [0, 0]}, "p": 1.0}}
    image, mask, valid = Augmentation([shift]).apply(IMAGE, MASK, VALID, 0)
    assert not valid[:, :4].any()
    assert valid[:, 4:].all()
    assert not image[:, :4].any()
    assert not mask[:, :4].any()


def test_two_transforms_do_not_share_their_numbers() -> None:
    """Given one seed each, as the library does, both flips would always happen together."""
    augmentation = Augmentation(["HorizontalFlip", "VerticalFlip"])
    kinds = set()
    for seed in range(40):
        image, _, _ = augmentation.apply(IMAGE, MASK, VALID, seed)
        kinds.add(image.tobytes())
    assert len(kinds) == 4


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("HorizontalFlap", "HorizontalFlap is not a transform. Did you mean HorizontalFlip"),
        ("no_such_package.Flip", "cannot import no_such_package.Flip"),
        ({"class_path": "HorizontalFlip", "init_args": {"q": 1}}, "HorizontalFlip has no argument q."),
        (
            {"class_path": "RandomBrightnessContrast", "init_args": {"brightness_limits": 1}},
            "has no argument brightness_limits. Did you mean brightness_limit",
        ),
        ({"class_path": "HorizontalFlip", "init_args": {"p": "often"}}, "HorizontalFlip refuses its arguments"),
        ({"init_args": {}}, "Give a class name, or class_path and init_args"),
    ],
)
def test_a_wrong_transform_is_one_sentence(config: TransformConfig, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Augmentation([config])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transform_may_not_change_the_size() -> None:
    crop = {"class_path": "CenterCrop", "init_args": {"height": 4, "width": 4}}
    with pytest.raises(DataError, match="sizes and types must stay"):
        Augmentation([crop]).apply(IMAGE, MASK, VALID, 0)


def test_yaml_builds_a_data_module(two_sites: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--data", type=FederatedDataModule)
    config = parser.parse_string(
        f"""
        data:
          class_path: fedlight.data.folder.FolderSites
          init_args:
            root: {two_sites}
            patch_size: [8, 12]
            classes: [background, vessel]
            mask_values: {{0: 0, 255: 1}}
            group: ^c(\\d)
            transforms:
              - HorizontalFlip
              - class_path: RandomBrightnessContrast
                init_args: {{brightness_limit: 0.1}}
        """
    )
    data = parser.instantiate(config).data
    assert isinstance(data, FolderSites)
    batch = next(iter(data.train_loader("a", seed=0)))
    assert batch["image"].shape == (4, 3, 8, 12)
