"""Data in folders, one a site, with images, masks and, if only a part of an image counts, fields of view."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from fedlight.data.case_sites import CaseSites
from fedlight.data.findings import Findings
from fedlight.data.image_files import FileSource, MaskValues
from fedlight.data.preparation import Normalise, Preparation
from fedlight.data.site_folders import find_sites, match_files
from fedlight.data.source import Entry, Source
from fedlight.data.splits import Fractions, Split, check_explicit, patient, read_splits, split
from fedlight.data.stack import Axis
from fedlight.data.transforms import TransformConfig
from fedlight.data.volume_files import holds_volume, open_stack
from fedlight.data.volumes import VolumeSource
from fedlight.data_format import DataFormat


class FolderSites(CaseSites):
    """Images and masks with equal stems in ``root/SITE/images`` and ``root/SITE/masks``, optionally ``root/SITE/fov``.

    PNG, JPEG, TIFF, BMP and GIF are read, 16-bit greys by their full range, and the volumes NIfTI, NumPy, DICOM series
    (a folder a case) and TIFF of several pages, which are trained on as slices and scored as volumes. Only pixels above
    0 in ``fov`` count, in loss, metrics and every statistic. ``fedlight data check`` shows what is found before any
    training.

    Args:
        root: Folder with one folder a site.
        sites: Sites to use, all by default; held-out sites are added to them.
        held_out: Site that takes no part in training, or several; all their cases are for testing.
        pooled: Train one client on the data of all training sites (the reference arm of centralised training).
        image_size: Grid that images are resized to, keeping their aspect, and padded to: side, or height and width.
            Evaluation is on the grid of the file. Give this or ``patch_size``.
        patch_size: Size of random training patches of the images as they are: side, or height and width.
        channels: Channels of an image, 1 for volumes; colour images whose channels are equal count as grey.
        classes: Names of the classes, background first.
        mask_values: Pixel value of a mask -> class index. By default 0 is background and 1 and 255 are foreground,
            or, with more than two classes, a value is its class index.
        mask_threshold: Two classes only, for masks with soft edges such as JPEG: values from here on are foreground.
        batch_size: Samples in a batch.
        transforms: Random albumentations transforms of training samples: class names, or class_path and init_args.
        val_fraction: Share of a site's cases for validation, at least one patient.
        test_fraction: Share of a site's cases for testing, at least one patient; 0 for none.
        group: Regular expression searched in the name of a case; its first group, or all it matches, is the patient.
            One patient stays in one split. By default every case is a patient.
        splits: CSV file with the columns site,case,split that replaces the fractions.
        split_seed: Another seed, another split.
        normalise: Intensities of every image: none (0 to 1 by the range of the file), z-score per channel, or
            percentile (1st to 99th to 0 to 1 per channel); statistics are of the whole image inside ``fov``.
        foreground_patches: Probability that a training patch is centred on foreground.
        axis: Which way volumes are cut into slices: axial, coronal or sagittal.
        intensity_window: Lowest and highest intensity of volumes, such as -160 and 240 HU; what is beyond is cut off.
            By default the least and the greatest intensity of each volume.
        spacing: Size of the pixels that slices are resampled to, in mm: one number, or height and width. Goes with
            ``patch_size``.
        context: Neighbouring slices, on either side, that are further channels of a slice.
        foreground_slices: Probability that a training slice is drawn among those of its volume that show foreground.
        cache_gb: Gigabytes of decoded images kept in memory; cases beyond are read again at every access.
        num_workers: Worker processes that prepare batches; 0 prepares them in the training process.
    """

    def __init__(
        self,
        root: str,
        sites: list[str] | None = None,
        held_out: list[str] | str | None = None,
        pooled: bool = False,
        image_size: int | tuple[int, int] | None = None,
        patch_size: int | tuple[int, int] | None = None,
        channels: Literal[1, 3] = 3,
        classes: Sequence[str] = ("background", "foreground"),
        mask_values: dict[int, int] | None = None,
        mask_threshold: int | None = None,
        batch_size: int = 8,
        transforms: Sequence[TransformConfig] = (),
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        group: str | None = None,
        splits: str | None = None,
        split_seed: int = 0,
        normalise: Normalise = "none",
        foreground_patches: float = 0.0,
        axis: Axis = "axial",
        intensity_window: tuple[float, float] | None = None,
        spacing: float | tuple[float, float] | None = None,
        context: int = 0,
        foreground_slices: float = 0.0,
        cache_gb: float = 4.0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(held_out, pooled, batch_size, transforms, foreground_patches, cache_gb, num_workers)
        self.axis: Axis = axis
        self.intensity_window = intensity_window
        self.spacing = spacing
        self.context = context
        self.foreground_slices = foreground_slices
        self.root = root
        self.chosen_sites = sites
        self.image_size = image_size
        self.patch_size = patch_size
        self.channels = channels
        self.classes = classes
        self.mask_values = mask_values
        self.mask_threshold = mask_threshold
        self.fractions = Fractions(val_fraction, test_fraction, split_seed)
        self.group = group
        self.splits = splits
        self.normalise: Normalise = normalise
        self.folder: Path | None = None  # of the one site that is looked at, where it has a name of its own

    def stay_at(self, institution: str, folder: Path | None = None) -> None:
        """Looks at one institution only, in ``root/INSTITUTION`` or in a folder of its own."""
        super().stay_at(institution)
        self.folder = folder

    @property
    def format(self) -> DataFormat:
        """What images and masks are like; known without reading them."""
        grid, patch = _pair(self.image_size), _pair(self.patch_size)
        channels = self.channels * (2 * self.context + 1)
        placing = self.preparation.placing
        return DataFormat(tuple(self.classes), channels, patch or grid or (0, 0), placing, patches=not grid)

    @property
    def preparation(self) -> Preparation:
        """What happens to every image."""
        spacing = (self.spacing, self.spacing) if isinstance(self.spacing, int | float) else self.spacing
        sizes = _pair(self.image_size), _pair(self.patch_size)
        return Preparation(self.channels, *sizes, self.normalise, spacing, self.context)

    def catalogue(self, findings: Findings) -> Mapping[str, Sequence[Entry]]:
        """Lists the cases of every site that have an image and a mask."""
        self._check_sizes(findings)
        if not (self._mask_values_fit(findings) and self._spacing_fits(findings)):
            return {}
        pattern = self._pattern(findings)
        if self.here is not None:
            return {self.here: self._entries(self.here, pattern, findings)}
        sites = find_sites(Path(self.root), self.chosen_sites, self.held_out_sites, findings)
        if sites and not set(sites).difference(self.held_out_sites):
            findings.error(f"data.held_out {', '.join(sites)} leaves no site to train. Hold out fewer.")
        return {site: self._entries(site, pattern, findings) for site in sites}

    def split(self, entries: Mapping[str, Sequence[Entry]], findings: Findings) -> Mapping[str, Split]:
        """Splits the cases of the training sites, by patient or by the file ``splits``."""
        if self.splits is None:
            self.fractions.check(findings)
            return {
                site: split(site, members, self.fractions, findings) for site, members in entries.items() if members
            }
        given = read_splits(Path(self.splits), findings)
        if not given:
            return {}
        return {site: check_explicit(site, members, given.get(site, {}), findings) for site, members in entries.items()}

    def write(self, array: npt.NDArray[Any], like: Path, target: Path) -> Path:
        """Writes a map of a volume on the grid of the file that the volume was read from, with its geometry."""
        return open_stack(like, self.axis).write(array, target, self.classes)

    def _entries(self, site: str, pattern: re.Pattern[str] | None, findings: Findings) -> list[Entry]:
        entries = []
        for files in match_files(site, self.folder or Path(self.root) / site, findings):
            group = patient(files.name, pattern)
            if group is None:
                findings.case("group", site, files.name)
            source = self._source(files.image, files.mask, files.fov)
            entries.append(Entry(files.name, files.name if group is None else group, source))
        return entries

    def _source(self, image: Path, mask: Path, fov: Path | None) -> Source:
        names = () if self.mask_values is not None else tuple(self.classes)
        values = MaskValues(self._class_of_value(), self.mask_threshold, names)
        if any(holds_volume(path) for path in (image, mask, fov) if path is not None):
            return VolumeSource(image, mask, fov, self.channels, values, self.axis, self.intensity_window)
        return FileSource(image, mask, fov, self.channels, values)

    def _alone(self, path: Path) -> Source:
        if not holds_volume(path):
            return super()._alone(path)
        return VolumeSource(path, None, None, self.channels, MaskValues({}, None), self.axis, self.intensity_window)

    def _class_of_value(self) -> dict[int, int]:
        if self.mask_values is not None:
            return self.mask_values
        return {0: 0, 1: 1, 255: 1} if len(self.classes) == 2 else {index: index for index in range(len(self.classes))}

    def _pattern(self, findings: Findings) -> re.Pattern[str] | None:
        try:
            return None if self.group is None else re.compile(self.group)
        except re.error as error:
            findings.error(f"data.group {self.group!r} is not a regular expression ({error}). Try '^[0-9]+'.")
            return None

    def _check_sizes(self, findings: Findings) -> None:
        if (self.image_size is None) == (self.patch_size is None):
            both = "both are given" if self.image_size is not None else "neither is given"
            findings.error(
                f"data.image_size or data.patch_size: {both}. Give one of them, for example image_size: 256."
            )
        for name, size in (("image_size", _pair(self.image_size)), ("patch_size", _pair(self.patch_size))):
            if size is not None and min(size) < 1:
                findings.error(f"data.{name} is {size[0]}x{size[1]}: a side has at least one pixel. Try 256.")
        self._check_slices(findings)

    def _check_slices(self, findings: Findings) -> None:
        window = self.intensity_window
        if window is not None and not window[0] < window[1]:
            findings.error(f"data.intensity_window is {window[0]:g} to {window[1]:g}: give the lower one first.")
        if self.context < 0:
            findings.error(f"data.context is {self.context}: it is 0 or more. For one slice above and below, use 1.")

    def _spacing_fits(self, findings: Findings) -> bool:
        spacing = self.preparation.spacing
        if spacing is not None and self.image_size is not None:
            findings.error(
                "data.spacing resamples, which data.image_size would undo. Use data.patch_size in place of it."
            )
        if spacing is not None and not min(spacing) > 0:
            findings.error(f"data.spacing is {min(spacing):g}: it is in mm, above 0. Try 1.")
        return spacing is None or min(spacing) > 0

    def _mask_values_fit(self, findings: Findings) -> bool:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            findings.error(
                f"data.classes is {list(self.classes)}: give background and at least one class, all different."
            )
        if self.mask_threshold is not None and (self.mask_values is not None or len(self.classes) != 2):
            findings.error("data.mask_threshold is for two classes and without data.mask_values. Give one of the two.")
        wrong = sorted({index for index in (self.mask_values or {}).values() if not 0 <= index < len(self.classes)})
        if wrong:
            last = len(self.classes) - 1
            findings.error(f"data.mask_values maps to {wrong}: class indices are 0 to {last}, as in data.classes.")
        return not wrong


def _pair(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size
