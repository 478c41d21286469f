"""What the numbers of distributed masks become: by hand, on a few pixels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fedlight.data.conversion.encoding import nifti, png
from fedlight.data.conversion.masks import Above, Bands, FieldOfView, Lookup, Majority, Union
from fedlight.data.conversion.readings import Grid, Levels, Picture, Raw, Reading, UnusableError, Voxels
from fedlight.data.conversion.reduction import reduce_fov, reduce_image, reduce_mask
from fedlight.data.conversion.tree import LayoutError, Tree


class Given(Reading):
    """Values that are no file."""

    def __init__(self, *values: object) -> None:
        self.values = np.array(values)

    @property
    def paths(self) -> tuple[Path, ...]:
        return (Path("given"),)

    def read(self) -> Grid:
        return Grid(self.values)


def values(reading: Reading) -> npt.NDArray[np.uint8]:
    read: npt.NDArray[np.uint8] = reading.read().values
    assert read.dtype == np.uint8
    return read


def test_above_begins_at_the_least_value() -> None:
    np.testing.assert_array_equal(values(Above(Given(0, 127, 128, 255), 128)), [0, 0, 1, 1])


def test_bands_end_at_their_highest_value() -> None:
    """Up to 50 the cup (2), up to 200 the disc (1), above that background."""
    reading = Bands(Given(0, 50, 51, 200, 201, 255), (50, 200), (2, 1, 0))
    np.testing.assert_array_equal(values(reading), [2, 2, 1, 1, 0, 0])


def test_lookup_refuses_a_value_that_it_does_not_know() -> None:
    np.testing.assert_array_equal(values(Lookup(Given(0.0, 4.0, 1.0), {0: 0, 1: 1, 4: 3})), [0, 3, 1])
    with pytest.raises(UnusableError, match="given has the values 3, and the data set says 0, 4 only"):
        Lookup(Given(0, 3, 4), {0: 0, 4: 1}).read()


def test_union_is_foreground_where_one_is() -> None:
    np.testing.assert_array_equal(values(Union((Above(Given(0, 1, 0), 1), Above(Given(0, 0, 1), 1)))), [0, 1, 1])
    with pytest.raises(UnusableError, match="differ in size"):
        Union((Given(0, 1), Given(0))).read()


def test_majority_takes_the_most_votes_and_of_equal_ones_the_first_raters() -> None:
    """Columns: all agree; three against one; two against two; the first alone, the others 2, 1, 2; all differ."""
    raters = [(1, 0, 1, 0, 1), (1, 1, 2, 2, 2), (1, 1, 2, 1, 0), (1, 1, 1, 2, 0)]
    reading = Majority(tuple(Lookup(Given(*row), {0: 0, 1: 1, 2: 2}) for row in raters))
    np.testing.assert_array_equal(values(reading), [1, 1, 1, 2, 0])


def test_a_field_of_view_is_the_largest_bright_region_without_holes() -> None:
    image = np.zeros((24, 30, 3), np.uint8)
    image[2:20, 2:20, 0] = 90  # bright in one channel
    image[9:12, 9:12] = 0  # something dark inside
    image[20:24, 26:30] = 200  # a label in the corner
    expected = np.zeros((24, 30), np.uint8)
    expected[2:20, 2:20] = 1
    expected[[2, 2, 19, 19], [2, 19, 2, 19]] = 0  # opening with a cross takes the corners
    np.testing.assert_array_equal(values(FieldOfView(Given(*image))), expected)
    with pytest.raises(UnusableError, match="dark everywhere"):
        FieldOfView(Given(*np.zeros((4, 4, 3)))).read()


# --- files -----------------------------------------------------------------------------------------------------------


def test_levels_of_palettes_colours_pages_and_bits_are_luminance(tmp_path: Path) -> None:
    grey = np.array([[0, 128, 255]], np.uint8)
    palette = Image.frombytes("P", (3, 1), bytes([2, 0, 1]))
    palette.putpalette([128, 128, 128, 255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / "palette.gif")
    Image.fromarray(grey[..., None].repeat(3, 2)).save(tmp_path / "colour.bmp")
    Image.fromarray(grey).save(tmp_path / "pages.tif", save_all=True, append_images=[Image.fromarray(grey[:, ::-1])])
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "bits.png")
    for name in ("palette.gif", "colour.bmp", "pages.tif", "bits.png"):
        np.testing.assert_array_equal(values(Levels(tmp_path / name)), grey)
    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    Image.fromarray((grey > 100).astype(np.uint8)).save(tmp_path / "one.png")
    for name in ("bit.png", "one.png"):
        np.testing.assert_array_equal(values(Levels(tmp_path / name)), [[0, 255, 255]])


def test_a_level_of_1_is_noise_in_jpeg(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "empty.jpg", quality=100)
    np.testing.assert_array_equal(values(Levels(tmp_path / "empty.jpg")), np.ones((8, 8)))


def test_a_picture_has_the_channels_of_its_data_set(tmp_path: Path) -> None:
    colour = np.array([[[10, 20, 30], [0, 0, 0]]], np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    luminance = round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)
    np.testing.assert_array_equal(Picture(tmp_path / "colour.png", 1).read().values, [[[luminance], [0]]])
    np.testing.assert_array_equal(Picture(tmp_path / "grey.png", 3).read().values, [[[10, 10, 10], [0, 0, 0]]])


def test_raw_darkness_becomes_light_of_16_bits(tmp_path: Path) -> None:
    """The mean of 0, 0, 4095, 4095 is half dark: (4095 - 2047.5) / 4095 * 65535 = 32767.5, rounded to even."""
    np.array([[0, 0, 4095, 4095], [4095, 4095, 4095, 4095], [0, 0, 0, 0], [0, 0, 0, 0]], ">u2").tofile(tmp_path / "a")
    np.testing.assert_array_equal(Raw(tmp_path / "a", 4, 12).read().values[..., 0], [[32768, 0], [65535, 65535]])
    with pytest.raises(UnusableError, match="has 16 pixels, and 8 x 8 were expected"):
        Raw(tmp_path / "a", 8, 12).read()


def test_a_volume_keeps_affine_unit_and_scaled_values_and_no_names(tmp_path: Path) -> None:
    affine = np.diag([0.5, 0.25, 2.0, 1.0])
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"MUSTERMANN"
    image.header.set_slope_inter(0.5, 1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(nifti(Voxels(tmp_path / "a.nii.gz").read()))
    again = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(again.get_fdata(), np.arange(24).reshape(2, 3, 4) * 0.5 + 1)
    np.testing.assert_array_equal(again.affine, affine)
    assert again.header.get_xyzt_units()[0] == "mm"
    assert again.header["descrip"] == b""


def test_a_file_that_is_no_volume_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UnusableError, match=r"a\.nii\.gz cannot be read as a volume"):
        Voxels(tmp_path / "a.nii.gz").read()
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.float32), np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(UnusableError, match="2x2x2x3"):
        Voxels(tmp_path / "b.nii.gz").read()
    with pytest.raises(UnusableError, match="cannot be read as a volume"):
        Voxels(tmp_path / "b.nii.gz", frame=3).read()


def test_what_fits_into_no_png_is_refused() -> None:
    with pytest.raises(UnusableError, match="uint16 and shape 2x2x3"):
        png(np.zeros((2, 2, 3), np.uint16))


# --- smaller pictures ------------------------------------------------------------------------------------------------


def test_a_reduced_mask_of_several_classes_has_the_largest_share() -> None:
    """Of the left square two pixels are 1, one 2, one 0; of the right one two are 2 and two 0, and the first wins."""
    mask = np.array([[1, 1, 2, 2], [2, 0, 0, 0]], np.uint8)
    np.testing.assert_array_equal(reduce_mask(mask, (1, 2), 3, 0.5), [[1, 0]])


@pytest.mark.parametrize(("reach", "expected"), [(0.25, 1), (0.26, 0)])
def test_reach_is_the_share_from_which_a_pixel_is_foreground(reach: float, expected: int) -> None:
    mask = np.array([[1, 0], [0, 0]], np.uint8)
    np.testing.assert_array_equal(reduce_mask(mask, (1, 1), 2, reach), [[expected]])


def test_16_bits_and_fields_of_view_are_reduced_too() -> None:
    image = np.array([[[1000], [3000]], [[5000], [60000]]], np.uint16)
    reduced = reduce_image(image, (1, 1))
    assert reduced.dtype == np.uint16
    assert reduced.item() == 17250
    assert reduce_fov(np.full((4, 4), 255, np.uint8), (2, 2)).tolist() == [[255, 255], [255, 255]]
    assert reduce_image(image, (2, 2)) is image


# --- looking for files -----------------------------------------------------------------------------------------------


def test_names_are_found_in_any_case_and_below_and_hidden_files_are_none(tmp_path: Path) -> None:
    for name in ("a/b/Training/Images/x.TIF", "a/b/Training/Images/._x.TIF", "__MACOSX/training/images/x.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    home = Tree(tmp_path).holding("training/images")
    assert home.path == tmp_path / "a" / "b"
    assert [path.name for path in home.folder("training/images").files("*.tif")] == ["x.TIF"]
    assert [path.name for path in Tree(tmp_path).files("*.tif", deep=True)] == ["x.TIF"]
    assert home.find("../b") is None
    assert home.find("/etc") is None


def test_what_is_missing_is_said_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    with pytest.raises(LayoutError, match=f"looked for masks or labels2 in {tmp_path}, which holds labels"):
        Tree(tmp_path).folder("masks", "labels2")
    with pytest.raises(LayoutError, match="in and below"):
        Tree(tmp_path).holding("images")
    with pytest.raises(LayoutError, match="which holds nothing"):
        Tree(tmp_path / "labels").files("*.png")
    with pytest.raises(LayoutError, match=r"looked for a\.csv in"):
        Tree(tmp_path).file("a.csv")
