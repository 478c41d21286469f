"""A run from NIfTI files to a NIfTI mask, through the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from fedlight.__main__ import main
from tests.data.volume_sites import grey, save_nifti, volume_site

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--data.root", "volumes", "--data.held_out", "osaka", "--data.patch_size", "8", "--data.batch_size", "4"),
    *("--data.intensity_window", "[-1000, 1000]", "--model.encoder", "plain-8", "--federation.rounds", "2"),
    *("--federation.local_steps", "2", "--federation.run_folder", "run", "--trainer.accelerator", "cpu"),
]


@pytest.mark.slow
def test_sites_of_volumes_train_are_scored_and_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sites train on slices with their neighbours, a third one is scored as volumes and in mm."""
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    monkeypatch.chdir(tmp_path)
    for site in ("berlin", "leeds", "osaka"):
        volume_site(tmp_path / "volumes", site, cases=3)
    assert main(["fit", "-c", str(ROOT / "configs" / "volumes.yaml"), *SMALL]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {row["samples"] for row in rows if row["kind"] == "fit"} == {16}
    assert main(["test", "--run", "run"]) == 0
    assert "mm" in capsys.readouterr().out
    assert (tmp_path / "run" / "held_out_cases.csv").read_text().count("\n") == 4  # a header and three volumes
    path = save_nifti(tmp_path / "new" / "patient.nii.gz", grey(7))
    assert main(["predict", "--run", "run", "--input", "new", "--output", "out"]) == 0
    before: Any = nibabel.load(path)
    mask: Any = nibabel.load(tmp_path / "out" / "masks" / "patient.nii.gz")
    assert mask.shape == before.shape
    assert np.array_equal(mask.affine, before.affine)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
