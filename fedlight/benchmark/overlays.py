"""Pictures of patients: the best, the median and the worst case of every arm at every held-out site.

Cases are chosen by their Dice in the results: of the first seed, of the model that source validation selected. The
prediction is made anew with the model in the run folder; where it does not have the Dice of the results, nothing is
drawn. An arm whose sites keep something of their own is shown by the model that speaks for it in the tables: "global",
else "mean", else the "ensemble" of the sites' models.

    OUTPUT/overlays/<arm>/<held_out>/index.json, best.png, median.png, worst.png
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from fedlight.batch import Batch, is_volume
from fedlight.benchmark.layout import FORMAT, MODELS
from fedlight.benchmark.plan import Job
from fedlight.benchmark.reopened import Reopened
from fedlight.geometry import restore
from fedlight.metrics import score_case
from fedlight.preparation import ConfigError
from fedlight.serialization import write_bytes
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.inference import evaluating
from fedlight.tasks.outlines import draw_outlines

CHECKPOINT = "best"

TOLERANCE = 0.02
"""Of Dice: another device or number of threads moves a pixel here and there."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shown:
    """One case of an index.

    Attributes:
        file: The picture, beside the index.
        which: "best", "median" or "worst".
        case: Its name.
        seed: Of the job.
        checkpoint: Of the model.
        model: Name of the model in the results.
        dice: In the results.
    """

    file: str
    which: str
    case: str
    seed: int
    checkpoint: str
    model: str
    dice: float


def choose(job: Job, rows: Sequence[Mapping[str, str]]) -> list[Shown]:
    """Chooses the cases of a job; the median of an even number is the lower one.

    Of two cases one is the best and the other the worst, a single one is the best.

    Args:
        job: A job that leaves one site out.
        rows: Its ``cases.csv``.

    Raises:
        ConfigError: If no model speaks for the arm.
    """
    held_out = [row for row in rows if (row["domain"], row["checkpoint"]) == ("held-out", CHECKPOINT) and row["dice"]]
    model = next((name for name in MODELS if any(row["model"] == name for row in held_out)), None)
    if model is None:
        raise ConfigError(
            f"{job.arm.name} has no model that speaks for it ({', '.join(MODELS)}), so it has no pictures."
        )
    ranked = sorted(
        (row for row in held_out if row["model"] == model), key=lambda row: (float(row["dice"]), row["case"])
    )
    places = {"best": len(ranked) - 1, "worst": 0, "median": (len(ranked) - 1) // 2}
    first = {place: which for which, place in reversed(places.items())}  # a case is shown once
    return [
        Shown(f"{which}.png", which, ranked[at]["case"], job.seed, CHECKPOINT, model, float(ranked[at]["dice"]))
        for which, at in places.items()
        if first[at] == which
    ]


def is_drawn(folder: Path, cases: Sequence[Shown]) -> bool:
    """Says whether these cases lie in a folder already."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        there = all((folder / case.file).is_file() for case in cases)
    except (OSError, ValueError):
        return False
    return there and isinstance(index, dict) and index.get("cases") == [asdict(case) for case in cases]


def draw_overlays(run: Reopened, site: str, cases: Sequence[Shown], folder: Path) -> None:
    """Predicts and draws cases of a held-out site; the index comes last and makes them count.

    Args:
        run: The run whose models predict.
        site: Its held-out site.
        cases: What to draw; all by one model.
        folder: Where to write; it is made if need be.

    Raises:
        ConfigError: If the run has no such model or its prediction is not that of the results; nothing is drawn then.
    """
    pictures = dict(_pictures(run, site, cases))
    missing = [case.case for case in cases if case not in pictures]
    if missing:
        raise ConfigError(f"{', '.join(missing)} must be among the cases of {site}, but the data have no such case.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    for case, picture in pictures.items():
        write_bytes(folder / case.file, as_png(picture))
    index = {"format": FORMAT, "cases": [asdict(case) for case in cases]}
    write_bytes(folder / "index.json", (json.dumps(index, indent=1) + "\n").encode())


def as_png(picture: Pixels) -> bytes:
    """Returns the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pictures(run: Reopened, site: str, cases: Sequence[Shown]) -> Iterator[tuple[Shown, Pixels]]:
    """Yields the cases in order of their names, in the batches in which they were scored."""
    wanted = {case.case: case for case in cases}
    task = _model(run, site, cases[0].model)
    with evaluating(task):
        for batch in run.data.loader(site, "test"):
            places = [place for place, name in enumerate(batch["case"]) if name in wanted]
            chances = task.chances(batch) if places else None
            if chances is None:
                continue
            for place in places[:1] if is_volume(batch) else places:
                case = wanted[batch["case"][place]]
                yield case, _picture(task, batch, place, chances, case)


def _model(run: Reopened, site: str, name: str) -> FederatedModule:
    for offered, task in run.federation.offered(run.task, run.data, site, str(run.folder.path)):
        if offered == name:
            return task
    raise ConfigError(f"{run.folder.path} must hold the model {name} of the results, but it has none. Train it anew.")


def _picture(task: FederatedModule, batch: Batch, place: int, chances: Any, case: Shown) -> Pixels:
    """Draws an image, or of a volume the slice with most foreground; Dice is that of the whole case."""
    height, width = batch["size"][place].tolist()
    volume = is_volume(batch)
    whole = slice(None) if volume else place
    masks, valids = (batch[name][whole, ..., :height, :width] for name in ("mask", "valid"))
    predictions: Tensor = chances[whole].argmax(-3)[..., :height, :width]
    dice = score_case(predictions, masks, valids, (1.0,) * masks.ndim, task.classes, distances=False)["dice"]
    if abs(dice - case.dice) > TOLERANCE:
        raise ConfigError(
            f"{case.case} must be segmented as in the results, got Dice {dice:.3f} in place of {case.dice:.3f}. "
            "Data or code have changed, or the run folder is of another training."
        )
    shown = int((masks > 0).flatten(1).sum(1).argmax()) if volume else place
    image = restore(batch["image"][shown : shown + 1], (height, width), task.placing)[0]
    if not volume:
        return draw_outlines(image, masks, predictions, valids, task.classes)
    middle = image.shape[0] // 2  # its neighbours are further channels
    mask, prediction, valid = (maps[shown] for maps in (masks, predictions, valids))
    return draw_outlines(image[middle : middle + 1], mask, prediction, valid, task.classes)
