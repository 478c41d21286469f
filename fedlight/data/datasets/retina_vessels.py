"""Retinal vessels in fundus photographs: DRIVE, STARE, CHASE_DB1, HRF and LES-AV, each from its own owners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fedlight.data.conversion.download import Download
from fedlight.data.conversion.masks import Above, FieldOfView
from fedlight.data.conversion.readings import Levels, Picture
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.federated import Stage

_HRF = "https://www5.cs.fau.de/fileadmin/research/datasets/fundus-images/"
_HRF_ZIPS = {
    "healthy": "a4ce863b87371cecca8c841c4f7d8b06e39c5298fc78b103c35781bdb7eff389",
    "healthy_manualsegm": "2f8c67ee83e9ba16707119aa9ad98ad978c70566d467fe84b328854528ef16b8",
    "diabetic_retinopathy": "278630bea52c2096dbfa4b6486647ea60e56db1d67f1308dab2ff4383481a244",
    "diabetic_retinopathy_manualsegm": "5d949ed31d4b825f33b7b14123d21f2562588c8bcbaf33984ddd51ed706d6dbd",
    "glaucoma": "c3428a5eb971ce3165f21463c3e6bf0758531e30035303236b785e6b2d005071",
    "glaucoma_manualsegm": "ad3a0a39d2226a66da2c4072e031e23be9d27c8804e9a314db3ae757fc6f910a",
}


@dataclass(frozen=True)
class RetinaVessels(Dataset):
    """Five sets, each a site; SOURCE has a folder for each of them, or for some.

    ::

        DRIVE/training/{images/21_training.tif,1st_manual/21_manual1.gif,mask/21_training_mask.gif}
        DRIVE/test/{images/01_test.tif,1st_manual/01_manual1.gif,2nd_manual/01_manual2.gif,mask/01_test_mask.gif}
        STARE/**/{im0001.ppm,im0001.ah.ppm,im0001.vk.ppm}, each also as .ppm.gz
        CHASEDB1/{Image_01L.jpg,Image_01L_1stHO.png,Image_01L_2ndHO.png}
        HRF/{healthy/01_h.jpg,healthy_manualsegm/01_h.tif,healthy_fovmask/01_h_mask.tif}, and so for glaucoma (_g) and
            diabetic_retinopathy (_dr); or HRF/{images,manual1,mask} of the archive with all
        LES-AV/{images/1.png,vessel-segmentations/1.png,masks/1_mask.gif}

    Names are as third-party readers have them; not checked against the distributed archives. The test images of DRIVE
    have no first annotator in the challenge's archive; copies with them have 40 cases.
    """

    name: ClassVar[str] = "retina_vessels"
    title: ClassVar[str] = "Retinal vessels (DRIVE, STARE, CHASE_DB1, HRF, LES-AV)"
    reach: ClassVar[float] = 0.4  # keeps thin vessels
    group: ClassVar[str | None] = r"^Image_\d+|^.*$"
    licence: ClassVar[str] = (
        "CHASE_DB1 and HRF CC BY 4.0; LES-AV for science only, by its README; DRIVE and STARE state none that is known "
        "here, and are free for research by custom."
    )
    citation: ClassVar[tuple[str, ...]] = (
        "DRIVE: Staal et al., IEEE Trans. Med. Imaging 2004, doi 10.1109/TMI.2004.825627",
        "STARE: Hoover et al., IEEE Trans. Med. Imaging 2000, doi 10.1109/42.845178",
        "CHASE_DB1: Fraz et al., IEEE Trans. Biomed. Eng. 2012, doi 10.1109/TBME.2012.2205687",
        "HRF: Budai et al., Int. J. Biomed. Imaging 2013, doi 10.1155/2013/154860",
        "LES-AV: Orlando et al., MICCAI 2018",
    )
    get: ClassVar[str] = "five owners, see fedlight data info retina_vessels; only DRIVE wants a registration."
    protocol: ClassVar[str] = (
        "There is no common one. DRIVE alone has an official split (20 and 20); papers that hold out a whole set "
        "differ in size (512 pixels is common) and in whether they score inside the field of view."
    )
    steps: ClassVar[tuple[str, ...]] = (
        "Masks are those of the first annotator (STARE: Adam Hoover), foreground from a level of 128 on.",
        "Fields of view are the distributed ones; where there is none (STARE, CHASE_DB1, HRF without its fovmask "
        "archives), the largest region brighter than 25 of 255 in some channel, with holes filled.",
        "Both eyes of a child of CHASE_DB1 are one patient; elsewhere every image counts as one.",
    )
    downloads: ClassVar[tuple[Download, ...]] = tuple(
        Download(f"{_HRF}{name}.zip", digest, f"HRF/{name}", "HRF: CC BY 4.0") for name, digest in _HRF_ZIPS.items()
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Vessels of both kinds are one class."""
        return ("background", "vessel")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        """One set is one site."""
        return (
            Site("drive", "DRIVE, Netherlands", (20, 40), "drive.grand-challenge.org, with a registration"),
            Site("stare", "STARE, San Diego", (20,), "cecas.clemson.edu/~ahoover/stare"),
            Site("chase", "CHASE_DB1, children in London", (28,), "researchdata.kingston.ac.uk/96"),
            Site("hrf", "HRF, Erlangen and Brno", (45,), f"{_HRF} (or --download)"),
            Site("les_av", "LES-AV, Leuven", (22,), "figshare.com/articles/dataset/LES-AV_dataset/11857698"),
        )

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        """Reads one of the sets."""
        readers = {"drive": _drive, "stare": _stare, "chase": _chase, "hrf": _hrf, "les_av": _les_av}
        yield from readers[site](source)


def _drive(source: Tree) -> Iterator[Record | LeftOut]:
    home = source.folder("DRIVE").holding("training/images")
    for part in ("training", "test"):
        if part == "test" and home.find("test/images") is None:
            continue
        tree = home.folder(part)
        for path in tree.folder("images").files("*.tif"):
            yield _drive_case(tree, path, "train" if part == "training" else "test")


def _drive_case(tree: Tree, path: Path, split: Stage) -> Record | LeftOut:
    number = path.stem.split("_")[0]
    first, second = tree.find(f"1st_manual/{number}_manual1.gif"), tree.find(f"2nd_manual/{number}_manual2.gif")
    if first is None:
        return LeftOut(path.stem, "no mask of the first annotator in this copy")
    return _case(path, path.stem, first, tree.find(f"mask/{path.stem}_mask.gif"), second, split)


def _stare(source: Tree) -> Iterator[Record | LeftOut]:
    files = source.folder("STARE").files("im*.ppm", "im*.ppm.gz", deep=True)
    by_name = {path.name.lower().removesuffix(".gz").removesuffix(".ppm"): path for path in files}
    for name, path in by_name.items():
        if "." not in name:
            first, second = by_name.get(f"{name}.ah"), by_name.get(f"{name}.vk")
            yield LeftOut(name, NO_MASK) if first is None else _case(path, name, first, None, second)


def _chase(source: Tree) -> Iterator[Record | LeftOut]:
    home = source.folder("CHASEDB1", "CHASE_DB1", "CHASE").holding("Image_01L.jpg", "Image_01R.jpg")
    for path in home.files("Image_*.jpg"):
        first, second = home.find(f"{path.stem}_1stHO.png"), home.find(f"{path.stem}_2ndHO.png")
        child = path.stem[:-1]  # without L or R, the eye
        yield LeftOut(path.stem, NO_MASK) if first is None else _case(path, child, first, None, second)


def _hrf(source: Tree) -> Iterator[Record | LeftOut]:
    home = source.folder("HRF").holding("healthy", "manual1")
    if home.find("manual1") is not None:
        yield from _hrf_part(home, "images", "manual1", "mask")
        return
    for kind in ("healthy", "glaucoma", "diabetic_retinopathy"):
        yield from _hrf_part(home, kind, f"{kind}_manualsegm", f"{kind}_fovmask")


def _hrf_part(home: Tree, images: str, masks: str, fovs: str) -> Iterator[Record | LeftOut]:
    by_stem = {path.stem: path for path in home.folder(masks).files("*.tif", deep=True)}
    inside = home.folder(fovs).files("*_mask.tif", deep=True) if home.find(fovs) is not None else []
    fov_by_stem = {path.stem.removesuffix("_mask"): path for path in inside}
    for path in home.folder(images).files("*.jpg", deep=True):
        if path.stem not in by_stem:
            yield LeftOut(path.stem, NO_MASK)
        else:
            yield _case(path, path.stem, by_stem[path.stem], fov_by_stem.get(path.stem))


def _les_av(source: Tree) -> Iterator[Record | LeftOut]:
    home = source.folder("LES-AV", "LES_AV").holding("vessel-segmentations")
    for path in home.folder("images").files("*.png"):
        first, fov = home.find(f"vessel-segmentations/{path.stem}.png"), home.find(f"masks/{path.stem}_mask.gif")
        yield LeftOut(path.stem, NO_MASK) if first is None else _case(path, path.stem, first, fov)


def _case(
    image: Path, patient: str, first: Path, fov: Path | None, second: Path | None = None, split: Stage | None = None
) -> Record:
    picture = Picture(image)
    name = image.name.split(".")[0]
    inside = FieldOfView(picture) if fov is None else Above(Levels(fov))
    return Record(
        name, patient, picture, Above(Levels(first)), inside, None if second is None else Above(Levels(second)), split
    )
