"""The process of a site that stays warm between messages, and what passes messages on to it."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from fedlight.cli import run
from fedlight.deploy.node import Node
from fedlight.deploy.relay import answer, started, state
from fedlight.deploy.worker import Job, Reception
from fedlight.parcel import unwrap, wrap
from fedlight.processes import end_group
from fedlight.update import SiteFailure
from fedlight.wire import decode
from tests.deploy.consortium import write_config, write_data


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A site of a kit; its process is ended with the test."""
    write_data(tmp_path / "data")
    config = write_config(tmp_path / "run.yaml", tmp_path / "data")
    assert run(["deploy", "init", str(tmp_path / "kit"), "-c", str(config)]) == 0
    made, _ = Node.read(tmp_path / "kit" / "sites" / "leeds")
    yield made
    while started:
        process = started.pop()
        end_group(process.pid)
        process.wait()


def said(node: Node, **fields: Any) -> Any:
    """What a site answers: fields, or what is in its message."""
    content = answer(wrap({"site": node.site, "seconds": 300, **fields}), node.plain())
    back, block = unwrap(content)
    return decode(block) if block else back


def pid(node: Node) -> int:
    return int(json.loads((state(Path(node.folder)) / "worker.json").read_text())["pid"])


@pytest.mark.slow
def test_a_sites_process_stays_warm_and_is_ended_and_replaced_where_it_is_late(node: Node) -> None:
    """One test, as starting the process is what takes long."""
    agreement = json.dumps({})
    first = said(node, phase="hello", agreement=agreement)
    assert first["num_samples"] == 5
    assert first["problem"].startswith("fedlight is ")
    warm = pid(node)
    assert warm != os.getpid()
    refused = said(node, phase="fit", agreement=agreement)
    assert isinstance(refused, SiteFailure)
    assert refused.kind == "refused"
    assert pid(node) == warm

    where = json.loads((state(Path(node.folder)) / "worker.json").read_text())
    with pytest.raises((AuthenticationError, OSError, EOFError)):
        Client(("127.0.0.1", where["port"]), authkey=b"guessed").close()
    assert pid(node) == warm

    late = said(node, phase="fit", agreement=agreement, seconds=0)
    assert (late.kind, late.reason) == ("late", "it worked longer than 0 s and was ended")
    assert started[0].wait(60) == -signal.SIGKILL
    assert said(node, phase="hello", agreement=agreement)["num_samples"] == 5
    assert pid(node) != warm


def test_work_goes_on_while_nobody_waits_until_it_is_asked_for_or_stopped(node: Node) -> None:
    """With a lease of no time at all; what works here is a thread of the test."""
    reception = Reception()

    def ask(phase: str, lease: float | None = 0.0) -> Any:
        fields, block = reception.answer(node, {"phase": phase} | ({} if lease is None else {"lease": lease}), b"")
        return decode(block) if block else fields

    def work(job: Job) -> None:
        job.stopping.wait(0.2)
        job.answer = {"stopped": job.stopping.is_set()}, b""
        job.done.set()

    assert ask("wait").reason == "the site's process ended while it was at work"
    assert ask("fit") == {"at_work": True}
    assert ask("wait") == {"at_work": True}
    threading.Thread(target=work, args=[reception.jobs.get()]).start()
    assert ask("wait", lease=60.0) == {"stopped": False}
    assert ask("wait").kind == "lost"

    assert ask("fit") == {"at_work": True}
    job = reception.jobs.get()
    threading.Thread(target=work, args=[job]).start()
    ask("stop")
    assert job.answer[0] == {"stopped": True}
    assert reception.at_work is None


def test_what_a_site_keeps_is_its_owners_alone(node: Node) -> None:
    from fedlight.deploy.relay import secret

    assert len(secret(Path(node.folder))) == 32
    assert secret(Path(node.folder)) == secret(Path(node.folder))
    assert stat.S_IMODE((state(Path(node.folder)) / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(state(Path(node.folder)).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (wrap({"site": "berlin", "phase": "fit"}), "this node is not berlin"),
        (RecordDict(), "the message holds no parcel of fedlight's"),
    ],
)
def test_a_message_that_is_not_for_this_site_is_refused_without_a_process(
    node: Node, content: RecordDict, reason: str
) -> None:
    failure = decode(unwrap(answer(content, node.plain()))[1])
    assert isinstance(failure, SiteFailure)
    assert (failure.kind, failure.reason) == ("refused", reason)
    assert not (Path(node.folder) / "state" / "worker.json").exists()


def test_a_node_with_wrong_settings_says_so_before_the_first_round(node: Node) -> None:
    fields, _ = unwrap(answer(wrap({"site": "leeds", "phase": "hello"}), {"site": "leeds"}))
    assert fields["problem"] == "its settings are wrong"
