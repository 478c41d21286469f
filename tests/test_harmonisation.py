"""What harmonises images in training does so wherever the model is used: evaluation, test, prediction, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fedlight_algorithms import HarmoFL
from PIL import Image

from fedlight.batch import Batch
from fedlight.checkpoint import RunFolder
from fedlight.federation import Federation
from fedlight.geometry import onto_grid
from fedlight.run import load_model_file
from fedlight.tasks import SegmentationTask
from tests.conftest import small_sites, small_task


@pytest.fixture
def trained(federate: Callable[..., Federation]) -> RunFolder:
    plugin = HarmoFL(alpha=0.0, min_images=2)
    return federate(plugins=[plugin], rounds=2, select="last").fit(small_task(), small_sites())


def first_batch() -> Batch:
    data = small_sites()
    data.prepare()
    batch: Batch = next(iter(data.loader("site4", "test")))
    return batch


def test_a_checkpoint_harmonises_what_it_segments(trained: RunFolder) -> None:
    """Opened by Lightning or by a run, it segments alike, and not as it would segment plain images."""
    task = SegmentationTask.load_from_checkpoint(trained.selected, weights_only=True).eval()
    (plugin, reference), batch = task.harmonisers[0], first_batch()
    assert (type(plugin), plugin.instance_id, set(reference)) == (HarmoFL, "HarmoFL", {"amplitude"})
    seen = task.seen(batch)
    assert not torch.equal(seen, batch["image"])
    again = small_task()
    again.bind(small_sites().format)
    again.configure_model()
    load_model_file(trained.selected, again)
    with torch.no_grad():
        torch.testing.assert_close(again.eval().segment(batch), task.segment(batch))
        again.harmonisers = ()
        assert not torch.equal(again.segment(batch), task.segment(batch))


def test_scores_after_training_are_those_of_training(trained: RunFolder, federate: Callable[..., Federation]) -> None:
    plugin = HarmoFL(alpha=0.0, min_images=2)
    again = federate(plugins=[plugin], rounds=2, select="last")
    after = {e.site: e.metrics["dice"] for e in again.validate(small_task(), small_sites(), str(trained.path))}
    saved = trained.load()
    assert saved is not None
    assert after == {row["site"]: pytest.approx(row["metrics"]["dice"]) for row in saved["evaluations"]}


def test_predictions_are_harmonised(trained: RunFolder, federate: Callable[..., Federation], tmp_path: Path) -> None:
    """`fedlight predict` writes what the checkpoint segments."""
    pixels = (first_batch()["image"][0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    data = small_sites()
    task = SegmentationTask.load_from_checkpoint(trained.selected, weights_only=True).eval()
    with torch.no_grad():
        expected = task.segment(data.read(tmp_path / "image.png"))[0].half()
    federate().predict(
        small_task(), data, str(tmp_path / "image.png"), str(tmp_path / "out"), True, ckpt_path=str(trained.path)
    )
    found = torch.from_numpy(np.load(tmp_path / "out" / "probabilities" / "image.npy"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_maps_go_to_the_networks_grid() -> None:
    """A 2 x 4 case on a 4 x 4 grid takes the upper half when boxed; only padded, its own two rows."""
    maps = torch.tensor([[[True, False, True, True], [True, True, True, True]]])
    for placing in ("boxed", "padded"):
        grid = onto_grid(maps, torch.tensor([[2, 4]]), (4, 4), placing)
        assert grid[0].tolist() == [*maps[0].tolist(), [False] * 4, [False] * 4]
    doubled = onto_grid(maps, torch.tensor([[2, 4]]), (4, 8), "boxed")
    assert doubled[0, 0].tolist() == [True, True, False, False, True, True, True, True]
