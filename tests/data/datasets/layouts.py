"""The official layout of every data set in miniature, drawn from noise, with what the masks must become.

Every function builds one layout below a folder and returns what was drawn.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
Cases = dict[tuple[str, str], Array]


@dataclass
class Drawn:
    """What a layout shows, by site and case.

    Attributes:
        masks: Class indices.
        images: What must be read of some images.
        second: Class indices of second annotators.
        patients: Those of cases that are not their own.
        splits: Where the owners put a case.
        left_out: Images that are no cases, by site.
    """

    masks: Cases = field(default_factory=dict)
    images: Cases = field(default_factory=dict)
    second: Cases = field(default_factory=dict)
    patients: dict[tuple[str, str], str] = field(default_factory=dict)
    splits: dict[tuple[str, str], str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)


_SIZE = (12, 16)


def noise(seed: str, size: tuple[int, ...] = (*_SIZE, 3)) -> Array:
    """Pixels that no other seed has; bright, so that they lie inside a field of view."""
    return np.random.default_rng(list(seed.encode())).integers(60, 256, size, dtype=np.uint8)


def blob(seed: str, classes: int = 2, size: tuple[int, ...] = _SIZE) -> Array:
    """Class indices in nested rectangles at a place of its own; every class is there."""
    random = np.random.default_rng(list(f"mask {seed}".encode()))
    mask = np.zeros(size, np.uint8)
    for index in range(1, classes):
        corner = [int(random.integers(0, 3)) + 2 * (index - 1) for _ in size]
        mask[tuple(slice(c, c + max(1, side // 2 - 1)) for c, side in zip(corner, size, strict=True))] = index
    return mask


def save(path: Path, pixels: Array, **how: Any) -> None:
    """Saves an image by the ending of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def save_ppm_gz(path: Path, pixels: Array) -> None:
    """Saves a compressed PPM, as STARE has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape[:2]
    path.write_bytes(gzip.compress(b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()))


def grey(mask: Array, *levels: int) -> Array:
    """Returns a mask with a grey level for every class."""
    return np.array(levels, np.uint8)[mask]


def retina_vessels(source: Path) -> Drawn:
    drawn = Drawn()
    _drive(source / "DRIVE", drawn)
    _stare(source / "STARE", drawn)
    _chase(source / "CHASEDB1", drawn)
    _hrf(source / "HRF", drawn)
    _les_av(source / "LES-AV" / "LES-AV", drawn)
    return drawn


def _drive(home: Path, drawn: Drawn) -> None:
    for part, numbers in (("training", ("21", "22", "23")), ("test", ("01", "02"))):
        for number in numbers:
            case = ("drive", f"{number}_{part}")
            drawn.images[case], drawn.masks[case] = noise(number), blob(number)
            drawn.splits[case] = "train" if part == "training" else "test"
            save(home / part / "images" / f"{number}_{part}.tif", drawn.images[case])
            _save_palette(home / part / "1st_manual" / f"{number}_manual1.gif", drawn.masks[case])
            save(home / part / "mask" / f"{number}_{part}_mask.gif", np.full(_SIZE, 255, np.uint8))
            if part == "test":
                drawn.second[case] = blob(f"{number} second")
                _save_palette(home / part / "2nd_manual" / f"{number}_manual2.gif", drawn.second[case])
    save(home / "test" / "images" / "03_test.tif", noise("03"))
    drawn.left_out["drive"] = ["03_test"]


def _save_palette(path: Path, mask: Array) -> None:
    """Saves a mask with white as the colour of index 0, so that indices and grey levels differ."""
    image = Image.frombytes("P", mask.shape[::-1], (1 - mask).tobytes())
    image.putpalette([255, 255, 255, 0, 0, 0])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _stare(home: Path, drawn: Drawn) -> None:
    for name in ("im0001", "im0002", "im0003"):
        case = ("stare", name)
        drawn.images[case], drawn.masks[case], drawn.second[case] = noise(name), blob(name), blob(f"{name} vk")
        save_ppm_gz(home / "stare-images" / f"{name}.ppm.gz", drawn.images[case])
        save(home / "labels-ah" / f"{name}.ah.ppm", grey(drawn.masks[case], 0, 255)[..., None].repeat(3, 2))
        save_ppm_gz(home / "labels-vk" / f"{name}.vk.ppm.gz", grey(drawn.second[case], 0, 255)[..., None].repeat(3, 2))


def _chase(home: Path, drawn: Drawn) -> None:
    for name in ("Image_01L", "Image_01R", "Image_02L", "Image_02R", "Image_03L", "Image_03R"):
        case = ("chase", name)
        drawn.masks[case], drawn.second[case], drawn.patients[case] = blob(name), blob(f"{name} 2"), name[:-1]
        save(home / f"{name}.jpg", noise(name), quality=95)
        save(home / f"{name}_1stHO.png", drawn.masks[case].astype(bool))
        save(home / f"{name}_2ndHO.png", drawn.second[case].astype(bool))


def _hrf(home: Path, drawn: Drawn) -> None:
    for kind, letters in (("healthy", "h"), ("glaucoma", "g"), ("diabetic_retinopathy", "dr")):
        name, ending = f"01_{letters}", "JPG" if letters == "dr" else "jpg"
        drawn.masks["hrf", name] = blob(name)
        save(home / kind / f"{name}.{ending}", noise(name), quality=95)
        save(home / f"{kind}_manualsegm" / f"{name}.tif", grey(blob(name), 3, 250))
        if letters != "g":
            save(home / f"{kind}_fovmask" / f"{name}_mask.tif", np.full((*_SIZE, 3), 255, np.uint8))


def _les_av(home: Path, drawn: Drawn) -> None:
    for name in ("1", "2", "3"):
        drawn.masks["les_av", name] = blob(f"les {name}")
        save(home / "images" / f"{name}.png", noise(f"les {name}"))
        save(home / "vessel-segmentations" / f"{name}.png", blob(f"les {name}").astype(bool))
        save(home / "masks" / f"{name}_mask.gif", np.full(_SIZE, 255, np.uint8))


def fundus(source: Path) -> Drawn:
    drawn = Drawn()
    names = {"drishti_gs": "gdrishtiGS_{:03}", "rim_one_r3": "N-{}-L", "refuge_train": "n{:04}", "refuge_val": "V{:04}"}
    for domain, (site, pattern) in enumerate(names.items(), start=1):
        for part, numbers in (("train", (1, 2, 3)), ("test", (4, 5))):
            for number in numbers:
                name = pattern.format(number)
                case = (site, name)
                drawn.images[case], drawn.masks[case] = noise(name), blob(name, classes=3)
                drawn.splits[case] = part
                mask = grey(drawn.masks[case], 255, 128, 0) if number % 2 else grey(drawn.masks[case], 230, 190, 40)
                home = source / "Fundus-doFE" / f"Domain{domain}" / part / "ROIs"
                save(home / "image" / f"{name}.png", drawn.images[case])
                save(home / "mask" / f"{name}.png", mask if number % 3 else mask[..., None].repeat(3, 2))
    return drawn


LAYOUTS: Mapping[str, Callable[[Path], Drawn]] = {"fundus": fundus, "retina_vessels": retina_vessels}
"""A layout for every data set."""
