"""What a site settles for itself: its name, where its data lies, what may leave it; nothing comes from a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

RUN, SITE, SERVER = "run.yaml", "site.yaml", "server.yaml"


class DeployError(ValueError):
    """A folder or a setting of a deployment that cannot work: one sentence."""


def check_folder(folder: Path, file: str) -> None:
    """Checks that a folder is not another one of a kit than the one that is needed.

    Args:
        folder: The folder that was named.
        file: What it must hold: that of a site or of a server.

    Raises:
        DeployError: If it is the kit itself, or a server's in place of a site's or the other way round.
    """
    if (folder / file).is_file():
        return
    if (folder / "server" / SERVER).is_file():
        site = next(iter(sorted((folder / "sites").glob("*"))), folder / "sites" / "SITE")
        raise DeployError(
            f"a folder of a server or a site is needed, got {folder}, which is the whole kit. "
            f"Name {folder / 'server'}, or a site's like {site}."
        )
    if (folder / SERVER).is_file():
        raise DeployError(f"a site's folder is needed, got {folder}, which is a server's. Name one of the kit's sites.")
    if (folder / SITE).is_file():
        raise DeployError(f"a server's folder is needed, got {folder}, which is a site's. Name the kit's server.")


@dataclass(frozen=True, slots=True)
class Node:
    """A site's own settings.

    Attributes:
        site: Name of the site.
        folder: The site's own folder: the agreed ``run.yaml``, and ``state/`` with what it keeps between rounds.
        data: Folder with ``images`` and ``masks``; empty where the kind of data needs none.
        share_cases: Whether names and scores of single cases, and what errors say, may leave the site.
        accelerator: What the site computes with.
        num_workers: Processes that prepare batches; negative for what is agreed.
        splits: The site's own file of splits, if the config names one.
        idle: Seconds without a message after which the site's process ends.
    """

    site: str
    folder: str
    data: str = ""
    share_cases: bool = False
    accelerator: str = "auto"
    num_workers: int = -1
    splits: str = ""
    idle: float = 900.0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Node:
        """Reads what was given to a SuperNode as its ``--node-config``.

        Raises:
            DeployError: If a setting is missing, unknown or of the wrong type.
        """
        kinds = {"site": str, "folder": str, "data": str, "share_cases": bool, "accelerator": str}
        kinds |= {"num_workers": int, "splits": str, "idle": float}
        given = {name.replace("-", "_"): value for name, value in settings.items()}
        given = {name: float(value) if name == "idle" else value for name, value in given.items()}
        for name, value in given.items():
            if name not in kinds:
                raise DeployError(f"a node has no setting {name}. Known: {', '.join(kinds)}.")
            if type(value) is not kinds[name]:
                raise DeployError(f"{name} of a node must be {kinds[name].__name__}, got {value!r}.")
        if not given.get("site") or not given.get("folder"):
            raise DeployError("a node needs its site and its folder. Start it with fedlight deploy node FOLDER.")
        return cls(**given)

    @classmethod
    def read(cls, folder: Path) -> tuple[Node, dict[str, Any]]:
        """Reads ``site.yaml`` of a site's folder.

        Returns:
            The settings, and what is about connections: "superlink", "certificate", "key", "port".

        Raises:
            DeployError: If it is missing or cannot work.
        """
        check_folder(folder, SITE)
        path = folder / SITE
        try:
            plain = yaml.safe_load(path.read_text())
        except OSError as error:
            raise DeployError(
                f"{path} must be a file that can be read ({error.strerror}). Name a site's folder."
            ) from error
        except yaml.YAMLError as error:
            raise DeployError(f"{path} must be valid YAML ({' '.join(str(error).split())[:100]}).") from error
        if not isinstance(plain, dict):
            raise DeployError(f"{path} must hold settings (name: value).")
        connection = dict(plain.pop("connection", None) or {})
        given = {name: value for name, value in plain.items() if value is not None}
        for name in ("data", "splits"):
            if given.get(name):
                given[name] = str((folder / Path(given[name]).expanduser()).resolve())
        return cls.of({**given, "folder": str(folder.resolve())}), connection

    def plain(self) -> dict[str, Any]:
        """Returns the settings as plain values."""
        return asdict(self)

    def config(self) -> str:
        """Returns the settings as Flower's ``--node-config``."""

        def shown(value: object) -> str:
            if isinstance(value, bool):
                return str(value).lower()
            if isinstance(value, str) and ("'" in value or '"' in value or "\\" in value):
                raise DeployError(f"settings of a node must not hold quotes or backslashes, got {value}. Rename it.")
            return f'"{value}"' if isinstance(value, str) else str(value)

        pairs = (f"{name.replace('_', '-')}={shown(value)}" for name, value in self.plain().items() if value != "")
        return " ".join(pairs)
