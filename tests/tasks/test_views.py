"""Claims about test-time augmentation: what is undone, what it does nothing to, and what it averages."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from fedlight.batch import Batch
from fedlight.tasks.views import TURNS, Views, mean_over_views, turned, turned_back
from tests.conftest import small_sites, small_task


def image(height: int = 3, width: int = 5) -> Tensor:
    return torch.arange(2 * height * width, dtype=torch.float32).view(1, 2, height, width)


@pytest.mark.parametrize(("turns", "mirrored"), list(itertools.product(range(4), (False, True))))
def test_every_view_is_undone_exactly(turns: int, mirrored: bool) -> None:
    view = turned(image(), turns, mirrored)
    assert view.shape[-2:] == ((3, 5) if turns % 2 == 0 else (5, 3))
    assert torch.equal(turned_back(view, turns, mirrored), image())


@pytest.mark.parametrize(("views", "count"), [("flips", 4), ("square", 8)])
def test_no_two_views_are_alike(views: Views, count: int) -> None:
    seen: list[Tensor] = []

    def note(view: Tensor) -> Tensor:
        seen.append(view)
        return view

    mean_over_views(note, image(4, 4), views)
    assert len(seen) == count
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(seen, 2))


def test_flips_keep_the_sides_of_an_image() -> None:
    assert {turned(image(), turns, True).shape for turns in TURNS["flips"]} == {image().shape}


@pytest.mark.parametrize("views", ["flips", "square"])
def test_of_an_equivariant_model_the_mean_is_what_it_says(views: Views) -> None:
    """What works pixel by pixel says the same of a pixel wherever it lies."""
    torch.testing.assert_close(mean_over_views(torch.sin, image(), views), torch.sin(image()))


def test_without_views_a_model_is_asked_once() -> None:
    assert mean_over_views(lambda view: view + 1, image(), None).equal(image() + 1)


def test_what_depends_on_the_side_is_averaged() -> None:
    """A model that says the column, 0 to 3, of whatever it sees: with its mirror images 1.5 everywhere.

    In quarter turns of 2 x 4 pixels it sees two columns, 0 and 1, which lie along the rows: 0.5. Together 1.
    """

    def column(view: Tensor) -> Tensor:
        return torch.arange(view.shape[-1], dtype=torch.float32).expand(view.shape)

    dark = torch.zeros(1, 1, 2, 4)
    assert torch.equal(mean_over_views(column, dark, "flips"), dark + 1.5)
    assert torch.equal(mean_over_views(column, dark, "square"), dark + 1)


@pytest.mark.parametrize("window", [None, 16])
def test_a_network_looks_at_all_views_of_an_image_whose_sides_differ(window: int | None) -> None:
    """Turning the image turns what is said of it, which a single look does not do."""
    task = small_task(window=window)
    task.bind(small_sites().format)
    task.configure_model()
    task.eval()
    pixels = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(0))

    def say(images: Tensor) -> Tensor:
        size: Any = images.shape[-2:]
        empty = torch.zeros(1, *size, dtype=torch.int64)
        with torch.no_grad():
            return task.segment(
                Batch(
                    image=images,
                    mask=empty,
                    valid=empty == 0,
                    case=["a"],
                    spacing=torch.ones(1, 2),
                    size=torch.tensor([[*size]]),
                )
            )

    turned_image = turned(pixels, 1, mirrored=True)
    assert not torch.allclose(say(turned_image), turned(say(pixels), 1, mirrored=True), atol=1e-4)
    task.views = "square"
    assert say(pixels).shape == (1, 3, 21, 34)
    torch.testing.assert_close(say(turned_image), turned(say(pixels), 1, mirrored=True))
