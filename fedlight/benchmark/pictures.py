"""What ``fedlight benchmark --pictures`` draws once jobs are done: overlays, sheets of styles, maps of features.

All of it is of the first seed and made from the run folders, without training anything; what is drawn already is not
drawn again. The pictures show patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedlight.benchmark import overlays, style_pictures
from fedlight.benchmark.collect import read_table
from fedlight.benchmark.plan import Job
from fedlight.benchmark.reopened import Reopened, reopen
from fedlight.benchmark.runner import Runner
from fedlight.checkpoint import RunFolder
from fedlight.executors.workplace import torch_threads

OWNED = "Overlays and sheets of styles show patients and must stay with the owner of the images."


def draw_pictures(runner: Runner, planned: Sequence[Job]) -> Iterator[str]:
    """Draws what is missing.

    Args:
        runner: Knows where results and runs lie.
        planned: All jobs of the benchmark.

    Yields:
        What there is to say, sentence by sentence, as it happens.
    """
    gallery = _Gallery(runner, [job for job in planned if len(job.held_out) == 1 and job.seed == planned[0].seed])
    with torch_threads(runner.protocol.threads):  # those of the scores, so that predictions are the same
        yield from gallery.overlays()
        yield from gallery.styles()
    yield OWNED


@dataclass
class _Gallery:
    """The pictures of a benchmark.

    Args:
        runner: Knows where results and runs lie.
        jobs: Those that pictures are of.
    """

    runner: Runner
    jobs: Sequence[Job]

    def overlays(self) -> Iterator[str]:
        """Draws best, median and worst cases of every arm and held-out site."""
        shown = 0
        away = []
        for job, result in ((job, self._result(job)) for job in self.jobs):
            try:
                there = result is not None and self._overlay(job, result)
                shown += there
                away += [job.name] if result is not None and not there else []
            except Exception as error:
                yield f"No overlays of {job.name}: {_sentence(error)}"
        place = self.runner.output / "overlays"
        yield f"{place}: best, median and worst cases of {shown} of {len(self.jobs)} pairs of arm and held-out site."
        if away:
            yield (
                f"No overlays of {', '.join(away)}: there is no trained run of these in {self.runner.output / 'runs'}. "
                "Ask for pictures where they were trained."
            )

    def _overlay(self, job: Job, result: Path) -> bool:
        """Draws one job, unless it is drawn; returns whether its run is here."""
        (site,) = job.held_out
        folder = self.runner.output / "overlays" / job.arm.name / site
        cases = overlays.choose(job, read_table(result / "cases.csv"))
        if overlays.is_drawn(folder, cases):
            return True
        run = self._run(job)
        if run is not None:
            overlays.draw_overlays(run, site, cases, folder)
        return run is not None

    def styles(self) -> Iterator[str]:
        """Draws styles and features of the first held-out site."""
        output = self.runner.output / "styles"
        jobs = [job for job in self.jobs if job.held_out == self.jobs[0].held_out and self._result(job) is not None]
        try:
            runs = {job.arm.name: run for job in jobs if (run := self._run(job)) is not None}
            yield from self._styles(jobs, runs, output) if runs else ()
        except Exception as error:
            yield f"No pictures of styles: {_sentence(error)}"

    def _styles(self, jobs: Sequence[Job], runs: dict[str, Reopened], output: Path) -> Iterator[str]:
        order = sorted(runs, key=lambda arm: (arm != style_pictures.PLAIN, runs[arm].data.pooled))  # its data are shown
        fingerprints = {job.arm.name: self.runner.protocol.fingerprint(job) for job in jobs if job.arm.name in runs}
        asked = style_pictures.asked_for(jobs[0].held_out[0], jobs[0].seed, fingerprints)
        if not style_pictures.is_drawn(output, asked):
            yield from style_pictures.draw_styles({arm: runs[arm] for arm in order}, asked, output)
        yield f"{output}: styles and features with {jobs[0].held_out[0]} held out."

    def _result(self, job: Job) -> Path | None:
        """Returns the folder of the result of a job that is done."""
        found = self.runner.done(job)
        return None if found is None else found[0]

    def _run(self, job: Job) -> Reopened | None:
        """Returns the run of a job, if it was trained here."""
        folder = RunFolder(self.runner.output / "runs" / job.name)
        trained = folder.exists() and folder.selected.is_file()
        return reopen(folder, self.runner.protocol.overrides) if trained else None


def _sentence(error: Exception) -> str:
    """Returns an error in one line.

    Raises:
        OSError: If it is one, such as a full disk: the next picture would meet it too.
    """
    if isinstance(error, OSError):
        raise error
    text = " ".join(str(error.args[0] if error.args else error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
