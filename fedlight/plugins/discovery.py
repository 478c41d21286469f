"""One door for every plugin: entry points of installed packages, and loose files.

A plugin is registered by being imported. The packages are those that declare an entry point of the group
``fedlight.plugins`` whose value is a module; fedlight's own algorithms come in the same way. A loose file is named
with ``--load`` or in the variable ``FEDLIGHT_PLUGINS``, which processes started from here inherit: they find the same
plugins by calling ``discover()`` before they read anything that names one.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from fedlight.messages import did_you_mean
from fedlight.plugins.card import Card, parse
from fedlight.plugins.plugin import Plugin

GROUP = "fedlight.plugins"
VARIABLE = "FEDLIGHT_PLUGINS"
BUNDLED = "fedlight_algorithms"
LOOSE = "fedlight_loaded"

_origins: dict[str, str] = {"fedlight": "fedlight"}
"""Module that came through the door -> whose it is."""


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One registered plugin.

    Attributes:
        kind: Its extension point: "aggregator", "client plugin", "style", "alignment", ...
        name: Bare class name, as configs use it.
        summary: First line of its docstring.
        papers: arXiv ids in its module's docstring, in order of appearance.
        origin: "fedlight", the name of another installed package, or the path of a loose file.
        card: Its module's docstring: idea, formula, cost, deviations.
        cls: The class.
    """

    kind: str
    name: str
    summary: str
    papers: tuple[str, ...]
    origin: str
    card: Card
    cls: type[Plugin]


def discover(load: Sequence[str | Path] = ()) -> None:
    """Imports every plugin there is; calling it again imports only what is new.

    Args:
        load: Loose files to import besides those of the environment.

    Raises:
        ValueError: If a loose file is missing or cannot be imported, or if two plugins have one name.
    """
    _mount_bundled()
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.value):
        _import_package(entry)
    from_environment = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    paths = list(dict.fromkeys(Path(path).resolve() for path in [*from_environment, *load]))
    for path in paths:
        _import_file(path)
    if paths:
        os.environ[VARIABLE] = os.pathsep.join(map(str, paths))
    registered()


def registered() -> list[PluginInfo]:
    """Lists the concrete plugins that came through the door, by kind and name.

    Classes that were defined elsewhere, in a notebook or a test, can be used as objects but are not listed.

    Raises:
        ValueError: If two of them have one name; configs could not tell them apart.
    """
    found: dict[str, PluginInfo] = {}
    for cls in dict.fromkeys(_concrete(Plugin)):  # a class with two bases comes by twice
        origin = _origin(cls)
        if origin is None:
            continue
        if cls.__name__ in found:
            files = " and ".join(sorted(inspect.getfile(each) for each in (cls, found[cls.__name__].cls)))
            raise ValueError(f"plugin names must differ, got {cls.__name__} in {files}. Rename one of them.")
        found[cls.__name__] = _describe(cls, origin)
    return sorted(found.values(), key=lambda info: (info.kind, info.name))


def find(name: str, kind: type[Plugin] = Plugin) -> PluginInfo:
    """Returns the registered plugin of a name.

    Args:
        name: Bare class name.
        kind: The abstract class that it must be a subclass of.

    Raises:
        ValueError: If there is none; the sentence lists the known names and the nearest.
    """
    known = {info.name: info for info in registered() if issubclass(info.cls, kind)}
    if name in known:
        return known[name]
    sentence = f"{kind.kind} must be one of {', '.join(known)}, got {name}. {did_you_mean(name, known)}"
    raise ValueError(sentence.rstrip())


# --- the three ways in ---------------------------------------------------------------------------------------------


def _mount_bundled() -> None:
    """Makes ``algorithms/`` importable in a clone that was not installed."""
    folder = Path(__file__).resolve().parents[2] / "algorithms"
    if BUNDLED not in sys.modules and find_spec(BUNDLED) is None and folder.is_dir():
        _execute(BUNDLED, folder / "__init__.py")
    if BUNDLED not in _origins and find_spec(BUNDLED) is not None:
        import_module(BUNDLED)
        _origins[BUNDLED] = "fedlight"


def _import_package(entry: EntryPoint) -> None:
    """Imports an installed package; a broken one is left out with one sentence, once."""
    if entry.module in _origins:
        return
    owner = entry.dist.name if entry.dist else entry.module
    _origins[entry.module] = owner
    try:
        import_module(entry.module)
    except Exception as error:  # whatever somebody else's code may raise
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"the plugins of {owner} are left out: {entry.module} fails with {reason}", stacklevel=2)


def _import_file(path: Path) -> None:
    """Imports a loose file under a name that pickles and spawned processes can use."""
    name = f"{LOOSE}.{path.stem}"
    if _origins.get(name) == str(path):
        return
    if name in _origins:
        raise ValueError(f"names of loose files must differ, got {_origins[name]} and {path}. Rename one of them.")
    if not path.is_file():
        raise ValueError(f"load must name plugin files that exist, got {path}. Check the path, also in {VARIABLE}.")
    sys.modules.setdefault(LOOSE, _package(LOOSE))
    try:
        _execute(name, path)
    except Exception as error:  # whatever somebody else's code may raise
        raise ValueError(f"plugin file {_place(error, path)} fails with {type(error).__name__}: {error}") from error
    _origins[name] = str(path)


def _execute(name: str, path: Path) -> None:
    folders = [str(path.parent)] if path.name == "__init__.py" else None
    spec = spec_from_file_location(name, path, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ValueError(f"plugin file must be Python source, got {path}. Give it the ending .py.")
    sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise


def _package(name: str) -> ModuleType:
    module = ModuleType(name, "Loose plugin files, by the stems of their names.")
    module.__path__ = []
    return module


def _place(error: Exception, path: Path) -> str:
    """Returns "file, line n" of the deepest line of a file that an error passed through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno},"
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"{path}, line {lines[-1]}," if lines else f"{path}"


# --- what is known about a class -----------------------------------------------------------------------------------


def _concrete(base: type[Plugin]) -> Iterator[type[Plugin]]:
    """Walks the classes under a base that can be named: no abstract, private, replaced or local ones."""
    for cls in dict.fromkeys(base.__subclasses__()):
        module = sys.modules.get(cls.__module__)
        named = getattr(module, cls.__name__, None) is cls and not cls.__name__.startswith("_")
        if named and not inspect.isabstract(cls) and not cls.__module__.startswith("fedlight.plugins."):
            yield cls
        yield from _concrete(cls)


def _origin(cls: type[Plugin]) -> str | None:
    """Says who brought a class: the owner of its module or of a package above it, or who else offers it by name."""
    module = cls.__module__
    while module not in _origins and "." in module:
        module = module.rpartition(".")[0]
    offered = (each for each in _origins if getattr(sys.modules.get(each), cls.__name__, None) is cls)
    return _origins.get(module) or _origins.get(next(offered, ""))


def _describe(cls: type[Plugin], origin: str) -> PluginInfo:
    method = inspect.getdoc(sys.modules[cls.__module__]) or ""
    card = parse(method)
    return PluginInfo(
        kind=cls.kind,
        name=cls.__name__,
        summary=inspect.cleandoc(cls.__doc__ or method).partition("\n")[0],
        papers=card.papers,
        origin=origin,
        card=card,
        cls=cls,
    )
