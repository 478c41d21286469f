from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedlight.batch import Batch
from fedlight.data.federated import DataError
from fedlight.data.folder import FolderSites
from fedlight.geometry import restore

MakeSite = Callable[..., Path]


def same(first: list[Batch], second: list[Batch]) -> bool:
    """Whether two runs gave the same bits."""
    return len(first) == len(second) and all(
        torch.equal(a["image"], b["image"])
        and torch.equal(a["mask"], b["mask"])
        and torch.equal(a["valid"], b["valid"])
        and a["case"] == b["case"]
        for a, b in zip(first, second, strict=True)
    )


def patches(root: Path, workers: int = 0, transforms: tuple[str, ...] = ("HorizontalFlip",)) -> FolderSites:
    return FolderSites(
        str(root), patch_size=8, batch_size=3, test_fraction=0, transforms=transforms, num_workers=workers
    )


def test_a_training_batch_keeps_the_contract(two_sites: Path) -> None:
    batch = next(iter(FolderSites(str(two_sites), image_size=(16, 24), batch_size=3).train_loader("a", seed=0)))
    assert {key: value.dtype for key, value in batch.items() if isinstance(value, torch.Tensor)} == {
        "image": torch.float32,
        "mask": torch.int64,
        "valid": torch.bool,
        "spacing": torch.float32,
        "size": torch.int64,
    }
    assert batch["image"].shape == (3, 3, 16, 24)
    assert batch["mask"].shape == batch["valid"].shape == (3, 16, 24)
    assert batch["size"].tolist() == [[16, 16]] * 3
    assert batch["spacing"].tolist() == [[1, 1]] * 3
    assert batch["valid"][:, :, :16].all()
    assert not batch["valid"][:, :, 16:].any()


def test_one_seed_gives_one_epoch_bit_for_bit(two_sites: Path) -> None:
    data = patches(two_sites)
    first = list(data.train_loader("a", seed=1, steps=5))
    assert same(first, list(data.train_loader("a", seed=1, steps=5)))
    assert same(first, list(patches(two_sites).train_loader("a", seed=1, steps=5)))
    assert not same(first, list(data.train_loader("a", seed=2, steps=5)))


def test_workers_change_nothing(two_sites: Path) -> None:
    alone = list(patches(two_sites).train_loader("a", seed=1, steps=5))
    assert same(alone, list(patches(two_sites, workers=2).train_loader("a", seed=1, steps=5)))


def test_loaders_leave_the_global_generator_alone(two_sites: Path) -> None:
    before = torch.get_rng_state()
    data = patches(two_sites)
    list(data.train_loader("a", seed=1, steps=2))
    list(data.loader("a", "val"))
    assert torch.equal(before, torch.get_rng_state())


def test_a_longer_epoch_starts_like_a_shorter_one(two_sites: Path) -> None:
    data = patches(two_sites)
    assert same(list(data.train_loader("a", seed=1, steps=2)), list(data.train_loader("a", seed=1, steps=5))[:2])


def test_steps_are_full_batches_of_whole_passes(two_sites: Path) -> None:
    """Five training cases and 4 batches of 5 samples: every case four times, once in every batch."""
    data = FolderSites(str(two_sites), patch_size=8, batch_size=5, test_fraction=0)
    loader = data.train_loader("a", seed=0, steps=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 4
    names = {tuple(sorted(batch["case"])) for batch in batches}
    assert len(names) == 1
    assert len(set(names.pop())) == 5


def test_one_epoch_is_one_pass_with_a_smaller_last_batch(two_sites: Path) -> None:
    data = patches(two_sites)
    loader = data.train_loader("a", seed=0)
    sizes = [len(batch["case"]) for batch in loader]
    assert sizes == [3, 2]
    assert len(loader) == 2
    assert data.num_samples("a") == 5


def test_a_site_with_less_than_a_batch_trains(two_sites: Path) -> None:
    data = FolderSites(str(two_sites), patch_size=8, batch_size=32)
    assert [len(batch["case"]) for batch in data.train_loader("a", seed=0, steps=2)] == [32, 32]
    assert [len(batch["case"]) for batch in data.train_loader("a", seed=0)] == [4]


def test_pooled_is_the_union(two_sites: Path) -> None:
    pooled = FolderSites(str(two_sites), image_size=16, pooled=True, batch_size=1)
    apart = FolderSites(str(two_sites), image_size=16, batch_size=1)
    assert pooled.sites == ("pooled",)
    assert pooled.institutions("pooled") == apart.sites == ("a", "b")
    assert pooled.num_samples("pooled") == apart.num_samples("a") + apart.num_samples("b")
    union = [batch["image"].sum().item() for site in "ab" for batch in apart.train_loader(site, seed=0)]
    assert sorted(union) == sorted(batch["image"].sum().item() for batch in pooled.train_loader("pooled", seed=0))
    assert same(list(pooled.loader("a", "val")), list(apart.loader("a", "val")))


def test_the_held_out_site_is_only_tested_on(two_sites: Path) -> None:
    data = FolderSites(str(two_sites), image_size=16, held_out="b")
    assert data.sites == data.institutions("a") == ("a",)
    assert data.held_out_sites == ("b",)
    assert data.describe()[1] == {"site": "b", "train": 0, "val": 0, "test": 6, "sizes": {"16x16": 6}}
    with pytest.raises(KeyError, match="b is not a client"):
        data.num_samples("b")


def test_patches_are_parts_of_their_image_and_mask(make_site: MakeSite) -> None:
    data = patches(make_site("a", height=20, width=24), transforms=())
    for batch in data.train_loader("a", seed=3, steps=4):
        for image, mask, name in zip(batch["image"], batch["mask"], batch["case"], strict=True):
            case = next(case for case in data.survey().cases["a"]["train"] if case.name == name)
            whole = torch.from_numpy(case.source.read().image).permute(2, 0, 1) / 255
            windows = whole.unfold(1, 8, 1).unfold(2, 8, 1)  # (3, 13, 17, 8, 8)
            places = (windows == image[:, None, None]).all(-1).all(-1).all(0).nonzero()
            assert len(places) == 1
            top, left = places[0].tolist()
            expected = torch.from_numpy(case.source.read().mask)[top : top + 8, left : left + 8]
            assert torch.equal(mask, expected.long())


def test_every_patch_has_a_valid_pixel(make_site: MakeSite) -> None:
    """The left half of 16 x 64 is inside, so a patch starts at column 35 at the latest and usually far left of it."""
    data = patches(make_site("a", width=64, fov=True))
    for batch in data.train_loader("a", seed=0, steps=20):
        assert batch["valid"].flatten(1).any(1).all()


def test_foreground_patches_have_foreground(make_site: MakeSite) -> None:
    root = make_site("a", height=64, width=64)
    for path in (root / "a/masks").iterdir():
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[50, 60] = 255
        Image.fromarray(mask).save(path)
    always = FolderSites(str(root), patch_size=8, foreground_patches=1.0)
    never = FolderSites(str(root), patch_size=8)
    for batch in always.train_loader("a", seed=0, steps=3):
        assert batch["mask"].flatten(1).any(1).all()
    assert not all(batch["mask"].flatten(1).any(1).all() for batch in never.train_loader("a", seed=0, steps=3))


def test_evaluation_masks_stay_on_the_grid_of_the_file(make_site: MakeSite) -> None:
    data = FolderSites(str(make_site("a", height=20, width=10)), image_size=32)
    batch = next(iter(data.loader("a", "val")))
    assert data.format.placing == "boxed"
    assert batch["image"].shape[-2:] == (32, 32)
    assert batch["mask"].shape[-2:] == batch["valid"].shape[-2:] == (20, 10)
    assert batch["size"].tolist() == [[20, 10]] * len(batch["case"])
    assert restore(batch["image"], (20, 10), "boxed").shape[-2:] == (20, 10)


def test_evaluation_in_patches_is_on_whole_images(two_sites: Path) -> None:
    data = patches(two_sites)
    assert data.format.placing == "padded"
    assert next(iter(data.loader("a", "val")))["image"].shape[-2:] == (16, 16)


def test_cases_of_different_sizes_are_evaluated_one_by_one(make_site: MakeSite) -> None:
    make_site("a", cases=8, height=20)
    root = make_site("a", cases=4)
    data = FolderSites(str(root), image_size=16, batch_size=4, held_out=None)
    assert {len(batch["case"]) for batch in data.loader("a", "train")} == {1}
    assert [name for batch in data.loader("a", "train") for name in batch["case"]] == sorted(
        case.name for case in data.survey().cases["a"]["train"]
    )


def test_only_pixels_inside_the_field_of_view_are_valid(make_site: MakeSite) -> None:
    data = FolderSites(str(make_site("a", fov=True)), image_size=16)
    for batch in [next(iter(data.loader("a", "val"))), next(iter(data.train_loader("a", seed=0)))]:
        assert batch["valid"][..., :8].all()
        assert not batch["valid"][..., 8:].any()


@pytest.mark.parametrize("normalise", ["none", "z-score", "percentile"])
def test_normalisation_leaves_masks_alone(two_sites: Path, normalise: str) -> None:
    plain = next(iter(FolderSites(str(two_sites), image_size=16).loader("a", "val")))
    other = next(iter(FolderSites(str(two_sites), image_size=16, normalise=normalise).loader("a", "val")))  # type: ignore[arg-type]
    assert torch.equal(plain["mask"], other["mask"])
    assert torch.equal(plain["image"], other["image"]) == (normalise == "none")


def test_patches_are_normalised_like_the_whole_image(two_sites: Path) -> None:
    """Each patch is the z-scored whole image, cut: its own mean is not 0, but that of the whole image is."""
    data = FolderSites(str(two_sites), patch_size=8, normalise="z-score")
    whole = next(iter(data.loader("a", "train")))["image"]
    torch.testing.assert_close(whole.mean((2, 3)), torch.zeros(4, 3), atol=1e-5, rtol=0)
    batch = next(iter(data.train_loader("a", seed=0)))
    windows = whole.unfold(2, 8, 1).unfold(3, 8, 1)  # (4, 3, 9, 9, 8, 8)
    for image in batch["image"]:
        assert (windows == image[:, None, None]).all(-1).all(-1).all(1).any()


def test_classes_come_from_mask_values(make_site: MakeSite) -> None:
    root = make_site("a")
    for path in (root / "a/masks").iterdir():
        mask = np.full((16, 16), 255, dtype=np.uint8)
        mask[:4], mask[4:8] = 128, 0
        Image.fromarray(mask).save(path)
    classes, values = ["background", "disc", "cup"], {255: 0, 128: 1, 0: 2}
    data = FolderSites(str(root), image_size=16, classes=classes, mask_values=values)
    mask = next(iter(data.loader("a", "val")))["mask"][0]
    assert mask[:, 0].tolist() == [1] * 4 + [2] * 4 + [0] * 8
    assert data.format.classes == ("background", "disc", "cup")


def test_a_class_may_be_missing_at_a_site(two_sites: Path) -> None:
    for path in (two_sites / "a/masks").iterdir():
        Image.fromarray(np.eye(16, dtype=np.uint8) * 2).save(path)
    for path in (two_sites / "b/masks").iterdir():
        Image.fromarray(np.eye(16, dtype=np.uint8)).save(path)
    data = FolderSites(str(two_sites), image_size=16, classes=["background", "disc", "cup"])
    data.prepare()
    texts = [finding.text for finding in data.survey().findings]
    assert [text.split(".")[0] for text in texts] == ["site a: no case shows disc", "site b: no case shows cup"]
    assert next(iter(data.loader("a", "val")))["mask"].unique().tolist() == [0, 2]


def test_soft_masks_need_a_threshold(two_sites: Path) -> None:
    for path in (two_sites / "a/masks").iterdir():
        mask = np.repeat(np.array([0, 100, 128, 250], dtype=np.uint8), 64).reshape(16, 16)
        Image.fromarray(mask).save(path)
    with pytest.raises(DataError, match=r"c0 \(100, 128, 250\).*data.mask_threshold"):
        FolderSites(str(two_sites), image_size=16).prepare()
    data = FolderSites(str(two_sites), image_size=16, mask_threshold=128)
    assert next(iter(data.loader("a", "val")))["mask"][0, :, 0].tolist() == [0] * 8 + [1] * 8


def test_sixteen_bit_images_train(make_site: MakeSite) -> None:
    root = make_site("a")
    for index, path in enumerate(sorted((root / "a/images").iterdir())):
        levels = np.random.default_rng(index).integers(0, 65536, (16, 16), dtype=np.uint16)
        Image.fromarray(levels).save(path)
    data = FolderSites(str(root), image_size=16, channels=1, transforms=["VerticalFlip"])
    case = data.survey().cases["a"]["val"][0]
    expected = torch.from_numpy(case.source.read().image.astype(np.float32))[..., 0] / 65535
    torch.testing.assert_close(next(iter(data.loader("a", "val")))["image"][0, 0], expected)
    assert next(iter(data.train_loader("a", seed=0)))["image"].shape == (4, 1, 16, 16)


def test_a_full_cache_changes_nothing_but_says_so(two_sites: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A case of 16 x 16 takes 16 * 16 * (3 + 1 + 1) = 1280 bytes, so 5 of 12 fit into 7000."""
    kept, read = patches(two_sites), patches(two_sites)
    read.cache_gb = 7e-6
    with caplog.at_level(logging.WARNING):
        read.prepare()
        read.prepare()
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "5 of 12 cases fit into data.cache_gb 7e-06"
    ]
    assert same(list(kept.train_loader("b", seed=0)), list(read.train_loader("b", seed=0)))
    assert same(list(kept.loader("b", "val")), list(read.loader("b", "val")))


def test_a_prepared_module_can_be_sent_to_a_process(two_sites: Path) -> None:
    data = patches(two_sites)
    data.prepare()
    copy = pickle.loads(pickle.dumps(data))
    assert same(list(data.train_loader("a", seed=0)), list(copy.train_loader("a", seed=0)))


def test_a_single_image_is_read_like_a_case(make_site: MakeSite) -> None:
    """It needs no root: prediction has nothing but the run and the images."""
    root = make_site("a", height=20, width=10)
    data = FolderSites(str(root), image_size=32, normalise="z-score", batch_size=1)
    case = next(iter(data.loader("a", "val")))
    path = root / "a/images" / f"{case['case'][0]}.png"
    alone = FolderSites("nowhere", image_size=32, normalise="z-score").read(path)
    assert torch.equal(alone["image"], case["image"])
    assert alone["size"].tolist() == [[20, 10]]
    assert alone["valid"].all()
    assert not alone["mask"].any()


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.png: cannot be read as an image"):
        FolderSites("nowhere", image_size=32).read(tmp_path / "x.png")
