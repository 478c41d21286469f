"""What all data modules over single cases share: splits, checks, the memory of decoded images and the loaders."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader

from fedlight.batch import Batch
from fedlight.data.cases import Case, Survey, keep_within, make_case, make_cases
from fedlight.data.content import check_content
from fedlight.data.dataset import Drawn, EvaluationBatches, InOrder, Shuffled, TrainingBatches, batches, by_patient
from fedlight.data.federated import DataError, FederatedDataModule, Stage
from fedlight.data.findings import KINDS, Findings
from fedlight.data.image_files import ImageSource
from fedlight.data.preparation import Preparation
from fedlight.data.source import CaseError, Entry, Source
from fedlight.data.splits import STAGES, Split
from fedlight.data.transforms import Augmentation, TransformConfig
from fedlight.file_names import stem
from fedlight.messages import did_you_mean

POOLED = "pooled"
"""The one client that has the data of all training institutions."""

_log = logging.getLogger(__name__)


class CaseSites(FederatedDataModule):
    """Institutions made of single cases; a subclass says which cases there are and how they are split.

    Args:
        held_out: The institution that takes no part in training, or several.
        pooled: Whether all training institutions form one client.
        batch_size: Samples in a batch.
        transforms: Random transforms of training samples.
        foreground_patches: Probability that a training patch is centred on foreground.
        cache_gb: Gigabytes of decoded images that are kept in memory.
        num_workers: Worker processes of a loader.
    """

    def __init__(
        self,
        held_out: list[str] | str | None,
        pooled: bool,
        batch_size: int,
        transforms: Sequence[TransformConfig],
        foreground_patches: float,
        cache_gb: float,
        num_workers: int,
    ) -> None:
        super().__init__()
        self.held_out = held_out
        self.pooled = pooled
        self.batch_size = batch_size
        self.transforms = transforms
        self.foreground_patches = foreground_patches
        self.cache_gb = cache_gb
        self.num_workers = num_workers
        self.foreground_slices = 0.0
        self.here: str | None = None  # the one institution that is looked at; None for all
        self._survey: Survey | None = None
        self._augmentation: Augmentation | None = None
        self._names: tuple[str, ...] | None = None  # asked for by every client in every round

    @property
    @abstractmethod
    def preparation(self) -> Preparation:
        """What happens to every image."""

    @abstractmethod
    def catalogue(self, findings: Findings) -> Mapping[str, Sequence[Entry]]:
        """Lists the cases of every institution by name, without reading them."""

    @abstractmethod
    def split(self, entries: Mapping[str, Sequence[Entry]], findings: Findings) -> Mapping[str, Split]:
        """Splits the cases of the training institutions."""

    def survey(self) -> Survey:
        """Reads and checks everything once and returns what is known, also when it cannot be trained on."""
        if self._survey is None:
            self._survey = self._look()
        return self._survey

    def prepare(self) -> None:
        """Reads and checks the data of every site; calling it again does nothing."""
        known = self._survey is not None
        findings = self.survey().findings
        if errors := [finding.text for finding in findings if finding.severity == "error"]:
            raise DataError(*errors)
        if not known:
            for finding in findings:
                _log.warning(finding.text)

    def stay_at(self, institution: str, folder: Path | None = None) -> None:
        """Looks at one institution only."""
        if self.pooled:
            raise DataError("data.pooled puts the cases of all sites together, which one site cannot. Leave it out.")
        self.here = institution

    @property
    def sites(self) -> tuple[str, ...]:
        """The clients of the federation."""
        return (POOLED,) if self.pooled else self._training()

    @property
    def held_out_sites(self) -> tuple[str, ...]:
        """The institutions that take no part in training."""
        return tuple(sorted({self.held_out} if isinstance(self.held_out, str) else set(self.held_out or ())))

    def institutions(self, site: str) -> tuple[str, ...]:
        """The institutions whose data a client has."""
        if site not in self.sites:
            raise KeyError(f"{site} is not a client. {did_you_mean(site, self.sites)}Known: {', '.join(self.sites)}.")
        return self._training() if self.pooled else (site,)

    def num_samples(self, site: str) -> int:
        """The number of training samples of a client: images, and slices of volumes."""
        return sum(case.facts.slices for case in self._train_cases(site))

    @property
    def distance_unit(self) -> Literal["mm", "px"]:
        """Unit of surface distances: mm where every case says how large its pixels are."""
        splits = self._prepared().cases.values()
        cases = [case for stages in splits for stage in stages.values() for case in stage]
        return "mm" if cases and all(case.facts.in_mm for case in cases) else "px"

    def train_loader(self, site: str, *, seed: int, steps: int | None = None) -> DataLoader[Batch]:
        """Returns the training batches of a client; without ``steps``, the last batch may be smaller."""
        cases = self._train_cases(site)
        chances = self.foreground_patches, self.foreground_slices
        dataset = TrainingBatches(cases, self._augmentation, *chances, seed)
        return batches(dataset, Shuffled(len(dataset), self.batch_size, steps, seed), self.num_workers, seed)

    def patients(self, site: str) -> int:
        """The number of patients among the training cases of a client; one at two institutions counts twice."""
        return len(by_patient(self._train_cases(site)))

    def patient_loader(self, site: str, draws: Sequence[Sequence[int]], *, seed: int) -> DataLoader[Batch]:
        """Returns one training batch a draw, in which every drawn patient has one sample of one of its cases."""
        cases = self._train_cases(site)
        chances = self.foreground_patches, self.foreground_slices
        dataset = TrainingBatches(cases, self._augmentation, *chances, seed)
        return batches(dataset, Drawn(by_patient(cases), draws, seed), self.num_workers, seed)

    def loader(self, institution: str, stage: Stage) -> DataLoader[Batch]:
        """Returns whole cases of an institution in order of their names; volumes, and other sizes, one at a time."""
        cases = self._prepared().cases[institution][stage]
        alike = len({case.facts.size for case in cases}) == 1 and not any(case.facts.volume for case in cases)
        order = InOrder(len(cases), self.batch_size if alike else 1)
        return batches(EvaluationBatches(cases), order, self.num_workers, 0)

    def read(self, path: Path) -> Batch:
        """Returns one image that has no mask; its mask is 0, and all its pixels are valid. Needs no other data."""
        entry = Entry(stem(path), stem(path), self._alone(path))
        try:
            case = make_case("", entry, self.preparation, len(self.format.classes))
        except CaseError as error:
            kind, detail = error.problems[0]
            remedy = KINDS[kind].remedy.replace(", or set data.channels to what they have", "")  # the network is built
            raise DataError(f"{path}: {KINDS[kind].problem}: {detail}. {remedy}") from error
        return EvaluationBatches([case])[[0]]

    def _alone(self, path: Path) -> Source:
        """Where the pixels of a file without a mask come from."""
        return ImageSource(path, self.preparation.channels)

    def describe(self) -> list[dict[str, Any]]:
        """Returns one row an institution: cases in every split and image sizes."""
        return [_row(site, splits) for site, splits in self._prepared().cases.items()]

    def _prepared(self) -> Survey:
        self.prepare()
        return self.survey()

    def _training(self) -> tuple[str, ...]:
        if self._names is None:
            self._names = tuple(sorted(set(self._prepared().cases).difference(self.held_out_sites)))
        return self._names

    def _train_cases(self, site: str) -> list[Case]:
        cases = self._prepared().cases
        return [case for institution in self.institutions(site) for case in cases[institution]["train"]]

    def _look(self) -> Survey:
        findings = Findings()
        self._check_arguments(findings)
        entries = self._looked_at(self.catalogue(findings), findings)
        for site in self.held_out_sites if entries and self.here is None else ():
            if site not in entries:
                findings.error(_unknown("data.held_out", site, entries))
        stages = self.split({site: entries[site] for site in entries if site not in self.held_out_sites}, findings)
        pairs = [(site, entry) for site in entries for entry in entries[site]]
        made = make_cases(pairs, self.preparation, len(self.format.classes), findings)
        cases = _arrange(keep_within(made, self.cache_gb, findings), entries, stages, self.held_out_sites)
        check_content(cases, self.format.classes, self.held_out_sites, findings)
        return Survey(cases, findings.sentences())

    def _looked_at(self, entries: Mapping[str, Sequence[Entry]], findings: Findings) -> Mapping[str, Sequence[Entry]]:
        if self.here is None:
            return entries
        if entries and self.here not in entries:
            findings.error(_unknown("site", self.here, entries))
        return {site: members for site, members in entries.items() if site == self.here}

    def _check_arguments(self, findings: Findings) -> None:
        if self.batch_size < 1:
            findings.error(f"data.batch_size is {self.batch_size}: a batch has at least one sample. Try 8.")
        if not 0 <= self.foreground_patches <= 1:
            findings.error(f"data.foreground_patches is {self.foreground_patches:g}: a probability is in [0, 1].")
        if not 0 <= self.foreground_slices <= 1:
            findings.error(f"data.foreground_slices is {self.foreground_slices:g}: a probability is in [0, 1].")
        try:
            self._augmentation = Augmentation(self.transforms) if self.transforms else None
        except DataError as error:
            findings.error(str(error))


def _unknown(argument: str, site: str, known: Mapping[str, object]) -> str:
    return f"{argument}: there is no site {site}. {did_you_mean(site, known)}Known sites: {', '.join(sorted(known))}."


def _arrange(
    cases: Sequence[Case], entries: Mapping[str, object], stages: Mapping[str, Split], held_out: Sequence[str]
) -> dict[str, dict[Stage, list[Case]]]:
    result: dict[str, dict[Stage, list[Case]]] = {site: {stage: [] for stage in STAGES} for site in sorted(entries)}
    for case in sorted(cases, key=lambda case: case.name):
        stage = "test" if case.site in held_out else stages.get(case.site, {}).get(case.name)
        if stage is not None:
            result[case.site][stage].append(case)
    return result


def _row(site: str, splits: Mapping[Stage, Sequence[Case]]) -> dict[str, Any]:
    sizes: dict[str, int] = defaultdict(int)
    for case in (case for stage in STAGES for case in splits[stage]):
        sizes[case.facts.shape] += 1
    return {"site": site, **{stage: len(splits[stage]) for stage in STAGES}, "sizes": dict(sorted(sizes.items()))}
