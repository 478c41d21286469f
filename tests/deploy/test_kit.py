"""Kits: complete, for everybody only what is theirs, and true to what was configured."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from flwr.app import RecordDict
from flwr.cli.build import build_fab_from_disk

from fedlight.__main__ import main
from fedlight.cli import built, run
from fedlight.deploy.kit import Kit
from fedlight.deploy.light import light
from fedlight.deploy.node import DeployError, Node
from fedlight.deploy.processes import ServerFolder, supernode
from fedlight.deploy.server import check
from fedlight.parcel import wrap
from fedlight.preparation import ConfigError, check_same_config
from tests.deploy.consortium import HELD_OUT, TRAINING, change, connected, write_config, write_data


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    write_data(folder / "data")
    config = write_config(folder / "run.yaml", folder / "data")
    assert run(["deploy", "init", str(folder / "kit"), "-c", str(config), "--host", "fl.example.org"]) == 0
    return folder / "kit"


def test_every_site_gets_its_own_data_and_nobody_elses(kit: Path) -> None:
    for site in (*TRAINING, HELD_OUT):
        folder = kit / "sites" / site
        node, connection = Node.read(folder)
        assert (node.site, node.data) == (site, str(kit.parent / "data" / site))
        assert node.share_cases is False
        assert connection["superlink"] == "fl.example.org:9443"
        text = "".join(path.read_text() for path in folder.iterdir())
        assert not any(str(kit.parent / "data" / other) in text for other in {*TRAINING, HELD_OUT} - {site})
    server = "".join(path.read_text() for path in (kit / "server").rglob("*") if path.is_file())
    assert str(kit.parent / "data") not in server


def test_all_agree_and_the_server_alone_knows_who_trains(kit: Path) -> None:
    agreed = [yaml.safe_load((kit / "sites" / site / "run.yaml").read_text()) for site in (*TRAINING, HELD_OUT)]
    server = yaml.safe_load((kit / "server" / "run.yaml").read_text())
    assert server["federation"].pop("executor")["init_args"]["sites"] == list(TRAINING)
    for each in agreed:
        assert each == server
        assert not {"executor", "run_folder"} & set(each["federation"])  # nothing that is not used


def test_a_server_does_not_say_for_its_sites_that_they_share_cases(kit: Path) -> None:
    """Every site settles that itself, whatever the agreed config says; in one process the config settles it."""
    agreed = ["fit", "-c", str(kit / "sites" / "leeds" / "run.yaml")]
    assert built(agreed)[0].shares_cases
    assert not built(["fit", "-c", str(kit / "server" / "run.yaml")])[0].shares_cases


def test_keys_fit_each_other_and_are_readable_by_their_owners_alone(kit: Path) -> None:
    for site in (*TRAINING, HELD_OUT):
        path = kit / "sites" / site / "node.key"
        private = load_ssh_private_key(path.read_bytes(), None)
        assert private.public_key() == load_ssh_public_key((kit / "server" / "nodes" / f"{site}.pub").read_bytes())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in (kit / "authority" / "ca.key", kit / "server" / "certificates" / "server.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_server_is_vouched_for_by_the_authority_that_sites_know(kit: Path) -> None:
    authority = x509.load_pem_x509_certificate((kit / "sites" / "leeds" / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((kit / "server" / "certificates" / "server.crt").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "fl.example.org" in names.get_values_for_type(x509.DNSName)


def test_the_app_that_is_sent_to_sites_holds_no_setting_and_no_path(kit: Path) -> None:
    bundle = build_fab_from_disk(kit / "server" / "app")
    assert len(bundle) < 10_000
    assert str(kit).encode() not in bundle
    assert not any(site.encode() in bundle for site in TRAINING)


def test_scripts_are_executable_and_files_for_containers_are_valid(kit: Path) -> None:
    for folder in (kit / "server", *(kit / "sites").iterdir()):
        assert os.access(folder / "start.sh", os.X_OK)
        assert subprocess.run(["sh", "-n", str(folder / "start.sh")], check=False).returncode == 0
        assert set(yaml.safe_load((folder / "compose.yaml").read_text())) >= {"services"}
        for path in folder.iterdir():
            assert path.is_dir() or "{port}" not in path.read_text()


def test_calls_home_are_off_unless_asked_for(kit: Path, tmp_path: Path) -> None:
    node, connection = Node.read(kit / "sites" / "leeds")
    assert ServerFolder.read(kit / "server").environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert supernode(node, connection)[1]["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert "FLWR_TELEMETRY_ENABLED" not in supernode(node, {**connection, "telemetry": True})[1]


def test_what_a_supernode_is_told_comes_back_as_the_sites_own_settings(kit: Path) -> None:
    from flwr.common.config import parse_config_args

    node, connection = Node.read(kit / "sites" / "leeds")
    command, _ = supernode(node, connection)
    given = parse_config_args([command[command.index("--node-config") + 1]])
    assert Node.of(given) == node


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"site": "a"}, "a node needs its site and its folder"),
        ({"site": "a", "folder": "f", "root": "/"}, "a node has no setting root"),
        ({"site": "a", "folder": "f", "share-cases": "yes"}, "share_cases of a node must be bool, got 'yes'"),
        ({"site": "a", "folder": "f", "data": 3}, "data of a node must be str, got 3"),
    ],
)
def test_a_sites_mistakes_are_named(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DeployError, match=sentence):
        Node.of(settings)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["init", "{kit}", "-c", "{config}"], "a kit needs a folder of its own, got "),
        (["init", "{new}", "-c", "{config}", "--sites", "a/b"], "the name of a site must do as the name of a folder"),
        (["init", "{new}"], "the following arguments are required: -c/--config. See fedlight deploy init --help."),
        (["start"], "deploy has no command start. Take fedlight deploy init, check, serve, node or run."),
        ([], "deploy has no command (none)."),
    ],
)
def test_mistakes_of_init_are_named(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    names = {"{kit}": str(kit), "{config}": str(kit.parent / "run.yaml"), "{new}": str(tmp_path / "new")}
    assert run(["deploy", *(names.get(each, each) for each in arguments)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("remote", "anew"), [(True, "with fedlight deploy run DIR fit --ckpt_path null"), (False, "")])
def test_a_run_of_a_kit_that_cannot_go_on_says_how_another_begins(remote: bool, anew: str) -> None:
    """A deployment goes on with a run by itself; who has not asked for that cannot leave ckpt_path out."""
    sentence = re.escape(f"or start a new run {anew or 'without ckpt_path'}.")
    with pytest.raises(ConfigError, match=sentence):
        check_same_config({"federation": {"local_steps": 1}}, {"federation": {"local_steps": 3}}, 1, remote)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--help"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if "  fedlight" in line] == [
        "init",
        "check",
        "serve",
        "node",
        "run",
    ]


def test_a_program_that_is_not_installed_is_all_that_is_said(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(kit / "python"))
    with pytest.raises(DeployError, match=r"^flower-supernode is not installed in this environment\."):
        supernode(*Node.read(kit / "sites" / "leeds"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"port": 99999}, "port must be in [1, 65535], got 99999."),
        ({"port": 0}, "port must be in [1, 65535], got 0."),
        ({"deadline": -1.0}, "deadline must be seconds above 0, got -1."),
        ({"deadline": float("nan")}, "deadline must be seconds above 0, got nan."),
        ({"host": "https://a b"}, "host must be a name or an address, without scheme and port, got 'https://a b'."),
        ({"host": "a:80"}, "host must be a name or an address, without scheme and port, got 'a:80'."),
        ({"sites": ["leeds", "leeds"]}, "a site must be named once, got leeds 2 times."),
        ({"sites": []}, "a kit must have a site that trains, got none."),
    ],
)
def test_a_kit_that_cannot_work_is_not_written(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    good = {"folder": tmp_path / "kit", "config": {}, "sites": ["leeds"], "held_out": [], "data": {}}
    good |= {"host": "::1", "port": 1, "deadline": 1.0}
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}"):
        Kit(**{**good, **settings}).write()
    assert not (tmp_path / "kit").exists()


def test_a_site_that_synthetic_data_do_not_have_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "data": {"class_path": "SyntheticSites", "init_args": {"num_sites": 2, "image_size": 16, "cases": 6}},
                "model": {"class_path": "SegmentationTask", "init_args": {"encoder": "plain-8"}},
            }
        )
    )
    assert run(["deploy", "init", str(tmp_path / "kit"), "-c", str(config), "--sites", "site1", "siteX"]) == 2
    assert "sites must be among site1, site2, got siteX." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["run", "{kit}/nowhere"], 2, "server.yaml must hold host and port (FileNotFoundError"),
        (["run", "{kit}/server", "train"], 2, "invalid choice: 'train'"),
        (["node", "{kit}/nowhere"], 2, "site.yaml must be a file that can be read"),
        (["node", "{kit}/server"], 2, "a site's folder is needed, got {kit}/server, which is a server's."),
        (["run", "{kit}/sites/leeds"], 2, "a server's folder is needed, got {kit}/sites/leeds, which is a site's."),
        (["serve", "{kit}"], 2, "which is the whole kit. Name {kit}/server, or a site's like {kit}/sites/berlin."),
        (
            ["check", "{kit}/server", "--wait", "soon"],
            2,
            "--wait must be seconds above 0, got soon. For a minute, use 60.",
        ),
        (["serve"], 2, "the following arguments are required: folder. See fedlight deploy serve --help."),
    ],
)
def test_mistakes_of_the_others_are_named(
    kit: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    assert light([each.replace("{kit}", str(kit)) for each in arguments]) == code
    assert sentence.replace("{kit}", str(kit)) in capsys.readouterr().err


def test_a_site_is_checked_before_it_is_started(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data and settings are looked at, and the server is missed: 1. Data that is not there is a mistake: 2."""
    folder = tmp_path / "leeds"
    shutil.copytree(kit / "sites" / "leeds", folder)
    connection = {"superlink": "localhost:9", "certificate": "ca.crt", "key": "node.key"}
    change(folder / "site.yaml", connection=connection)
    assert run(["deploy", "check", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "leeds: data and settings work; 5 training cases" in said
    assert "leeds: the server at localhost:9 cannot be reached" in said
    change(folder / "site.yaml", data=str(tmp_path))
    assert run(["deploy", "check", str(folder)]) == 2
    assert "site leeds: no image in leeds/images" in capsys.readouterr().err


def test_nodes_are_named_as_they_answer_and_the_missing_one_with_what_it_is_for(
    kit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who is awaited is printed before anybody is asked. Lima, which is held out, is missing."""
    said = []

    def answers(fields: dict[str, Any], block: bytes) -> RecordDict:
        said.append(capsys.readouterr().out)
        return wrap({"num_samples": 5, "problem": "", "versions": "torch 2"})

    with connected(kit, **dict.fromkeys((*TRAINING, HELD_OUT), answers)) as wires:
        wires.absent = {HELD_OUT}
        assert check(built(["fit", "-c", str(kit / "server" / "run.yaml")]), wait=0.5) == 1
    assert said[0] == f"waiting up to 0.5 s for {', '.join((*TRAINING, HELD_OUT))}\n"
    last = capsys.readouterr().out
    assert "leeds: ready; 5 training cases; torch 2\n" in last
    missing = f"{HELD_OUT}: not connected within 0.5 s (held out: training can do without it, test cannot score it)"
    assert last.endswith(f"{missing}\n3 of 4 nodes are ready\n")


def test_without_the_extra_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("light", "command"):
        monkeypatch.setattr(f"fedlight.deploy.{module}.find_spec", lambda name: None)
    assert light(["serve", "x"]) == 2
    assert run(["deploy", "init", "x"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert line.endswith("Get it with: pip install 'fedlight[flower]'.")


@pytest.mark.slow
def test_what_runs_for_every_message_and_what_only_starts_programs_needs_no_torch() -> None:
    modules = "fedlight.deploy.light, fedlight.deploy.relay, fedlight.deploy.processes"
    program = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
