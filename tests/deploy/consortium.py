"""A small federation for tests: data in folders, a kit, and a grid whose nodes answer in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from PIL import Image

from fedlight.checkpoint import RunFolder
from fedlight.cli import built, run
from fedlight.deploy.node import Node
from fedlight.deploy.site import Site, answer
from fedlight.executors.flower import driven
from fedlight.parcel import block_of, unwrap, wrap

TRAINING, HELD_OUT = ("berlin", "leeds", "osaka"), "lima"

Answer = Callable[[dict[str, Any], bytes], RecordDict | None]


def write_data(root: Path) -> None:
    """Four institutions of six to nine 16 x 16 images with a square on each."""
    for number, site in enumerate((*TRAINING, HELD_OUT)):
        random = np.random.default_rng(number)
        for index in range(6 + number):
            mask = np.zeros((16, 16), np.uint8)
            y, x = random.integers(3, 9, 2)
            mask[y : y + 5, x : x + 5] = 255
            image = random.integers(0, 60, (16, 16, 3)).astype(np.uint8) + mask[..., None] // 2 + np.uint8(20 * number)
            for kind, pixels in (("images", image), ("masks", mask)):
                (root / site / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / site / kind / f"patient-{site}-{index}.png")


def write_config(path: Path, root: Path, **federation: Any) -> Path:
    """Two rounds of two steps of a U-Net of 124 thousand parameters."""
    data = {"root": str(root), "held_out": HELD_OUT, "image_size": 16, "batch_size": 2}
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
    settings = {"rounds": 2, "local_steps": 2, "threads": 1, "aggregator": "FedAvg", **federation}
    config = {
        "data": {"class_path": "FolderSites", "init_args": data},
        "model": {"class_path": "SegmentationTask", "init_args": {"encoder": "plain-8", "optimizer": optimizer}},
        "federation": settings,
        "trainer": {"accelerator": "cpu"},
    }
    path.write_text(yaml.safe_dump(config))
    return path


def write_kit(folder: Path, config: Path, *settings: str, **executor: Any) -> Path:
    """A kit whose server waits no longer than a test should."""
    assert run(["deploy", "init", str(folder), "-c", str(config), *settings]) == 0
    agreed = folder / "server" / "run.yaml"
    plain = yaml.safe_load(agreed.read_text())
    plain["federation"]["executor"]["init_args"] |= {"deadline": 60.0, "transport": 5.0, "wait": 5.0, **executor}
    agreed.write_text(yaml.safe_dump(plain))
    return folder


def change(path: Path, **settings: Any) -> None:
    """Changes top-level settings of a YAML file."""
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))


class Institution:
    """The node of a site, warm, in this process."""

    def __init__(self, folder: Path) -> None:
        self.node, _ = Node.read(folder)
        self._site: Site | None = None

    def __call__(self, fields: dict[str, Any], block: bytes) -> RecordDict:
        said, reply = answer(self._current, self.node, fields, block)
        return wrap(said, block_of(reply) if reply else None)

    def restart(self) -> None:
        self._site = None

    def _current(self) -> Site:
        if self._site is None:
            self._site = Site(self.node, built)
        return self._site


@dataclass
class Sent:
    """A message to a site and its answer; None if there is none."""

    site: str
    fields: dict[str, Any]
    answer: Message | None


class Wires:
    """A grid whose nodes are functions; remembers all that crossed.

    A node that returns None never answers; one that raises is answered for by Flower.
    """

    def __init__(self, nodes: dict[str, Answer]) -> None:
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # set by Flower in a ServerApp's process
        self.nodes = nodes
        self.absent: set[str] = set()
        self.crossed: list[Sent] = []
        self.payloads: list[bytes] = []
        self._pending: dict[str, Message] = {}
        self._names = dict(enumerate(nodes, start=1))

    def get_nodes(self) -> Iterator[Any]:
        for number, site in self._names.items():
            if site not in self.absent:
                yield SimpleNamespace(node_id=number, name=site)

    def get_node_ids(self) -> list[int]:
        return [node.node_id for node in self.get_nodes()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return [self._push(message) for message in messages]

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        return [self._pending.pop(each) for each in list(ids) if each in self._pending]

    def _push(self, message: Message) -> str:
        number = f"message-{len(self.crossed)}"
        message.metadata.__dict__["_message_id"] = number
        site = self._names[message.metadata.dst_node_id]
        fields, block = unwrap(message.content)
        reply = self._reply(site, message, fields, block)
        self.crossed.append(Sent(site, fields, reply))
        if reply is not None:
            self._pending[number] = reply
        return number

    def _reply(self, site: str, message: Message, fields: dict[str, Any], block: bytes) -> Message | None:
        try:
            content = self.nodes[site](fields, block)
        except RuntimeError as error:
            return Message(Error(code=8, reason=str(error)), reply_to=message)
        if content is None:
            return None
        self.payloads += [block["block"].data for block in content.array_records.values()]
        return Message(content, reply_to=message)


def institutions(kit: Path) -> dict[str, Answer]:
    """The nodes of a kit."""
    return {folder.name: Institution(folder) for folder in sorted((kit / "sites").iterdir())}


@contextmanager
def connected(kit: Path, **replaced: Answer) -> Iterator[Wires]:
    """Connects the nodes of a kit for a block; some may be replaced by others."""
    wires = Wires({**institutions(kit), **replaced})
    with driven(wires):  # type: ignore[arg-type]  # has what the executor calls
        yield wires


def fit(kit: Path, *settings: str) -> int:
    """Trains as the ServerApp does."""
    where = ["--federation.run_folder", str(kit / "server" / "runs" / "run"), "--ckpt_path", "last"]
    return run(["fit", "-c", str(kit / "server" / "run.yaml"), *where, *settings])


def run_folder(kit: Path) -> RunFolder:
    """The run of a kit's server."""
    return RunFolder(kit / "server" / "runs" / "run")
