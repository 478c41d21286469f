"""A run from DICOM series to a DICOM-SEG, through the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedlight.__main__ import main
from fedlight.data.image_files import MaskValues
from fedlight.data.volume_files import open_mask, open_stack
from tests.data.dicom_sites import SECRETS, dicom_site, save_series, turned
from tests.data.test_volume_runs import ROOT, SMALL
from tests.data.volume_sites import grey


@pytest.mark.slow
def test_sites_of_series_train_are_scored_and_predict_and_the_patient_stays_unnamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only the segmentation names the patient, as its images do."""
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    monkeypatch.chdir(tmp_path)
    for site in ("berlin", "leeds", "osaka"):
        dicom_site(tmp_path / "volumes", site, cases=3)
    assert main(["fit", "-c", str(ROOT / "configs" / "volumes.yaml"), *SMALL]) == 0
    assert main(["test", "--run", "run"]) == 0
    assert (tmp_path / "run" / "held_out_cases.csv").read_text().count("\n") == 4  # a header and three volumes
    series = save_series(tmp_path / "new" / "one", turned(grey(7)))
    assert main(["predict", "--run", "run", "--input", "new", "--output", "out"]) == 0
    mask = open_mask(Path("out/masks/one.dcm"), "axial", open_stack(series, "axial"), MaskValues({1: 1}, None))
    assert mask.stored.shape == (16, 20, 12)
    said = [*capfd.readouterr(), *(str(path) for path in Path().rglob("*"))]
    said += [path.read_bytes().decode(errors="ignore") for path in Path("run").rglob("*") if path.is_file()]
    said.append(Path("out/predictions.csv").read_text())
    assert not [secret for secret in SECRETS if any(secret in text for text in said)]
