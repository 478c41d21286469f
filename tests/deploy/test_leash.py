"""Programs on a leash: they end with whoever started them, by whatever means, and so does what they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlight.deploy.node import DeployError, Node
from fedlight.deploy.processes import FlowerError, attend, check_port

PROGRAM = """
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
started = subprocess.Popen([sys.executable, "-c", child], start_new_session="apart" in sys.argv)
open(sys.argv[1], "w").write(str(started.pid))
time.sleep(600)
"""

STARTER = """
import sys
from fedlight.deploy.leash import leashed
with leashed(sys.argv[1:], {}) as started:
    started.process.wait()
"""

SUPERNODE = """
import pathlib, sys
tries = pathlib.Path(sys.argv[1])
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if len(tries.read_text()) < int(sys.argv[2]):
    sys.exit("Exit Code: 305 [code: 2004] Failed to activate SuperNode.")
"""


def eventually(happened: Callable[[], object]) -> bool:
    limit = time.monotonic() + 60
    while not happened() and time.monotonic() < limit:
        time.sleep(0.05)
    return bool(happened())


def lives(pid: int) -> bool:
    """Zombies do not: who reaps them is not ours to say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(("number", "how"), [(signal.SIGKILL, "apart"), (signal.SIGINT, "together")])
def test_what_a_program_started_ends_with_whoever_started_the_program(
    tmp_path: Path, number: signal.Signals, how: str
) -> None:
    """Also what leads a process group of its own, as Flower's SuperExec does."""
    program, said = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(PROGRAM)
    command = [sys.executable, "-c", STARTER, str(program), str(said), how]
    starter = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert eventually(lambda: said.is_file() and said.read_text())
    child = int(said.read_text())
    assert lives(child)
    os.kill(starter.pid, number)
    starter.wait(60)
    assert eventually(lambda: not lives(child))


def test_a_port_that_is_taken_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlight.deploy.processes._FREED", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(DeployError, match=f"port {port} must be free, but another program listens on it"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_an_address_that_is_not_this_machines_is_one_sentence() -> None:
    """192.0.2.1 is for documentation alone (RFC 5737)."""
    with pytest.raises(DeployError, match=r"must be able to listen on 192\.0\.2\.1, port 9443, got: "):
        check_port("192.0.2.1", 9443)


@pytest.fixture
def supernode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Replaces Flower's SuperNode by a program that is let in at one of its tries, and writes how many there were."""
    monkeypatch.setattr("fedlight.deploy.processes._AGAIN", 0.0)

    def replaced(at: int) -> Path:
        program, tries = tmp_path / "program.py", tmp_path / "tries"
        program.write_text(SUPERNODE)
        command = [str(program), str(tries), str(at)]
        monkeypatch.setattr("fedlight.deploy.processes.supernode", lambda node, connection: (command, {}))
        return tries

    return replaced


def test_a_node_that_is_not_let_in_yet_says_so_and_tries_again(
    supernode: Callable[[int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tries = supernode(2)
    assert attend(Node("leeds", "f"), {"superlink": "fl:1"}, 30) == 0
    assert tries.read_text() == "xx"
    said = capsys.readouterr().err
    assert "Failed to activate SuperNode." in said
    assert "fedlight: the server does not know the key of leeds (yet)" in said


def test_a_node_that_is_never_let_in_ends_with_a_way_out(
    supernode: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = supernode(9)
    with pytest.raises(FlowerError, match=r"Put its public key into the server's nodes/leeds\.pub"):
        attend(Node("leeds", "f"), {"superlink": "fl:1"}, -1)
    assert tries.read_text() == "x"
