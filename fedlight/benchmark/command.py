"""``fedlight benchmark``: every algorithm with every site held out in turn."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fedlight.arguments import Arguments, data_of
from fedlight.benchmark import human
from fedlight.benchmark.collect import Spent, read_record, record, write_result
from fedlight.benchmark.estimate import estimate
from fedlight.benchmark.layout import HUMAN
from fedlight.benchmark.pictures import draw_pictures
from fedlight.benchmark.plan import REFERENCES, Arm, Job, Protocol, arms, jobs, shard
from fedlight.benchmark.progress import Board
from fedlight.benchmark.runner import Runner
from fedlight.benchmark.search import Search, read_spaces
from fedlight.data.case_sites import CaseSites
from fedlight.data.source import CaseError
from fedlight.preparation import ConfigError, prepare

_PASSED_ON = ("--data.", "--model.", "--federation.", "--trainer.")
_OWN = ("held_out", "run_folder", "threads")


def benchmark(arguments: Sequence[str]) -> int:
    """Trains what is missing of a benchmark; 0 if all jobs are done in the end, 1 if one failed."""
    chosen, further = _parser().parse_known_args(arguments)
    overrides = _overrides(further)
    protocol = Protocol(tuple(chosen.config), overrides, chosen.threads)
    folders = list(dict.fromkeys((chosen.config[0].parent / "algorithms", Path("configs/algorithms"))))
    compared = arms(_names(chosen.references) + _names(chosen.algorithms), folders)
    data = data_of(protocol.base, (*overrides, "--data.held_out", "null"))
    sites = _sites(data, _names(chosen.held_out))
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    planned = shard(jobs(compared, sites, seeds, chosen.nested), chosen.shard)
    workers = chosen.workers or max(1, (os.cpu_count() or 1) // chosen.threads)
    known = tuple(_results(folder) for folder in chosen.known)
    runner = Runner(protocol, chosen.output, known, workers, data.distance_unit)
    search = _search(chosen)
    trials = _trials(runner, chosen)
    tried = shard(search.jobs(compared, sites), chosen.shard) if search else []
    if chosen.dry_run:
        board = Board(planned, runner.missing(planned), runner)
        board.plan()
        later = jobs([arm for arm in compared if search and arm.name in search.spaces], sites, seeds)
        if tried:
            board.say(f"search: {len(tried)} trials, then {len(later)} jobs with the settings that they choose")
        board.estimate(estimate(runner, planned, [*board.missing, *trials.missing(tried), *later]))
        return 0
    _human(data, sites, chosen.output)
    with _ended_alike():
        done = _do(runner, planned)
        if search:
            done = _do(trials, tried) and done
            tuned = shard(_tuned(search, compared, sites, seeds, runner, trials), chosen.shard)
            done = _do(runner, tuned) and done
            planned += tuned
        for sentence in draw_pictures(runner, planned) if chosen.pictures else ():
            sys.stdout.write(f"{sentence}\n")
    sys.stdout.write(f"report: fedlight report {chosen.output}\n")
    return 0 if done else 1


def _do(runner: Runner, planned: Sequence[Job]) -> bool:
    """Runs what is missing of some jobs and says whether all are done in the end."""
    board = Board(planned, runner.missing(planned), runner)
    board.plan()
    for job, found in board.watch(runner.run(board.missing)):
        board.ended(job, found)
    board.close()
    return not runner.missing(planned)


def _search(chosen: argparse.Namespace) -> Search | None:
    if chosen.search is None:
        return None
    return Search(read_spaces(chosen.search), chosen.trials, chosen.first_seed, chosen.output / "search")


def _trials(runner: Runner, chosen: argparse.Namespace) -> Runner:
    """Returns what runs the trials of a search: they are trained and not scored."""
    known = [folder / "search" / "results" for folder in chosen.known]
    protocol = replace(runner.protocol, scored=False)
    folders = [folder for folder in known if folder.is_dir()]
    return Runner(protocol, chosen.output / "search", folders, runner.workers, runner.distance_unit)


def _tuned(
    search: Search, arms: Sequence[Arm], sites: Sequence[str], seeds: Sequence[int], own: Runner, trials: Runner
) -> list[Job]:
    """Returns the jobs with the settings that the search has chosen.

    Raises:
        ConfigError: If trials are missing that other machines do.
    """
    missing = [job for job in trials.missing(search.jobs(arms, sites)) if trials.failure(job) is None]
    if missing:
        raise ConfigError(
            f"all trials must be done before settings are chosen, got {len(missing)} missing, for instance "
            f"{missing[0].name}. Copy the search/ folders of all machines together and start again."
        )
    tuned = search.tuned(arms, sites, own, trials)
    return [Job(arm, (site,), seed) for seed in seeds for site in sites for arm in tuned[site]]


def _parser() -> Arguments:
    parser = Arguments(
        "fedlight benchmark",
        "Train every algorithm with every site held out in turn; what is done already is not done again. Settings of a "
        "run (--data.root DIR, --federation.rounds 20, ...) are passed on to every job.",
    )
    add = parser.add_argument
    add(
        "-c",
        "--config",
        type=Path,
        action="append",
        required=True,
        help="config of data, model and budget; several compose",
    )
    add(
        "--algorithms",
        default="",
        help="names of configs/algorithms/NAME.yaml, A+B to combine two, separated by commas",
    )
    add("--references", default=",".join(REFERENCES), help="arms that are always compared; default: %(default)s")
    add("--held_out", default="", help="sites to hold out in turn, separated by commas; default: all")
    add("--seeds", type=_positive, default=3, help="number of seeds; default: %(default)s")
    add("--first_seed", type=int, default=0, help="the first seed; default: %(default)s")
    pairs = "hold out every two sites together, for the second selection rule; only: nothing else, to choose first"
    add("--nested", nargs="?", const="also", choices=("also", "only"), help=pairs)
    add("--output", type=Path, required=True, help="folder of the benchmark; started again, it goes on")
    add("--known", type=Path, action="append", default=[], help="another folder of results that need not be done again")
    add("--search", type=Path, help="file of settings to search on source validation, for arms named in it")
    add("--trials", type=_positive, default=8, help="trials of a searched arm at a held-out site; default: %(default)s")
    add(
        "--pictures",
        action="store_true",
        help="also draw cases with the outlines of mask and prediction, and styles and features of the sites, for the "
        "report; of jobs done earlier, too. They show patients, so by default none are drawn",
    )
    add("--workers", type=_positive, help="jobs at a time; default: cores divided by threads")
    add("--threads", type=_positive, default=1, help="threads of a job; default: %(default)s")
    add("--shard", default="1/1", help="i/n: do the i-th of n parts of the jobs, on one of n machines; default: all")
    add("--dry-run", action="store_true", help="print what would be done and how long it may take")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _overrides(further: Sequence[str]) -> tuple[str, ...]:
    """Checks the settings that are passed on to every job; returns name and value in turn."""
    split = (argument.split("=", 1) if argument.startswith("--") else [argument] for argument in further)
    parts = [part for pair in split for part in pair]
    for name, value in zip(parts[::2], [*parts[1::2], "--"], strict=False):
        if not name.startswith(_PASSED_ON):
            raise ConfigError(f"{name} is not an option of fedlight benchmark. See fedlight benchmark --help.")
        if name.rpartition(".")[2] in _OWN or value.startswith("--"):
            why = "needs a value" if value.startswith("--") else "is decided by the benchmark"
            raise ConfigError(f"{name} {why}, got {value.removeprefix('--') or 'none'}. See fedlight benchmark --help.")
    return tuple(parts)


def _sites(data: CaseSites, asked: Sequence[str]) -> list[str]:
    """Returns the sites to hold out in turn, after a look at the data."""
    prepare(data)
    if len(data.sites) < 2:
        raise ConfigError(f"a benchmark must have at least two sites, got {', '.join(data.sites)}. Add a site.")
    for site in asked:
        if site not in data.sites:
            raise ConfigError(f"--held_out must be among {', '.join(data.sites)}, got {site}. Name one of these.")
    return list(asked or data.sites)


def _results(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"--known must be a folder, got {folder}. Name a folder of results, or leave it out.")
    return folder / "results" if (folder / "results").is_dir() else folder


def _human(data: CaseSites, sites: Sequence[str], output: Path) -> None:
    """Scores second annotators, where there are any; that takes a second a hundred cases."""
    for site in sites:
        job = Job(Arm(HUMAN, ()), (site,), 0)
        folder = output / "results" / job.name
        if read_record(folder) is not None:
            continue
        try:
            cases, reason = human.human_cases(data, site), ""
        except CaseError as error:
            cases, reason = [], "; ".join(f"{kind}: {detail}" for kind, detail in error.problems)
        about = {"classes": list(data.format.classes), "distance_unit": data.distance_unit, "curve": []}
        if cases or reason:
            write_result(folder, {**record(job, "", (), 1, Spent(0.0, 0.0), reason), **about}, cases)


@contextmanager
def _ended_alike() -> Iterator[None]:
    """Ends Ctrl-C and SIGTERM, which the command line raises as Ctrl-C, with one sentence; what is finished stays."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("fedlight: interrupted; what was done is kept: the same command goes on\n")
        raise SystemExit(130) from None
