"""Finds sites below a root and matches the images, masks and fields of view of a site by their stems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedlight.data.findings import Findings, listing
from fedlight.file_names import READ, is_dicom, is_read, stem
from fedlight.messages import did_you_mean

LAYOUT = "A root holds one folder a site, each with images/ and masks/, and fov/ if only a part of the image counts."

_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one case."""

    name: str
    image: Path
    mask: Path
    fov: Path | None


def find_sites(root: Path, sites: Sequence[str] | None, held_out: Sequence[str], findings: Findings) -> list[str]:
    """Returns the sites below a root: those asked for and the held-out ones, or all of them."""
    known = _sites_below(root, findings)
    if sites is None or not known:
        return known
    for site in sites:
        if site not in known:
            findings.error(
                f"data.sites: there is no site {site}. {did_you_mean(site, known)}Known sites: {', '.join(known)}."
            )
    return [site for site in known if site in sites or site in held_out]


def _sites_below(root: Path, findings: Findings) -> list[str]:
    if not root.is_dir():
        findings.error(f"data.root {root} is not a folder. {LAYOUT}")
        return []
    known = sorted(path.parent.name for path in root.glob("[!.]*/images") if path.is_dir())
    if not known:
        inside = listing(sorted(path.name for path in root.iterdir())) or "nothing"
        findings.error(f"data.root {root} has no site: it holds {inside}. {LAYOUT}")
    return known


def match_files(site: str, folder: Path, findings: Findings) -> list[Files]:
    """Returns the complete cases of a site, sorted by name; what does not match is reported."""
    images, masks = _by_stem(site, folder / "images", findings), _by_stem(site, folder / "masks", findings)
    fovs = _by_stem(site, folder / "fov", findings)
    if not images:
        findings.error(f"site {site}: no image in {site}/images. {READ} are read.", site)
    for name in sorted(images.keys() - masks.keys()):
        loose = images[name].is_file() and is_dicom(images[name])
        findings.case("loose slices" if loose else "mask missing", site, images[name].name)
    for name in sorted(masks.keys() - images.keys()):
        findings.case("image missing", site, masks[name].name)
    for name in sorted(images.keys() - fovs.keys() if fovs else ()):
        findings.case("fov missing", site, images[name].name)
    return [Files(name, images[name], masks[name], fovs.get(name)) for name in sorted(images.keys() & masks.keys())]


def _by_stem(site: str, folder: Path, findings: Findings) -> dict[str, Path]:
    result: dict[str, Path] = {}
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        if path.name.startswith(".") or path.name.lower() in _CLUTTER or (path.is_dir() and not is_dicom(path)):
            continue
        if not is_read(path):
            findings.case("ignored", site, f"{folder.name}/{path.name}")
        elif stem(path) in result:
            findings.case("stem taken", site, f"{folder.name}/{result[stem(path)].name} and {path.name}")
        else:
            result[stem(path)] = path
    return result
