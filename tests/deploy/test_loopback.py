"""The whole of it for real: a SuperLink and four SuperNodes on this machine, with TLS and authentication."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedlight.checkpoint import RunFolder
from fedlight.cli import run
from fedlight.deploy import certificates
from fedlight.state import digest
from tests.deploy.consortium import HELD_OUT, TRAINING, change, write_config, write_data

pytestmark = pytest.mark.slow

PATIENCE = 600.0
"""Seconds after which something that should happen will not; a machine may be busy."""


def fedlight(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedlight", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **more)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(happened: Callable[[], Any], what: str) -> Any:
    """Returns the first true value; says what did not happen."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := happened():
            return value
        time.sleep(0.2)
    raise TimeoutError(what)


class Started:
    """A program with a process group of its own, ended with all that it started."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("ab") as file:
            command = [sys.executable, "-m", "fedlight", *arguments]
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)

    def end(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def serving(kit: Path, log: str) -> Started:
    """Starts the server of a kit and waits until nodes may connect."""
    server = Started(kit / log, "deploy", "serve", str(kit / "server"))
    wait_for(lambda: server.process.poll() is not None or "nodes may connect" in server.log.read_text(), "the server")
    return server


@contextmanager
def running(kit: Path, *sites: str, wait: str = "30") -> Iterator[dict[str, Started]]:
    """Starts the server of a kit and the nodes of some sites, for a block."""
    with ExitStack() as stack:
        started = {"server": serving(kit, "server.log")}
        stack.callback(lambda: started["server"].end())
        for site in sites:
            started[site] = Started(kit / f"{site}.log", "deploy", "node", str(kit / "sites" / site), "--wait", wait)
            stack.callback(started[site].end)
        for site in sites:
            stack.callback(end_worker, kit, site)
        yield started


def worker(kit: Path, site: str) -> int | None:
    where = kit / "sites" / site / "state" / "worker.json"
    return int(json.loads(where.read_text())["pid"]) if where.is_file() else None


def end_worker(kit: Path, site: str) -> None:
    """It ends by itself when its SuperNode does; here nothing is left to chance."""
    pid = worker(kit, site)
    if pid is not None and "deploy" in _command(pid):
        os.killpg(pid, signal.SIGKILL)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    write_data(tmp_path / "data")
    config = write_config(tmp_path / "run.yaml", tmp_path / "data", min_sites=2, evaluate_every=2)
    port, *others = free_ports(5)
    assert run(["deploy", "init", str(tmp_path / "kit"), "-c", str(config), "--port", str(port)]) == 0
    for site, other in zip((*TRAINING, HELD_OUT), others, strict=True):
        path = tmp_path / "kit" / "sites" / site / "site.yaml"
        connection = yaml.safe_load(path.read_text())["connection"]
        change(path, connection={**connection, "port": other})
    return tmp_path / "kit"


def go_by_the_clock(kit: Path) -> None:
    """Agrees on a version of two updates, and on a leeds that takes two minutes."""
    slow = {"class_path": "Slow", "init_args": {"seconds": {"leeds": 2.0}, "folder": str(kit.parent)}}
    buffered = {"class_path": "Buffered", "init_args": {"buffer": 2, "clock": "real"}}
    for folder in (kit / "server", *(kit / "sites").iterdir()):
        plain = yaml.safe_load((folder / "run.yaml").read_text())
        plain["load"] = [str(Path(__file__).parents[1] / "executors" / "faulty.py")]
        plain["federation"] |= {"schedule": buffered, "plugins": [slow], "local_steps": 60, "rounds": 1}
        if folder.name == "server":
            plain["federation"]["executor"]["init_args"]["lease"] = 2.0
        (folder / "run.yaml").write_text(yaml.safe_dump(plain))


def bits(folder: Path) -> tuple[int, str]:
    saved = RunFolder(folder).load()
    assert saved is not None
    return saved["server"]["round"], digest({**saved["server"]["params"], **saved["server"]["buffers"]})


def test_four_nodes_with_tls_and_keys_give_the_bits_of_one_process(kit: Path) -> None:
    """One thing after the other, as starting the programs is what takes long."""
    server, folder = str(kit / "server"), kit / "server" / "runs" / "run"
    reference = kit.parent / "reference"
    assert run(["fit", "-c", str(kit.parent / "run.yaml"), "--federation.run_folder", str(reference)]) == 0
    with running(kit, *TRAINING, HELD_OUT) as started:
        checked = fedlight("deploy", "check", server)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "4 of 4 nodes are ready" in checked.stdout
        warm = {site: worker(kit, site) for site in TRAINING}

        trained = fedlight("deploy", "run", server)
        assert trained.returncode == 0, trained.stdout + trained.stderr
        assert bits(folder) == bits(reference)
        assert {site: worker(kit, site) for site in TRAINING} == warm

        tested = fedlight("deploy", "run", server, "test")
        assert tested.returncode == 0, tested.stdout + tested.stderr
        assert f"{HELD_OUT} (held-out)" in tested.stdout

        # a run that failed has the exit code of its command; `flwr run` has 0
        mistaken = fedlight("deploy", "run", server, "fit", "--federation.local_steps", "9")
        assert mistaken.returncode == 2, mistaken.stdout + mistaken.stderr
        assert "a run goes on with the config that it was started with" in mistaken.stdout

        # a server that was killed and a site's process that was are replaced, and the run goes on where it was
        os.killpg(warm["osaka"] or 0, signal.SIGKILL)
        started["server"].kill()
        started["server"] = serving(kit, "server-again.log")
        more = fedlight("deploy", "run", server, "fit", "--federation.rounds", "3")
        assert more.returncode == 0, more.stdout + more.stderr
        assert bits(folder)[0] == 3
        assert worker(kit, "osaka") != warm["osaka"]

        # and it ends with its SuperNode
        started["leeds"].end()
        pid = warm["leeds"] or 0
        wait_for(lambda: "worker" not in _command(pid), "the end of the site's process after that of its SuperNode")


@pytest.mark.exhaustive
def test_by_the_real_clock_a_version_does_not_wait_for_a_slow_site(kit: Path) -> None:
    """The site leeds says that it is at work, and is told to end."""
    go_by_the_clock(kit)
    with running(kit, *TRAINING, HELD_OUT):
        clocked = str(kit.parent / "clocked")
        versions = fedlight("deploy", "run", str(kit / "server"), "fit", "--federation.run_folder", clocked)
        assert versions.returncode == 0, versions.stdout + versions.stderr
        records = [json.loads(line) for line in Path(clocked, "metrics.jsonl").read_text().splitlines()]
        assert {row["site"] for row in records if row["kind"] == "fit"} == {"berlin", "osaka"}
        assert {row["site"] for row in records if row["kind"] == "val"} == set(TRAINING)


def test_a_node_whose_key_is_not_known_is_not_let_in(kit: Path) -> None:
    certificates.node(kit / "sites" / "leeds" / "node.key", kit / "sites" / "leeds" / "node.pub")
    with running(kit, "leeds", wait="1") as started:
        assert wait_for(lambda: started["leeds"].process.poll() is not None, "a refusal")
        assert started["leeds"].process.returncode != 0
