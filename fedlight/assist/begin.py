"""``fedlight init``: looks at somebody's folders, asks a few questions and writes a config that fit takes as it is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from rich.console import Console
from rich.prompt import Prompt
from rich.text import Text

from fedlight.arguments import Arguments, data_of, show
from fedlight.assist import proposal
from fedlight.assist.folder_look import Look, look
from fedlight.assist.proposal import Masks, Proposal
from fedlight.errors import ConfigError
from fedlight.messages import did_you_mean

if TYPE_CHECKING:
    from fedlight.data.case_sites import CaseSites

T = TypeVar("T")

_NONE = "none"


def init(arguments: Sequence[str]) -> int:
    """Writes a first config; exit code 2 where the data cannot be trained on."""
    from fedlight.data.check import check, render

    chosen = _parser().parse_args(arguments)
    if chosen.output.exists() and not chosen.force:
        raise ConfigError(f"--output must be free, got {chosen.output}. Name another, or write over it with --force.")
    if not chosen.output.parent.is_dir():
        raise ConfigError(f"--output must lie in a folder that exists, got {chosen.output}. Make the folder first.")
    asking = not chosen.yes and sys.stdin.isatty()
    answers = _answers(chosen, Questions(asking))
    module = _checked(answers, chosen.output)
    report = check(module)
    show(render(report))
    if not report.passed:
        chosen.output.with_name(f"{chosen.output.name}.part").unlink(missing_ok=True)
        raise ConfigError(f"{chosen.output} is not written, as fit would refuse this data. Mend what is said above.")
    chosen.output.with_name(f"{chosen.output.name}.part").replace(chosen.output)
    sys.stdout.write(f"Written: {chosen.output}. Next: fedlight fit -c {chosen.output}\n")
    return 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the config says, with the reasons of what was proposed."""

    root: str
    unseen: Proposal[tuple[str, ...]]
    masks: Proposal[Masks]
    channels: Proposal[int]
    size: Proposal[tuple[str, int]]
    batch: Proposal[int]
    steps: Proposal[int]
    rounds: Proposal[int]
    run_folder: str


class Questions:
    """Asks a person, or takes what is proposed where nobody can be asked.

    Args:
        asking: Whether somebody is there.
    """

    def __init__(self, asking: bool) -> None:
        self._asking = asking
        self._console = Console(highlight=False, markup=False, emoji=False)

    def value(
        self, name: str, given: str | None, proposed: Proposal[T], read: Callable[[str], T], text: str
    ) -> Proposal[T]:
        """Returns what an option gives, what a person answers, or what is proposed, with the reason.

        Raises:
            ConfigError: If an option cannot be used; an answer that cannot is asked for again.
        """
        if given is not None:
            return Proposal(read(given), f"given with --{name}")
        while self._asking:
            self._console.print(Text(proposed.reason[0].upper() + proposed.reason[1:] + ".", "dim"))
            answer = Prompt.ask(text, console=self._console, default=_shown(proposed.value))
            if answer == _shown(proposed.value):
                break
            try:
                return Proposal(read(answer), "as you said")
            except ConfigError as error:
                self._console.print(Text(str(error), "red"))
        return proposed

    def root(self, given: str | None) -> str:
        """Returns the folder of the data, which nobody can propose."""
        while given is None and self._asking:
            answer = Prompt.ask("Folder with one folder a site", console=self._console)
            if Path(answer).is_dir():
                return answer
            self._console.print(Text(f"{answer} is not a folder.", "red"))
        if given is None:
            raise ConfigError("--root must be given where nobody can be asked, got nothing. Name the data's folder.")
        return given


def _parser() -> argparse.ArgumentParser:
    parser = Arguments("fedlight init", "Look at your folders, ask a few questions, and write a config.")
    parser.add_argument("root", nargs="?", help="folder with one folder a site, each with images/ and masks/")
    parser.add_argument("--output", type=Path, default=Path("fedlight.yaml"), help="the config; default: fedlight.yaml")
    parser.add_argument("--held_out", help="site that takes no part, several with commas, or none")
    parser.add_argument("--classes", help="names of the classes with commas, background first")
    parser.add_argument("--image_size", help="side in pixels to which whole images are resized")
    parser.add_argument("--patch_size", help="side in pixels of random patches, in place of --image_size")
    parser.add_argument("--batch_size", help="images in a batch")
    parser.add_argument("--rounds", help="rounds of training")
    parser.add_argument("--run_folder", help="where the run goes; default: runs/NAME of the data's folder")
    parser.add_argument("--yes", action="store_true", help="take what is proposed without asking")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    return parser


def _answers(chosen: argparse.Namespace, ask: Questions) -> Answers:
    root = ask.root(chosen.root)
    seen = look(Path(root))
    counts = ", ".join(f"{site} ({cases})" for site, cases in seen.cases.items())
    show(Text(f"Sites with their cases: {counts}"))
    guess = proposal.held_out(seen)
    none: tuple[str, ...] = ()
    proposed = Proposal((guess.value,) if guess.value else none, guess.reason)
    unseen = ask.value("held_out", chosen.held_out, proposed, lambda text: _sites(text, seen), "Held-out site")
    masks = _masks(chosen.classes, proposal.masks(seen), ask)
    size = _size(chosen, proposal.size(seen), ask)
    batch = ask.value("batch_size", chosen.batch_size, proposal.batch_size(seen, unseen.value), _positive, "Batch size")
    steps = proposal.local_steps(seen, unseen.value, batch.value)
    rounds = ask.value("rounds", chosen.rounds, proposal.rounds(steps.value), _positive, "Rounds")
    channels = Proposal(1, "all images are grey") if seen.grey else Proposal(3, "images are in colour")
    run_folder = chosen.run_folder or f"runs/{Path(root).resolve().name}"
    return Answers(root, unseen, masks, channels, size, batch, steps, rounds, run_folder)


def _masks(given: str | None, proposed: Proposal[Masks], ask: Questions) -> Proposal[Masks]:
    known = proposed.value
    named = ask.value(
        "classes",
        given,
        Proposal(known.classes, proposed.reason),
        lambda text: _classes(text, len(known.classes)),
        "Names of the classes, background first",
    )
    return Proposal(Masks(known.values, known.threshold, named.value), proposed.reason)


def _size(chosen: argparse.Namespace, proposed: Proposal[tuple[str, int]], ask: Questions) -> Proposal[tuple[str, int]]:
    if chosen.image_size is not None and chosen.patch_size is not None:
        raise ConfigError("--image_size and --patch_size exclude each other, got both. Give one of them.")
    name = next((name for name in ("image_size", "patch_size") if getattr(chosen, name) is not None), None)
    name, given = (proposed.value[0], None) if name is None else (name, getattr(chosen, name))
    side = ask.value(
        name, given, Proposal(proposed.value[1], proposed.reason), _positive, f"{name.replace('_', ' ').capitalize()}"
    )
    return Proposal((name, side.value), side.reason)


def _sites(text: str, seen: Look) -> tuple[str, ...]:
    names = () if text == _NONE else tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in seen.cases:
            known = ", ".join(seen.cases)
            raise ConfigError(f"held_out must be a site, got {name}. {did_you_mean(name, seen.cases)}Known: {known}.")
    if len(names) == len(seen.cases):
        raise ConfigError(f"held_out must leave a site to train, got {text}. Hold out fewer.")
    return names


def _classes(text: str, number: int) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if len(names) != number or len(set(names)) != number or not all(names):
        raise ConfigError(f"classes must be {number} different names with commas, got {text}. Background comes first.")
    return names


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"a whole number above 0 is needed, got {text}. Write for instance 8.")
    return int(text)


def _shown(value: object) -> str:
    return (", ".join(map(str, value)) or _NONE) if isinstance(value, tuple) else str(value)


def _checked(answers: Answers, output: Path) -> CaseSites:
    """Writes the config aside and reads it as fit does."""
    aside = output.with_name(f"{output.name}.part")
    aside.write_text(text_of(answers), encoding="utf-8")
    return data_of([aside])


def text_of(answers: Answers) -> str:
    """Returns the config with the reason behind every proposal."""
    masks, (size, side) = answers.masks.value, answers.size.value
    meaning = (
        f"mask_threshold: {masks.threshold}" if masks.values is None else f"mask_values: {_flow(dict(masks.values))}"
    )
    held_out = f"held_out: {_flow(list(answers.unseen.value) or None)}"
    rounds, every = answers.rounds.value, max(1, answers.rounds.value // 10)
    return f"""\
# Written by fedlight init. Train: fedlight fit -c THIS_FILE; then score: fedlight test --run {answers.run_folder}
# Every setting can also be given on the command line, and other files can be laid over this one with -c.
seed_everything: 0

data:
  class_path: FolderSites
  init_args:
    root: {_flow(answers.root)}
    {held_out} # takes no part; {answers.unseen.reason}
    classes: {_flow(list(masks.classes))} # background first
    {meaning} # {answers.masks.reason}
    channels: {answers.channels.value} # {answers.channels.reason}
    {size}: {side} # {answers.size.reason}
    batch_size: {answers.batch.value} # {answers.batch.reason}
    # if a patient has several images, say which part of a file's name is the patient, for instance:
    # group: '^\\d+'

model:
  class_path: SegmentationTask
  init_args:
    encoder: plain-16 # small and quick; resnet34 and others are larger
    optimizer: {{ class_path: torch.optim.Adam, init_args: {{ lr: 0.003 }} }}
    scheduler: {{ class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {{ T_max: {rounds} }} }}

federation:
  aggregator: FedAvg # fedlight plugins lists the others
  rounds: {rounds} # {answers.rounds.reason}
  local_steps: {answers.steps.value} # {answers.steps.reason}
  evaluate_every: {every} # about ten looks at the validation cases
  run_folder: {_flow(answers.run_folder)}
"""


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000, sort_keys=False)
    return text.removesuffix("...\n").strip()
