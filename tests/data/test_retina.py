"""Real data: four public sets of retinal vessels, if ``RETINA_ROOT`` says where they are."""

from __future__ import annotations

import os

import pytest

from fedlight.data.folder import FolderSites

ROOT = os.environ.get("RETINA_ROOT")


@pytest.mark.skipif(ROOT is None, reason="RETINA_ROOT is not set")
def test_retinal_vessels_can_be_trained_on() -> None:
    data = FolderSites(
        str(ROOT), held_out="drive", patch_size=64, classes=["background", "vessel"], group=r"^Image_(\d+)|.*"
    )
    data.prepare()
    assert data.survey().findings == ()
    assert data.sites == ("chase", "hrf", "les_av")
    counts = {row["site"]: row["train"] + row["val"] + row["test"] for row in data.describe()}
    assert counts == {"chase": 28, "drive": 40, "hrf": 45, "les_av": 22}
    batch = next(iter(data.train_loader("hrf", seed=0, steps=1)))
    assert batch["image"].shape == (8, 3, 64, 64)
    assert batch["valid"].flatten(1).any(1).all()
