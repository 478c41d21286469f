"""Turns what a parser says about a mistake into one sentence with the value, the rule and the way out."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence

Classes = Mapping[str, Sequence[str]]
"""Names of classes, with the names of their constructors' parameters."""

DECIDED_BY_FEDERATION = {
    "max_epochs": "set federation.local_epochs",
    "min_epochs": "set federation.local_epochs",
    "max_steps": "set federation.local_steps",
    "min_steps": "set federation.local_steps",
    "logger": "add to federation.trackers, for instance WandbTracker",
    "devices": "a client trains on one device; choose its kind with trainer.accelerator",
    "num_nodes": "a client trains on one device; choose its kind with trainer.accelerator",
    "default_root_dir": "set federation.run_folder",
    "enable_checkpointing": "the run folder has the checkpoints",
    "enable_progress_bar": "the federation reports progress",
    "check_val_every_n_epoch": "set federation.evaluate_every",
    "val_check_interval": "set federation.evaluate_every",
}
"""Trainer arguments that a client must not choose for itself, and where the choice is made."""

MADE_BY_COMMANDS = {"Flower": "fedlight deploy init writes folders for server and sites in which it is set."}
"""Classes that a person does not write into a config, and what does."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Offers the known names that are most like a name, with a space behind; nothing where none is.

    >>> did_you_mean("drvie", ["drive", "chase"]), did_you_mean("drvie", ["chase"])
    ('Did you mean drive? ', '')
    """
    return _offer(_alike(name, known, least=0.6))


def nearest(name: str, known: Iterable[str]) -> str:
    """Offers the known names that are most like a dotted name, or all of them where none is and they are few.

    >>> nearest("FedAvgN", ["FedAvg", "FedAvgM", "FedProx"])
    'Did you mean FedAvg or FedAvgM?'
    >>> nearest("rounds", ["federation.rounds", "data.root"])
    'Did you mean federation.rounds?'
    >>> nearest("x", ["FedAvg", "FedProx"])
    'Known are FedAvg, FedProx.'
    """
    names = sorted(set(known))
    last = {candidate.rpartition(".")[2]: candidate for candidate in reversed(names)}
    close = _alike(name, names, least=0.75) or [last[part] for part in _alike(name.rpartition(".")[2], last, least=0.6)]
    if close:
        return _offer(close).rstrip()
    return f"Known are {', '.join(names)}." if 0 < len(names) <= 20 else "See fedlight fit --help."


def _alike(name: str, known: Iterable[str], least: float) -> list[str]:
    """Returns the one or two names that are most like a name, upper and lower case alike; ``least`` is a likeness."""
    lower = {candidate.lower(): candidate for candidate in known}
    return [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=least)]


def _offer(names: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(names)}? " if names else ""


def parameters(classes: Iterable[type]) -> dict[str, list[str]]:
    """Maps the name of every class to the names of its constructor's parameters."""
    return {cls.__name__: [name for name in inspect.signature(cls).parameters if name != "self"] for cls in classes}


def explain(message: str, settings: Sequence[str], classes: Mapping[str, Classes]) -> str:
    """Says in one sentence what a config or a command line got wrong.

    A setting that holds a class is parsed by a parser of its own, whose sentence comes wrapped in the outer
    parser's; the innermost is kept, under the whole dotted name.

    Args:
        message: What the parser said.
        settings: Dotted names of all settings.
        classes: For every setting that names a class: the names it may take, with their parameters.
    """
    text = " ".join(message.split())
    if found := re.search(r"(?:Group '([\w.]+)'|Subcommand '\w+') does not accept option '([\w.+]+)'", text):
        return unknown_setting(".".join(filter(None, found.groups())), settings)
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", text):
        return unknown_setting(found[1].lstrip("-").split("=")[0], settings)
    *outer, reason = re.split(r'Parser key "([\w.]+)": ', text)
    setting = ".".join(outer[1::2])
    if found := re.search(r"(?:^|Errors: - )([\w.+]+ (?:must|is not an argument) .*?)(?: - Expected|$)", reason):
        return f"{setting}.{found[1]}" if setting else found[1]
    if found := re.search(r"Option '([\w.+]+)' is not accepted", reason):
        every = {name: parameters for known in classes.values() for name, parameters in known.items()}
        return _unknown_parameter(found[1], settings, every)
    if found := re.search(r"File does not exist: '?(.+?)'?$", reason):
        return f"config must be a file that exists, got {found[1]}. Check the path."
    if found := re.search(r"the following arguments are required: (\w+)\.data", reason):
        return _no_data(found[1])
    if found := re.search(r"the following arguments are required: (.*)", reason):
        names = [name.rpartition(".")[2] for name in found[1].split(", ")]
        return f"{' and '.join(f'--{name}' for name in names)} must be given, got nothing."
    return _wrong_value(setting, reason, classes.get(setting.rpartition(".")[2], {})) or text


def _wrong_value(setting: str, reason: str, known: Classes) -> str | None:
    """Says what is wrong with the value of a setting, from what the parser says about it; None if that is unknown."""
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", reason):
        return f"{setting} must name a known class, got {found[1]}.{found[2]}. {nearest(found[2], known)}"
    if known and (found := re.search(r"Expected a dot import path string: (\S+)", reason)):
        return f"{setting} must name a known class, got {found[1]}. {nearest(found[1].rpartition('.')[2], known)}"
    if found := re.search(r"collections\.abc\.Sequence.*Got value: (\S+)", reason):
        return f"{setting} must be a list, got {found[1]}. To add to it, write --{setting}+={found[1]}."
    if choices := re.findall(r"typing\.Literal\[([^\]]*)\]", reason):
        return _wrong_choice(setting, reason, choices)
    if found := re.search(r"is abstract .*Given value: NestedArg\(key='(\w+)', val='?(.*?)'?\)", reason):
        return _no_class(setting, found[1], found[2], known)
    if found := re.search(r"Errors: - --(\w+).* must be given, got nothing.*class_path='([\w.]+)'", reason):
        return _no_argument(setting, found[1], found[2].rpartition(".")[2])
    if found := re.search(r"Subtypes: \[(.*?)\] Errors: .*? Given value: (.*?)(?: - Expected|$)", reason):
        return _wrong_type(setting, _kinds(found[1]), found[2])
    if found := re.search(r"Expected a (.+?)\. Got value: (.*)", reason):
        return _wrong_type(setting, _kinds(found[1]), found[2])
    return None


def _no_class(setting: str, argument: str, value: str, known: Classes) -> str:
    """An argument of a class where none is named: the default, if there is one, does not take arguments."""
    takers = [name for name, arguments in known.items() if argument in arguments]
    way = f"Write --{setting} {' or '.join(takers)} before it." if takers else f"Known are {', '.join(known)}."
    return f"{setting} must name a class that takes {argument}, got {argument} {value} and no class. {way}"


def _no_argument(setting: str, argument: str, cls: str) -> str:
    """A class without an argument that it cannot do without."""
    way = MADE_BY_COMMANDS.get(cls, f"Add --{setting}.{argument}.")
    return f"{setting} must have {argument} for {cls}, got nothing. {way}"


def _kinds(types: str) -> list[str]:
    """Says types as a person would write them, without the null that leaves a setting out.

    >>> _kinds("tuple[int, int], <class 'int'>, <class 'NoneType'>"), _kinds("<class 'float'>")
    (['list', 'int'], ['float'])
    """
    plain = re.sub(r"\b(?:list|tuple)\[[^\]]*\]", "list", types)
    names = [name.strip().removeprefix("<class '").removesuffix("'>") for name in plain.split(",")]
    return [name.rpartition(".")[2] for name in names if name != "NoneType"]


def _wrong_type(setting: str, kinds: Sequence[str], value: str) -> str:
    simple = [kind for kind in kinds if kind != "list"]
    if {"int", "float"} & set(simple) and re.fullmatch(r"[+-]?(nan|inf|infinity)", value, re.IGNORECASE):
        return f"{setting} must be a number, got {value}. Write it in digits."
    if not simple:
        return f"{setting} must be a list, got {value}. Write [{value}]."
    return f"{setting} must be of type {' or '.join(kinds)}, got {value}. Write it as {simple[0]}."


def unknown_setting(name: str, settings: Sequence[str]) -> str:
    """Says that there is no setting of a name, and which there are that look like it."""
    name = name.rstrip("+")
    group, _, last = name.rpartition(".")
    if group == "trainer" and last in DECIDED_BY_FEDERATION:
        return f"{name} is not a client's to decide: {DECIDED_BY_FEDERATION[last]}."
    first, groups = name.partition(".")[0], {known.partition(".")[0] for known in settings}
    if first != name and first not in groups:
        return f"{first} is not a setting. {nearest(first, groups)}"
    return f"{name} is not a setting. {nearest(name, settings)}"


def _unknown_parameter(name: str, settings: Sequence[str], classes: Classes) -> str:
    """An argument of a class that does not take it; the parser does not say which class."""
    owners = {
        parameter: [owner for owner, parameters in classes.items() if parameter in parameters]
        for names in classes.values()
        for parameter in names
    }
    close = difflib.get_close_matches(name, owners, n=2, cutoff=0.6)
    offers = [f"{parameter} (of {', '.join(owners[parameter][:3])})" for parameter in close]
    hint = f"Did you mean {' or '.join(offers)}?" if offers else nearest(name, settings)
    return f"{name} is not an argument of the class that it was given to. {hint}"


def _wrong_choice(setting: str, reason: str, choices: Sequence[str]) -> str:
    value = re.search(r"(?:Given value|Got value): (.*?)\.?$", reason)
    names = dict.fromkeys(part.strip().strip("'\"") for choice in choices for part in choice.split(","))
    got = f", got {value[1]}" if value else ""
    return f"{setting} must be one of {', '.join(names)}{got}. Choose one of these."


def _no_data(command: str) -> str:
    if command == "fit":
        return "data must be given, got nothing. Name a config, for instance -c configs/quickstart.yaml."
    return f"{command} needs a trained run, got nothing. Name its folder: fedlight {command} --run RUN."
