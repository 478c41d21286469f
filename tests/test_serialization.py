"""Claims about states as bytes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fedlight.serialization import pack, read, unpack, write


def test_a_tree_comes_back_as_it_was() -> None:
    tree: dict[str, Any] = {
        "w": torch.randn(2, 3),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4),
        "plain": [1, 2.5, None, True, "text", (1, 2)],
        "optimizer": {0: {"step": torch.tensor(3.0)}, 1: {}},
    }
    back = unpack(pack(tree))
    assert back.keys() == tree.keys()
    assert back["plain"] == tree["plain"]
    assert list(back["optimizer"]) == [0, 1]
    for name in ("w", "half", "none"):
        assert torch.equal(back[name], tree[name])
        assert back[name].dtype == tree[name].dtype


def test_tensors_that_share_memory_are_stored_apart() -> None:
    base = torch.arange(6.0)
    back = unpack(pack([base, base[:3], base.view(2, 3).t()]))
    assert torch.equal(back[1], base[:3])
    assert torch.equal(back[2], base.view(2, 3).t())


def test_what_is_no_tensor_and_no_plain_value_is_refused() -> None:
    with pytest.raises(TypeError, match="got object"):
        pack({"x": object()})


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda _: b"", lambda b: b"x" + b])
def test_damaged_bytes_are_refused(damage: Any) -> None:
    with pytest.raises(ValueError, match="not a packed tree"):
        unpack(damage(pack({"w": torch.ones(100)})))


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "state")
    with pytest.raises(ValueError, match="is damaged"):
        read(tmp_path / "state")


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    write(tmp_path / "state", 1)
    write(tmp_path / "state", 2)
    assert read(tmp_path / "state") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
