"""What editors and shells are told: the schema takes every config of ours, and the shell completes settings."""

from __future__ import annotations

import argparse
import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from fedlight.__main__ import HELP, main
from fedlight.assist.schema import schema
from fedlight.cli import FederatedCLI
from fedlight.commands import FEDERATED

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path for folder in (".", "algorithms", "datasets") for path in (ROOT / "configs" / folder).glob("*.yaml")
)


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema.Draft7Validator.check_schema(schema())
    return jsonschema.Draft7Validator(json.loads(json.dumps(schema())))


def as_json(config: Any) -> Any:
    """Keys of YAML that are numbers are text in JSON, as editors see them."""
    return json.loads(json.dumps(config))


def test_the_schema_takes_every_config_of_ours(validator: Any) -> None:
    wrong = {path.name: [each.message for each in validator.iter_errors(read(path))] for path in CONFIGS}
    assert {name: messages for name, messages in wrong.items() if messages} == {}


def read(path: Path) -> Any:
    return as_json(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("federation", {"rouns": 3}),
        ("federation", {"rounds": "many"}),
        ("federation", {"buffers": "sum"}),
        ("federation", {"aggregator": {"class_path": "FedAvgM", "init_args": {"momentun": 0.5}}}),
        ("federation", {"plugins": [{"class_path": "MixStyle", "init_args": {"p": "often"}}]}),
        ("data", {"class_path": "FolderSites", "init_args": {"root": "x", "imagesize": 3}}),
        ("trainer", {"max_epochs": 3}),
    ],
)
def test_the_schema_refuses_what_fit_refuses(validator: Any, group: str, change: dict[str, Any]) -> None:
    config = copy.deepcopy(read(ROOT / "configs" / "quickstart.yaml"))
    assert validator.is_valid(config)
    config[group] = {**config.get(group, {}), **change}
    assert not validator.is_valid(config)


def test_a_class_of_ones_own_is_not_refused(validator: Any) -> None:
    own = {"class_path": "my_package.Mine", "init_args": {"anything": 1}}
    assert validator.is_valid({"federation": {"aggregator": own, "plugins+": ["my_package.Mine"]}})


def test_settings_are_described_in_the_words_of_their_docstrings() -> None:
    settings = schema()["properties"]["federation"]["properties"]
    assert settings["rounds"]["description"] == "Number of rounds."
    assert settings["rounds"]["default"] == 10


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "fedlight config"
    assert main(["schema", "--load", "nowhere.py"]) == 2
    assert "nowhere.py" in capsys.readouterr().err


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=()
_shtab_fedlight; echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab")
    from fedlight.assist.completion import script
    from fedlight.commands import COMMANDS

    path = tmp_path_factory.mktemp("completion") / "fedlight.bash"
    path.write_text(script("bash", COMMANDS, FEDERATED))
    return path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["fedlight", "wat"], "watch"),
        (["fedlight", "fit", "--federation.evaluate"], "--federation.evaluate_every --federation.evaluate_sites"),
        (["fedlight", "fit", "--federation.buffers", ""], "average local recalibrate"),
        (["fedlight", "fit", "--federation.plugins+", "MixS"], "MixStyle"),
        (["fedlight", "runs", "--com"], "--compare"),
        (["fedlight", "test", "--tta", ""], "flips square"),
        (["fedlight", "data", "pr"], "prepare"),
        (["fedlight", "data", "--longest"], "--longest_side"),
    ],
)
def test_bash_completes_commands_settings_and_values(bash_script: Path, words: list[str], completed: str) -> None:
    command = ["bash", "-c", COMPLETE, "bash", str(bash_script), *words]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == completed


def completed_words(script: Path, variable: str) -> set[str]:
    (words,) = re.findall(rf"^_shtab_fedlight{variable}=\((.*)\)$", script.read_text(), re.MULTILINE)
    return set(words.replace("'", "").split())


def test_every_command_of_the_help_is_completed(bash_script: Path) -> None:
    helped = set(re.findall(r"^  (\w+)  +\w", HELP.split("\n\n")[2], re.MULTILINE))
    assert len(helped) > 15
    assert helped == completed_words(bash_script, "_subparsers")


class Parsed(Exception):
    """Ends a command as soon as its parser is there."""


@pytest.mark.parametrize("command", FEDERATED)
def test_every_option_of_a_command_s_parser_is_completed(bash_script: Path, command: str) -> None:
    class Cli(FederatedCLI):
        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            raise Parsed(parser)

    with pytest.raises(Parsed) as raised:
        Cli([command])
    (subcommands,) = [each for each in raised.value.args[0]._actions if isinstance(each, argparse._SubParsersAction)]
    options = {name for action in subcommands.choices[command]._actions for name in action.option_strings}
    own = {name for name in options if "." not in name or name.startswith("--federation.")}
    groups = {"--federation", "--trainer"}  # take a file of settings, which nobody writes
    missing = {name for name in own - groups if not name.endswith((".help", "+"))}
    assert missing - completed_words(bash_script, f"_{command}_option_strings") == set()


def test_the_parts_of_a_command_that_are_completed_are_those_that_it_has() -> None:
    from fedlight.assist.completion import PARTS
    from fedlight.commands import DATA
    from fedlight.deploy.command import USE

    assert PARTS["data"] == DATA
    assert re.findall(r"\w+", USE.partition("deploy ")[2].replace(" or ", " ")) == list(PARTS["deploy"])


def test_completion_without_shtab_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlight"])
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'fedlight[shell]'" in capsys.readouterr().err
