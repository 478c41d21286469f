"""Turns what a parser says about a mistake into one sentence with the value, the rule and the way out."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence


def nearest(name: str, known: Iterable[str]) -> str:
    """Offers the known names that are most like a name, or all of them where none is.

    >>> nearest("FedAvgN", ["FedAvg", "FedAvgM", "FedProx"])
    'Did you mean FedAvg or FedAvgM?'
    >>> nearest("x", ["FedAvg", "FedProx"])
    'Known are FedAvg, FedProx.'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known are {', '.join(names)}." if names else "Nothing is known there."


def parameters(classes: Iterable[type]) -> dict[str, list[str]]:
    """Maps the name of every class to the names of its constructor's parameters."""
    return {cls.__name__: [name for name in inspect.signature(cls).parameters if name != "self"] for cls in classes}


def explain(message: str, settings: Sequence[str], classes: Mapping[str, Sequence[str]]) -> str:
    """Says in one sentence what a config or a command line got wrong.

    Args:
        message: What the parser said.
        settings: Dotted names of all settings.
        classes: Names of the classes that a config may name, with their parameters.
    """
    text = " ".join(message.split())
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.+]+)'", text):
        return _unknown_setting(f"{found[1]}.{found[2]}", settings)
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", text):
        return _unknown_setting(found[1].lstrip("-").split("=")[0], settings)
    if found := re.search(r'Parser key "([\w.]+)": .*Expected a dot import path string: (\S+)', text):
        return f"{found[1]} must name a known class, got {found[2]}. {nearest(found[2].rsplit('.', 1)[-1], classes)}"
    if found := re.search(r"Option '([\w.+]+)' is not accepted", text):
        return _unknown_parameter(found[1], settings, classes)
    if found := re.search(r'Parser key "([\w.]+)": Expected a (.+?)\. Got value: (.*)', text):
        kind = found[2].replace("<class '", "").replace("'>", "")
        return f"{found[1]} must be of type {kind}, got {found[3]}. Write it as {kind}."
    if found := re.search(r"File does not exist: '?(.+?)'?$", text):
        return f"config must be a file that exists, got {found[1]}. Check the path."
    return text


def _unknown_setting(name: str, settings: Sequence[str]) -> str:
    return f"{name.rstrip('+')} is not a setting. {nearest(name.rstrip('+'), settings)}"


def _unknown_parameter(name: str, settings: Sequence[str], classes: Mapping[str, Sequence[str]]) -> str:
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
