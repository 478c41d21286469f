"""What help at test time is worth: trained runs of a benchmark, scored at the site that each held out.

Every run is copied into a temporary folder, so nothing of it changes. Its selected model is scored on the cases of its
held-out site, all of them or some at equal distances: plain, with the mean over views (tta), in the style that its
sites have shared (normalise_style), and with both; the last two are empty where they shared no statistics of images.
Nothing is chosen by these scores.

    python tests/performance/at_test_time.py runs/retina/runs --data.root "$RETINA_ROOT" --arms fedavg amplitude_mix

Columns: the arm, the held-out site, the number of cases, and the mean Dice over them (macro over foreground classes).
Runs of earlier versions are opened too: settings that they do not know have their defaults.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yaml

from fedlight.adaptation import NO_HELP, Adaptation, shared_style
from fedlight.batch import Batch
from fedlight.checkpoint import RunFolder
from fedlight.cli import built
from fedlight.data.federated import FederatedDataModule
from fedlight.federation import Federation
from fedlight.preparation import ConfigError, prototypes
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.inference import evaluating
from fedlight.tasks.views import TURNS, Views

HELPS = ("plain", "tta", "normalise_style", "both")


def main(arguments: Sequence[str] | None = None) -> None:
    """Scores every run that is named and prints a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder with ARM/SITE/seedK/, as fedlight benchmark leaves it")
    parser.add_argument("--data.root", dest="root", help="where the data lie now")
    parser.add_argument("--arms", nargs="*", help="all where none is named")
    parser.add_argument("--sites", nargs="*", help="held-out sites; all where none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tta", choices=tuple(TURNS), default="square", help="the views")
    parser.add_argument("--cases", type=int, help="of every site, at equal distances in their order; all if left out")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write(("arm", "held_out", "cases", *HELPS))
    for folder in sorted(given.runs.glob(f"*/*/seed{given.seed}")):
        arm, site = folder.parts[-3:-1]
        wanted = arm in (given.arms or [arm]) and site in (given.sites or [site]) and "+" not in site
        if wanted and (folder / "global.ckpt").is_file():
            write((arm, site, *scores(folder, site, given.root, given.tta, given.cases)))
            sys.stdout.flush()


def scores(folder: Path, site: str, root: str | None, tta: Views, cases: int | None) -> list[str]:
    """Returns the number of cases and the mean Dice with every help, empty where the run has nothing to help with."""
    with tempfile.TemporaryDirectory() as scratch:
        run = shutil.copytree(folder, Path(scratch) / "run")
        federation, model, data = opened(run, root)
        helps = list(adaptations(federation, RunFolder(run), data, tta))
        _, task = next(federation.offered(model, data, site, str(run)))
        chosen = spread(data.loader(site, "test"), cases)
        dices = [dice(task, chosen, help) if help is not None else [] for help in helps]
    return [str(len(dices[0])), *(f"{fmean(one):.4f}" if one else "" for one in dices)]


def opened(run: Path, root: str | None) -> tuple[Federation, FederatedModule, FederatedDataModule]:
    """Opens a run, whose config gets the settings that came after it, and the place of its data."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    if root is not None:
        config["data"]["init_args"]["root"] = root
    path.write_text(yaml.safe_dump(config))
    parts = built(["fit", "-c", str(path)])
    path.write_text(yaml.safe_dump(dict(parts[0].config)))
    return parts


def adaptations(
    federation: Federation, run: RunFolder, data: FederatedDataModule, tta: Views
) -> Iterator[Adaptation | None]:
    """Yields what helps in every column; None where there is nothing that could."""
    _, plugins = prototypes(federation.aggregator, federation.plugins)
    saved, style = run.load(), None
    with suppress(ConfigError):
        style = shared_style(plugins, saved["server"]["shared"] if saved else {}, data.format)
    yield from (NO_HELP, Adaptation(tta=tta))
    yield from (Adaptation(style=style), Adaptation(tta=tta, style=style)) if style else (None, None)


def spread(batches: Iterable[Batch], cases: int | None) -> list[Batch]:
    """Returns single cases of batches, so many at equal distances; all if left out."""
    places = ((batch, i) for batch in batches for i in range(len(batch["case"])))
    single: list[Any] = [{key: part[i : i + 1] for key, part in dict(batch).items()} for batch, i in places]  # type: ignore[index]
    count = len(single) if cases is None else min(cases, len(single))
    return [single[number * len(single) // count] for number in range(count)]


def dice(task: FederatedModule, batches: Iterable[Batch], help: Adaptation) -> list[float]:
    """Returns the Dice of every case."""
    help.prepare(task)
    task.detailed = False
    with evaluating(task):
        return [float(row["dice"]) for batch in batches for row in task.score(batch)]


if __name__ == "__main__":
    main()
