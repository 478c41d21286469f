"""Claims about who works on what, with workers that are no processes: they answer at once, or never."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fedlight.executors.desk import Desk
from fedlight.executors.shared_memory import Place
from fedlight.executors.worker import Answer, Begun, Order
from fedlight.update import SiteFailure


class Hand:
    """A worker that answers orders with the name of their site, but for some of which it never does."""

    ready, ended, starting = True, None, 0.0

    def __init__(self, hangs: frozenset[str]) -> None:
        self.connection, self._other = Pipe()
        self.hangs, self.replies, self.orders = hangs, self, list[Order]()

    def send(self, order: Order) -> None:
        self.orders.append(order)
        self._other.send(Begun())
        if order.site not in self.hangs:
            self._other.send(Answer(Place(0, 0), order.finished + 1))

    def received(self) -> Iterator[Any]:
        while self.connection.poll():
            yield self.connection.recv()

    def read(self, place: Place) -> str:
        return self.orders[-1].site


class Hands:
    """As many of them as a crew has workers; one that is ended is replaced by another that is at work as it was."""

    def __init__(self, number: int, hangs: frozenset[str]) -> None:
        self.hangs, self.hands = hangs, [Hand(hangs) for _ in range(number)]
        self.broadcasts = SimpleNamespace(write=lambda messages: Place(0, 0))

    def __len__(self) -> int:
        return len(self.hands)

    def __getitem__(self, number: int) -> Hand:
        return self.hands[number]

    def end(self, number: int) -> None:
        self.hands[number] = Hand(self.hangs)


def replies(homes: Mapping[str, int], hangs: str, folder: Path) -> dict[str, Any]:
    """What comes of one phase with 0.2 s for a site."""
    store = SimpleNamespace(rewind=lambda round: None)
    make_client: Any = SimpleNamespace(store=lambda site: store, folder=folder)
    crew: Any = Hands(max(homes.values()) + 1, frozenset(hangs.split()))
    desk = Desk(crew, make_client, dict.fromkeys(homes, 0), lambda *progress: None, 0.2, retries=0)
    message: Any = SimpleNamespace(round=1)
    return {job.site: desk.reply(job) for job in desk.put("fit", dict.fromkeys(homes, message), homes)}


def test_a_site_that_waits_for_the_worker_of_one_that_hangs_is_worked_on_all_the_same(tmp_path: Path) -> None:
    found = replies({"site1": 0, "site2": 1, "site3": 0, "site4": 0}, "site1", tmp_path)
    assert found.pop("site1") == SiteFailure("site1", 1, "fit", "late", "no answer within 0.2 s")
    assert found == {"site2": "site2", "site3": "site3", "site4": "site4"}


def test_every_site_that_hangs_is_late_for_itself(tmp_path: Path) -> None:
    found = replies({"site1": 0, "site2": 0, "site3": 0}, "site1 site2", tmp_path)
    assert [getattr(found[site], "kind", found[site]) for site in found] == ["late", "late", "site3"]
