"""The official layout of every data set in miniature, drawn from noise, with what the masks must become.

Every function builds one layout below a folder and returns what was drawn.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
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


def volume(seed: str, depth: int = 3) -> Array:
    """Voxels, (X, Y, Z), int16, some below 0."""
    random = np.random.default_rng(list(f"volume {seed}".encode()))
    return random.integers(-100, 2000, (*_SIZE, depth), dtype=np.int16)


def save_volume(path: Path, voxels: Array) -> None:
    """Saves NIfTI with an affine that turns, moves and stretches, in mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.array([[-0.6, 0, 0, 30], [0, -0.7, 0.1, 20], [0, 0, 3, -10], [0, 0, 0, 1]])
    image: Any = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"MUSTERMANN"
    nibabel.save(image, path)


def prostate(source: Path) -> Drawn:
    drawn = Drawn()
    for site in ("runmc", "bmc", "i2cvb", "ucl", "bidmc", "hk"):
        for number in range(2):
            name = f"Case{number:02}"
            case, seed = (site, name), f"{site} {name}"
            drawn.images[case], drawn.masks[case] = volume(seed), blob(seed, size=(*_SIZE, 3))
            zones = drawn.masks[case] * np.uint8(1 + number)  # at some sites zones have values of their own
            home = source / "Processed_data_nii" / ("HCRUDB" if site == "i2cvb" else site.upper())
            save_volume(home / f"{name}.nii.gz", drawn.images[case])
            end = "_Segmentation" if site == "bmc" else "_segmentation"
            save_volume(home / f"{name}{end}.nii.gz", zones)
    return drawn


def polyps(source: Path) -> Drawn:
    drawn = Drawn()
    for name in ("cju0a", "cju0b", "cju0c"):
        drawn.masks["kvasir", name] = blob(name)
        save(source / "Kvasir-SEG" / "images" / f"{name}.jpg", noise(name), quality=95)
        _save_jpeg(source / "Kvasir-SEG" / "masks" / f"{name}.jpg", drawn.masks["kvasir", name])
    for frame, video in ((1, 1), (25, 1), (26, 2), (612, 29)):  # 25 is the last frame of the first video
        case = ("cvc_clinic", f"video{video:02}_frame{frame:03}")
        drawn.images[case], drawn.masks[case], drawn.patients[case] = noise(str(frame)), blob(str(frame)), case[1][:7]
        save(source / "CVC-ClinicDB" / "Original" / f"{frame}.tif", drawn.images[case])
        save(source / "CVC-ClinicDB" / "Ground Truth" / f"{frame}.tif", grey(drawn.masks[case], 0, 255))
    for name in ("1", "2", "10"):
        case = ("cvc_colon", name)
        drawn.images[case], drawn.masks[case] = noise(f"colon {name}"), blob(f"colon {name}")
        save(source / "CVC-ColonDB" / "images" / f"{name}.png", drawn.images[case])
        save(source / "CVC-ColonDB" / "masks" / f"{name}.png", grey(drawn.masks[case], 0, 255)[..., None].repeat(3, 2))
    home = source / "ETIS-LaribPolypDB"
    for name in ("1", "2", "3"):
        case = ("etis", name)
        drawn.images[case], drawn.masks[case] = noise(f"etis {name}"), blob(f"etis {name}")
        save(home / "ETIS-LaribPolypDB" / f"{name}.tif", drawn.images[case])
        save(home / "Ground Truth" / f"p{name}.tif", grey(drawn.masks[case], 0, 255))
    return drawn


def _save_jpeg(path: Path, mask: Array) -> None:
    """Saves a mask in colour as JPEG, whose edges ring; what must be read is its first half of levels."""
    save(path, grey(mask, 0, 255)[..., None].repeat(3, 2), quality=90)


def polypgen(source: Path) -> Drawn:
    drawn = Drawn()
    for number in range(1, 7):
        for index, name in enumerate((f"{number}H0001", f"{number}H0002", f"C{number}_EndoCV2021_00489_")):
            case = (f"c{number}", name)
            drawn.masks[case] = blob(f"{case}") if index else np.zeros(_SIZE, np.uint8)  # a frame without a polyp
            home = source / "PolypGen2021_MultiCenterData_v3" / f"data_C{number}"
            save(home / f"images_C{number}" / f"{name}.jpg", noise(f"{case}"), quality=95)
            _save_jpeg(home / f"masks_C{number}" / f"{name.rstrip('_')}_mask.jpg", drawn.masks[case])
        save(home / f"images_C{number}" / "lost.jpg", noise("lost"))
        drawn.left_out[f"c{number}"] = ["lost"]
        drawn.images[case] = np.array(Image.open(home / f"images_C{number}" / f"{name}.jpg"))
    return drawn


def mnms(source: Path) -> Drawn:
    drawn, home = Drawn(), source / "OpenDataset"
    parts = ("Training/Labeled", "Training/Labeled", "Validation", "Testing", "Training/Unlabeled")
    rows = ["External code,VendorName,Vendor,Centre,ED,ES"]
    for centre in range(1, 6):
        for index, part in enumerate(parts if centre == 4 else parts[:-1]):
            name = f"A{centre}S{index}V9"
            moments = {"ED": 0, "ES": 2}
            rows.append(f"{name},x,X,{centre},{moments['ED']},{moments['ES']}")
            frames = np.stack([volume(f"{name} {frame}") for frame in range(3)], axis=-1)
            save_volume(home / part / name / f"{name}_sa.nii.gz", frames)
            if part.endswith("Unlabeled"):
                drawn.left_out["centre4"] = [name]
                continue
            labels = np.zeros_like(frames, dtype=np.uint8)
            for moment, frame in moments.items():
                case = (f"centre{centre}", f"{name}_{moment}")
                labels[..., frame] = blob(str(case), classes=4, size=(*_SIZE, 3))
                drawn.images[case], drawn.masks[case] = frames[..., frame], labels[..., frame]
                drawn.patients[case] = name
                drawn.splits[case] = {"Training/Labeled": "train", "Validation": "val", "Testing": "test"}[part]
            save_volume(home / part / name / f"{name}_sa_gt.nii.gz", labels)
    (home / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text("\n".join(rows) + "\n")
    return drawn


def spinal_cord(source: Path) -> Drawn:
    """Three of four raters agree; the fourth drew something else."""
    drawn = Drawn()
    for number, site in enumerate(("ucl", "epm", "uhz", "vdb"), start=1):
        for subject in range(1, 3):
            name = f"site{number}-sc{subject:02}"
            case = (site, name)
            drawn.images[case], drawn.masks[case] = volume(name), blob(name, classes=3, size=(*_SIZE, 3))
            save_volume(source / "training" / f"{name}-image.nii.gz", drawn.images[case])
            for rater in range(1, 5):
                other = blob(f"{name} other", classes=3, size=(*_SIZE, 3))
                mask = other if rater == subject else drawn.masks[case]
                save_volume(source / "training" / f"{name}-mask-r{rater}.nii.gz", mask)
        save_volume(source / "test" / f"site{number}-sc11-image.nii.gz", volume("test"))
        drawn.left_out[site] = [f"site{number}-sc11"]
    return drawn


def riga_plus(source: Path) -> Drawn:
    drawn, home = Drawn(), source / "RIGAPlus"
    sites = ("BinRushed", "Magrabia", "MESSIDOR_Base1", "MESSIDOR_Base2", "MESSIDOR_Base3")
    home.mkdir(parents=True)
    for domain in sites:
        for part, numbers in (("train", (1, 2, 3)), ("test", (4,))):
            rows = ["image,mask"]
            for number in numbers:
                folder = f"RIGA/Images/{domain}{number % 2}"
                image, mask = f"{folder}/image{number}.tif", f"RIGA/Masks/{domain}{number % 2}/image{number}.tif"
                rows.append(f"{image},{mask}")
                case = (domain.lower(), f"{folder.replace('/', '-')}-image{number}")
                drawn.images[case], drawn.splits[case] = noise(image), part
                save(home / image, drawn.images[case])
                for rater in range(1, 7):
                    drawn_by = blob(f"{image} {rater}", classes=3)
                    if rater <= 2:
                        (drawn.masks, drawn.second)[rater - 1][case] = drawn_by
                    save(home / mask.replace(".tif", f"-{rater}.tif"), grey(drawn_by, 255, 128, 0))
            (home / f"{domain}_{part}.csv").write_text("\n".join(rows) + "\n")
    (home / "MESSIDOR_Base1_unlabeled.csv").write_text("image,mask\nMESSIDOR/20051019.tif,\n")
    drawn.left_out["messidor_base1"] = ["MESSIDOR-20051019"]
    return drawn


def chest_xray(source: Path) -> Drawn:
    drawn = Drawn()
    again = {"MCUCXR_0117_1": "MCUCXR_0113"}
    for name in ("MCUCXR_0001_0", "MCUCXR_0113_1", "MCUCXR_0117_1"):
        first = again.get(name, name[:11])
        case = ("montgomery", f"{first}_again_{name[7:]}" if name in again else name)
        left, right = blob(f"{name} left"), blob(f"{name} right")
        drawn.images[case], drawn.masks[case] = noise(name, (*_SIZE, 1)), np.maximum(left, right)
        drawn.patients[case] = first
        home = source / "NLM-MontgomeryCXRSet" / "MontgomerySet"
        save(home / "CXR_png" / f"{name}.png", drawn.images[case][..., 0])
        save(home / "ManualMask" / "leftMask" / f"{name}.png", left.astype(bool))
        save(home / "ManualMask" / "rightMask" / f"{name}.png", right.astype(bool))
    for name in ("CHNCXR_0001_0", "CHNCXR_0002_0", "CHNCXR_0003_0"):
        case = ("shenzhen", name)
        drawn.images[case], drawn.masks[case] = noise(name, (*_SIZE, 1)), blob(name)
        save(source / "ChinaSet_AllFiles" / "CXR_png" / f"{name}.png", drawn.images[case].repeat(3, 2))
        save(source / "mask" / "mask" / f"{name}_mask.png", grey(drawn.masks[case], 0, 255))
    save(source / "ChinaSet_AllFiles" / "CXR_png" / "CHNCXR_0025_0.png", noise("none"))
    drawn.left_out["shenzhen"] = ["CHNCXR_0025_0"]
    _jsrt(source, drawn)
    return drawn


def _jsrt(source: Path, drawn: Drawn) -> None:
    """Raw squares of 12 bits, 2048 pixels a side, each 2 x 2 pixels of one darkness; masks of half the side."""
    side = 1024
    for fold, name in (("fold1", "JPCLN001"), ("fold2", "JPCNN002")):
        case = ("jsrt", name)
        dark = np.random.default_rng(list(name.encode())).integers(0, 4096, (side, 1)).repeat(side, 1)
        drawn.images[case] = ((4095 - dark) / 4095 * 65535).round().astype(np.uint16)[..., None]
        path = source / "JSRT" / "All247images" / f"{name}.IMG"
        path.parent.mkdir(parents=True, exist_ok=True)
        dark.repeat(2, 0).repeat(2, 1).astype(">u2").tofile(path)
        left, right = (blob(f"{name} {lung}", size=(side, side)) for lung in ("left", "right"))
        drawn.masks[case] = np.maximum(left, right)
        for lung, mask in (("left lung", left), ("right lung", right)):
            save(source / "scratch" / fold / "masks" / lung / f"{name}.gif", grey(mask, 0, 255))


def fets(source: Path) -> Drawn:
    drawn, home = Drawn(), source / "MICCAI_FeTS2022_TrainingData"
    rows = ["Partition_ID,Subject_ID"]
    for partition in ("1", "2", "15"):
        for index in range(2):
            subject = f"FeTS2022_{int(partition):03}{index}"
            rows.append(f"{partition},{subject}")
            case = (f"p{int(partition):02}", subject)
            drawn.masks[case] = blob(subject, classes=4, size=(*_SIZE, 3))
            for modality in ("flair", "t1", "t1ce", "t2"):
                save_volume(home / subject / f"{subject}_{modality}.nii.gz", volume(f"{subject} {modality}"))
            drawn.images[case] = volume(f"{subject} flair")
            save_volume(home / subject / f"{subject}_seg.nii.gz", grey(drawn.masks[case], 0, 1, 2, 4))
    (home / "partitioning_1.csv").write_text("\n".join(rows) + "\n")
    return drawn


LAYOUTS: Mapping[str, Callable[[Path], Drawn]] = {
    layout.__name__: layout
    for layout in (
        chest_xray,
        fets,
        fundus,
        mnms,
        polypgen,
        polyps,
        prostate,
        retina_vessels,
        riga_plus,
        spinal_cord,
    )
}
"""A layout for every data set, by its name."""
