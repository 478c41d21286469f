"""Claims about the segmentation task."""

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader

from fedlight.batch import Batch
from fedlight.tasks.segmentation import SegmentationTask
from fedlight.trainer import quiet_lightning

MakeBatch = Callable[..., Batch]


def built(**settings: Any) -> SegmentationTask:
    torch.manual_seed(0)
    task = SegmentationTask(**{"encoder": "plain-8", **settings})
    task.configure_model()
    return task.eval()


class Pointwise(nn.Module):
    """A network that sees one pixel at a time: windows and padding must not matter to it."""

    def __init__(self, logits: int) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.encoder.output_stride = 8  # type: ignore[assignment]
        self.head = nn.Conv2d(3, logits, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] % 8 == images.shape[-2] % 8 == 0
        logits: Tensor = self.head(images)
        return logits


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [("background", "vessel"), ("background", "disc", "cup")])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_task_learns_and_its_scores_rise(classes: tuple[str, ...], norm: str, make_batch: MakeBatch) -> None:
    task = built(classes=classes, norm=norm).train()
    batch = make_batch(classes=len(classes))
    optimizer: Any = task.configure_optimizers()
    before = task.score(batch)[0]["dice"]
    for _ in range(15):
        optimizer.zero_grad()
        torch.autograd.backward(task.criterion(task(batch["image"]), batch["mask"], batch["valid"]))
        optimizer.step()
    assert task.score(batch)[0]["dice"] > max(before, 0.8)


def test_mixed_precision_gives_finite_losses_and_gradients(make_batch: MakeBatch) -> None:
    task, batch = built().train(), make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task.criterion(task(batch["image"]), batch["mask"], batch["valid"])
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in task.parameters())


def test_channels_last_changes_rounding_only(make_batch: MakeBatch) -> None:
    images = make_batch()["image"]
    one, other = built(channels_last=True), built(channels_last=False)
    with torch.no_grad():
        assert torch.allclose(one(images), other(images), atol=1e-4)
        assert torch.equal(one(images), one(images))
    assert all(p.is_contiguous() for p in one.parameters())


# --- inference -----------------------------------------------------------------------------------------------------


def test_binary_probabilities_are_the_sigmoid_of_one_logit(make_batch: MakeBatch) -> None:
    task, batch = built(), make_batch()
    with torch.no_grad():
        foreground = task(batch["image"]).sigmoid()[:, 0]
        probabilities = task.segment(batch)
    assert torch.allclose(probabilities[:, 1], foreground)
    assert torch.allclose(probabilities.sum(1), torch.ones(2, 32, 32))


@pytest.mark.parametrize("size", [(16, 16), (13, 29), (37, 64), (1, 1)])
@pytest.mark.parametrize("window", [None, 16, (8, 24)])
def test_windows_and_padding_do_not_matter_to_a_pointwise_network(
    size: tuple[int, int], window: tuple[int, int] | int | None, make_batch: MakeBatch
) -> None:
    task = SegmentationTask(classes=("a", "b", "c"), window=window)
    task.network = Pointwise(logits=3)
    batch = make_batch(size=size)
    with torch.no_grad():
        expected = task.network.get_submodule("head")(batch["image"]).softmax(1)
        assert torch.allclose(task.segment(batch), expected, atol=1e-5)


def test_a_resized_case_comes_back_in_its_own_size(make_batch: MakeBatch) -> None:
    """A case of 20 by 40 fills the upper half of a grid of 32 by 32."""
    task = SegmentationTask()
    task.network, task.placing = Pointwise(logits=1), "boxed"
    batch = make_batch(count=1)
    batch["image"][:, :, 16:] = torch.nan  # padding must not come near the result
    batch["size"] = torch.tensor([[20, 40]])
    with torch.no_grad():
        probabilities = task.segment(batch)
    assert probabilities.shape == (1, 2, 20, 40)
    assert torch.isfinite(probabilities).all()


def test_cases_of_other_sizes_in_one_batch_are_scored_on_their_own_pixels(make_batch: MakeBatch) -> None:
    task = SegmentationTask()
    task.network = Pointwise(logits=1)
    batch = make_batch()
    batch["size"] = torch.tensor([[32, 32], [20, 24]])
    single = make_batch(size=(32, 32))
    single["image"], single["mask"] = batch["image"][1:, :, :20, :24], batch["mask"][1:, :20, :24]
    single["valid"], single["size"] = batch["valid"][1:, :20, :24], batch["size"][1:]
    single["case"], single["spacing"] = ["case1"], batch["spacing"][1:]
    assert task.score(batch)[1] == task.score(single)[0]


def test_distances_and_calibration_are_scored_only_where_asked_for(make_batch: MakeBatch) -> None:
    task, batch = built(), make_batch()
    assert set(task.score(batch)[0]) == {"case", "dice", "iou", "miss"} | {
        f"{name}/foreground" for name in ("dice", "iou", "miss")
    }
    task.detailed = True
    assert {"hd95", "assd"} <= set(task.score(batch)[0])


# --- building, copying, saving ---------------------------------------------------------------------------------------


def test_building_twice_builds_once() -> None:
    task = built()
    network = task.network
    task.configure_model()
    assert task.network is network


def test_the_default_shown_on_a_command_line_is_the_default_in_python() -> None:
    shown = inspect.signature(SegmentationTask).parameters["optimizer"].default([nn.Parameter(torch.zeros(1))])
    used: Any = built().configure_optimizers()
    assert type(used) is type(shown) is Adam
    assert used.defaults == shown.defaults
    assert used.defaults["lr"] == 3e-3


def test_a_task_can_be_copied_and_pickled() -> None:
    for task in (built(), SegmentationTask(optimizer=SGD)):
        for twin in (copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
            assert all(torch.equal(v, twin.state_dict()[k]) for k, v in task.state_dict().items())
            assert twin.settings() == task.settings()


def same_function(one: SegmentationTask, other: SegmentationTask) -> bool:
    images = torch.rand(1, one.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(one.eval()(images), other.eval()(images))


def test_a_checkpoint_opens_without_pickle(tmp_path: Path) -> None:
    task = built(classes=["background", "disc", "cup"], in_channels=1, window=(16, 24), optimizer=SGD)
    torch.save(task.checkpoint(), tmp_path / "global.ckpt")
    loaded = SegmentationTask.load_from_checkpoint(tmp_path / "global.ckpt", weights_only=True, map_location="cpu")
    assert same_function(task, loaded)
    assert loaded.settings() == task.settings()


def test_reopening_never_asks_for_pretrained_weights(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(built().network.get_submodule("encoder").state_dict(), weights)
    task = built(encoder_weights=str(weights))
    torch.save(task.checkpoint(), tmp_path / "global.ckpt")
    weights.unlink()
    assert same_function(task, SegmentationTask.load_from_checkpoint(tmp_path / "global.ckpt"))


def test_a_checkpoint_does_not_follow_later_training() -> None:
    task = built()
    saved = task.checkpoint()["state_dict"]
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(1)
    assert not any(torch.equal(value, saved[name]) for name, value in task.named_parameters())


CLI = """
import copy, pickle, sys
from lightning.pytorch.cli import LightningCLI
import torch
from fedlight.tasks import SegmentationTask

cli = LightningCLI(
    SegmentationTask, run=False, args=sys.argv[2:], save_config_callback=None, auto_configure_optimizers=False,
    trainer_defaults={"logger": False, "accelerator": "cpu"}, subclass_mode_model=sys.argv[1] == "subclass",
)
task = cli.model
task.configure_model()
for twin in (copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
    optimizer = twin.make_optimizer(list(twin.parameters()))
    print(type(optimizer).__name__, optimizer.defaults["lr"], type(twin.make_scheduler).__name__)
print(len(pickle.dumps(task.make_optimizer)) < 500)
torch.save(task.checkpoint(), "ours.ckpt")
cli.trainer.strategy.connect(task)
cli.trainer.save_checkpoint("lightning.ckpt")
for name in ("ours.ckpt", "lightning.ckpt"):
    loaded = SegmentationTask.load_from_checkpoint(name, weights_only=True)
    print(loaded.settings() == task.settings(), loaded.window, *loaded.classes)
"""


@pytest.mark.parametrize("mode", ["plain", pytest.param("subclass", marks=pytest.mark.slow)])
def test_a_task_built_by_the_command_line_is_copied_pickled_saved_and_opened(mode: str, tmp_path: Path) -> None:
    arguments = [
        *(["--model=SegmentationTask"] if mode == "subclass" else []),
        "--model.encoder=plain-8",
        '--model.classes=["background", "disc", "cup"]',
        "--model.window=[16, 24]",
        "--model.optimizer=SGD",
        "--model.optimizer.lr=0.5",
        "--model.scheduler=StepLR",
        "--model.scheduler.step_size=3",
    ]
    command = [sys.executable, "-W", "ignore", "-c", CLI, mode, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(("SGD", "True", "False"))] == [
        "SGD 0.5 partial",
        "SGD 0.5 partial",
        "True",
        "True [16, 24] background disc cup",
        "True [16, 24] background disc cup",
    ]


def test_a_trainer_runs_the_task(make_batch: MakeBatch, tmp_path: Path) -> None:
    task = SegmentationTask(encoder="plain-8")
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    batches: Any = [make_batch()]
    with quiet_lightning():
        trainer.validate(task, DataLoader(batches, batch_size=None), verbose=False)
    assert [row["case"] for row in task.rows] == ["case0", "case1"]


def test_the_slices_of_a_volume_are_one_case_with_one_score(make_batch: MakeBatch) -> None:
    """Two slices are predicted as they are, the third one is missed.

    The disc has n pixels in each of 3 slices: Dice is 2 * 2n / (2n + 3n). The missed slice is 5 mm from the others.
    """
    task = SegmentationTask()
    task.detailed = True
    batch = make_batch(count=3)
    batch["case"], batch["spacing"] = ["liver"] * 3, torch.tensor([[5.0, 1.0, 1.0]] * 3)
    chances = torch.stack([1.0 - batch["mask"], batch["mask"].float()], dim=1)
    chances[2] = torch.tensor([1.0, 0.0])[:, None, None]
    task.segment = lambda _: chances  # type: ignore[method-assign, assignment]
    (row,) = task.score(batch)
    assert row["case"] == "liver"
    assert row["dice"] == pytest.approx(4 / 5)
    assert row["hd95"] == pytest.approx(5)


def test_a_volume_goes_through_the_network_in_parts(make_batch: MakeBatch) -> None:
    task, batch = built(window_batch=2), make_batch(count=5)
    with torch.no_grad():
        whole = task.segment(batch)
        batch["spacing"] = torch.ones(5, 3)
        torch.testing.assert_close(task.segment(batch), whole)
