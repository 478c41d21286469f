"""Help at test time as a user asks for it: rows of its own in a test, predictions, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fedlight_algorithms import AmplitudeMix, CrossMixStyle, HarmoFL
from PIL import Image

from fedlight.adaptation import Adaptation
from fedlight.buffers import recalibrate
from fedlight.checkpoint import RunFolder
from fedlight.federation import Federation
from fedlight.plugins.federation_style import AmplitudeStyle
from fedlight.preparation import ConfigError
from fedlight.run import Run
from fedlight.state import buffers_of
from fedlight.tasks import SegmentationTask
from fedlight.tracking import read_rows
from fedlight.unseen import offered
from tests.conftest import small_sites, small_task

Federate = Callable[..., Federation]


def sharing(federate: Federate, **changes: Any) -> tuple[Federation, RunFolder]:
    """Trains a federation whose sites share amplitudes, of two rounds."""
    federation = federate(plugins=[AmplitudeMix(min_images=2, window=0.2)], rounds=2, select="last", **changes)
    return federation, federation.fit(small_task(), small_sites())


def held_out(folder: RunFolder) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in read_rows(folder.path) if row.get("split") == "held-out"}


def test_help_has_a_row_of_its_own_and_the_plain_one_stays(federate: Federate) -> None:
    federation, folder = sharing(federate)
    federation.test(small_task(), small_sites())
    plain = held_out(folder)
    assert set(plain) == {"global"}
    federation.test(small_task(), small_sites(), tta="square", normalise_style=True)
    rows = held_out(folder)
    assert set(rows) == {"global", "global [tta square, normalise_style]"}
    assert rows["global"] == plain["global"]
    assert rows["global [tta square, normalise_style]"]["brier"] != plain["global"]["brier"]
    cases = (folder.path / "held_out_cases.csv").read_text().splitlines()
    assert len(cases) == 1 + 2 * 6


def test_the_table_says_which_help_was_on(federate: Federate, capsys: pytest.CaptureFixture[str]) -> None:
    federation, _ = sharing(federate, console=True)
    capsys.readouterr()
    federation.test(small_task(), small_sites(), tta="flips")
    printed = " ".join(capsys.readouterr().out.split())
    assert "site4 (held-out) " in printed
    assert "site4 (held-out, tta flips) " in printed
    assert "own models" not in printed


def test_every_model_that_the_institution_is_offered_is_helped(federate: Federate) -> None:
    """With statistics of the sites' own, an ensemble has a row with views too, and so has the mean."""
    federation = federate(rounds=1, buffers="local", select="last")
    folder = federation.fit(small_task(norm="batch"), small_sites())
    federation.test(small_task(norm="batch"), small_sites(), tta="flips", recalibrate=True)
    rows, models = held_out(folder), ("global", "mean", "ensemble")
    assert set(rows) == {*models, *(f"{model} [tta flips, recalibrate]" for model in models)}
    assert all(rows[model]["brier"] != rows[f"{model} [tta flips, recalibrate]"]["brier"] for model in models)


def test_predictions_are_those_of_the_helped_task(federate: Federate, tmp_path: Path) -> None:
    federation, folder = sharing(federate)
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    output, data = tmp_path / "out", small_sites()
    federation.predict(
        small_task(), data, str(tmp_path / "image.png"), str(output), True, tta="flips", normalise_style=True
    )
    found = torch.from_numpy(np.load(output / "probabilities" / "image.npy"))
    run = Run.reopen(federation, small_task(), small_sites(), str(folder.path))
    saved = folder.load()
    assert saved is not None
    shared = saved["server"]["shared"]["AmplitudeMix"]
    reference = torch.stack([shared[f"{site}/amplitude"] for site in run.sites]).mean(0)
    task = SegmentationTask.load_from_checkpoint(folder.selected, weights_only=True).eval()
    batch = data.read(tmp_path / "image.png")
    with torch.no_grad():
        plain = task.segment(batch)[0]
        Adaptation("flips", AmplitudeStyle(reference, (16, 16))).prepare(task)
        torch.testing.assert_close(found, task.segment(batch)[0].half(), rtol=0, atol=1e-3)
    assert not torch.allclose(found.float(), plain, atol=1e-3)


def test_recalibrated_statistics_are_those_of_the_unseen_images(federate: Federate) -> None:
    """The sites' average serves the plain row; the other has what ``recalibrate`` computes of the unseen images."""
    federation = federate(rounds=1, select="last")
    federation.fit(small_task(norm="batch"), small_sites())
    federation.test(small_task(norm="batch"), small_sites(), recalibrate=True)
    assert set(held_out(RunFolder(federation.run_folder))) == {"global", "global [recalibrate]"}
    run = Run.reopen(federation, small_task(norm="batch"), small_sites(), None)
    run.num_samples = dict.fromkeys(run.sites, 1)
    broadcast = run.server.broadcast(federation._context(run, 1, run.sites), deployed=True)
    [(_, plain)] = offered(run.make_client, broadcast, "site4", False)
    assert all(torch.equal(value, broadcast.buffers[name]) for name, value in buffers_of(plain.module).items())
    [(_, helped)] = offered(run.make_client, broadcast, "site4", False, Adaptation(recalibrate=True))
    recalibrate(plain.module, (batch["image"] for batch in plain.data.loader("site4", "test")))
    expected = buffers_of(plain.module)
    assert all(torch.equal(value, expected[name]) for name, value in buffers_of(helped.module).items())
    assert not all(torch.equal(value, broadcast.buffers[name]) for name, value in expected.items())


def test_predict_can_recalibrate(federate: Federate, tmp_path: Path) -> None:
    federation = federate(rounds=1, select="last")
    federation.fit(small_task(norm="batch"), small_sites())
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(tmp_path / "a.png")
    rows = [
        federation.predict(
            small_task(norm="batch"),
            small_sites(),
            str(tmp_path / "a.png"),
            str(tmp_path / f"out-{recalibrated}"),
            recalibrate=recalibrated,
        )
        for recalibrated in (False, True)
    ]
    assert rows[0][0]["confidence"] != rows[1][0]["confidence"]


def test_a_run_that_shared_no_statistics_of_images_is_refused(federate: Federate) -> None:
    federation = federate(rounds=1, plugins=[CrossMixStyle(min_images=2)])
    federation.fit(small_task(), small_sites())
    sentence = (
        r"normalise_style must have .* got none \(plugins: CrossMixStyle\)\. Train with AmplitudeMix, or with CCST"
    )
    with pytest.raises(ConfigError, match=sentence):
        federation.test(small_task(), small_sites(), normalise_style=True)
    assert not held_out(RunFolder(federation.run_folder))


def test_a_run_that_harmonises_needs_no_other_style(federate: Federate) -> None:
    federation = federate(rounds=1, plugins=[HarmoFL(alpha=0.0, min_images=2)])
    federation.fit(small_task(), small_sites())
    with pytest.raises(ConfigError, match="Leave it out: every image is brought to the run's reference already"):
        federation.test(small_task(), small_sites(), normalise_style=True)


def test_a_run_folder_without_rounds_is_refused(federate: Federate, tmp_path: Path) -> None:
    federation, folder = sharing(federate)
    shutil.rmtree(folder.rounds)
    with pytest.raises(ConfigError, match=r"normalise_style must have .*rounds, where .* Copy it too"):
        federation.predict(small_task(), small_sites(), str(tmp_path), str(tmp_path / "out"), normalise_style=True)


@pytest.mark.parametrize(
    ("norm", "changes", "sentence"),
    [
        ("group", {}, r"recalibrate must have running statistics .* GroupNorm, .* Leave it out\."),
        ("batch", {"buffers": "recalibrate"}, "recalibrate must be left out, as federation.buffers is recalibrate"),
    ],
)
def test_recalibrating_what_cannot_be_is_refused(
    federate: Federate, tmp_path: Path, norm: str, changes: dict[str, Any], sentence: str
) -> None:
    federation = federate(rounds=1, **changes)
    federation.fit(small_task(norm=norm), small_sites())
    with pytest.raises(ConfigError, match=sentence):
        federation.test(small_task(norm=norm), small_sites(), recalibrate=True)
    with pytest.raises(ConfigError, match=sentence):
        federation.predict(small_task(norm=norm), small_sites(), str(tmp_path), str(tmp_path / "o"), recalibrate=True)


def test_help_for_nobody_is_refused(federate: Federate) -> None:
    federation = federate(rounds=1)
    data = small_sites(num_sites=3, held_out=None)
    federation.fit(small_task(), data)
    with pytest.raises(ConfigError, match="help an institution that took no part, got a run that held none out"):
        federation.test(small_task(), data, tta="flips")
