"""Kits: everything that a server and its sites need to start a federation, as folders of commented files."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

import fedlight
from fedlight.deploy.node import RUN
from fedlight.preparation import ConfigError

NODE_PORT = 9194
"""Port of the first site's node; the others' follow, so that all can be tried on one machine."""

_NOT_AGREED = ("executor", "run_folder")  # the server has an executor of its own, and its runs lie in its folder

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


@dataclass(frozen=True, slots=True)
class Kit:
    """What a kit is made of.

    Attributes:
        folder: Where it is written; must not exist yet, or be empty.
        config: The resolved config, plain values.
        sites: The sites that train.
        held_out: The institutions that take no part.
        host: Name or address by which nodes reach the server.
        port: Its port.
        deadline: Seconds that a site may work in one phase.
        data: Folder of data by site, as far as they are known.
    """

    folder: Path
    config: Mapping[str, Any]
    sites: Sequence[str]
    held_out: Sequence[str]
    host: str
    port: int
    deadline: float
    data: Mapping[str, Path]

    def write(self) -> None:
        """Writes the kit.

        Raises:
            ConfigError: If something cannot work, or is in the folder already.
        """
        self._check()
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise ConfigError(f"a kit needs a folder of its own, got {self.folder}, which is not empty. Name another.")
        _write(self.folder / "README.md", _filled("README.md", self._facts))
        self._write_server(self.folder / "server")
        for number, site in enumerate(self._nodes):
            self._write_site(self.folder / "sites" / site, site, NODE_PORT + number)
        self._write_keys()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"port must be in [1, 65535], got {self.port}. Leave it out for 9443.")
        if not 0 < self.deadline < math.inf:
            raise ConfigError(f"deadline must be seconds above 0, got {self.deadline:g}. Leave it out for an hour.")
        if not _HOST.fullmatch(self.host) and not _is_address(self.host):
            raise ConfigError(
                f"host must be a name or an address, without scheme and port, got {self.host!r}. "
                "Give it as fl.example.org, and the port with --port."
            )
        if not self.sites:
            raise ConfigError("a kit must have a site that trains, got none. Name those that train with --sites.")
        for name in self._nodes:
            if not name or set(name) & set("/\\\"'\n") or name.startswith("."):
                raise ConfigError(f"the name of a site must do as the name of a folder, got {name!r}. Rename it.")
            if self._nodes.count(name) > 1:
                raise ConfigError(
                    f"a site must be named once, got {name} {self._nodes.count(name)} times. Name it once."
                )

    @property
    def _nodes(self) -> list[str]:
        return [*self.sites, *self.held_out]

    @property
    def _facts(self) -> dict[str, Any]:
        return {
            "sites": ", ".join(self.sites),
            "version": fedlight.__version__,
            "host": self.host,
            "port": self.port,
            "listen": "127.0.0.1" if self.host in ("localhost", "127.0.0.1") else "0.0.0.0",
        }

    def _write_server(self, folder: Path) -> None:
        certificates = (folder / "certificates").resolve()
        executor = {"class_path": "Flower", "init_args": {"sites": list(self.sites), "deadline": self.deadline}}
        self._write_run(folder, {"executor": executor})
        for name in ("server.yaml", "nginx.conf", "compose.yaml"):
            _write(folder / name, _filled(f"server/{name}", self._facts))
        _write(folder / "start.sh", _filled("server/start.sh", {}), executable=True)
        _write(folder / "Dockerfile", _filled("Dockerfile", self._facts))
        _write(folder / "app" / "pyproject.toml", _filled("server/app_pyproject.toml", {}))
        for name in ("server_app.py", "client_app.py"):
            _write(folder / "app" / name, _filled(f"server/{name}", {}))
        facts = {"port": self.port, "certificates": certificates}
        _write(folder / "flower" / "config.toml", _filled("server/flower_config.toml", facts))

    def _write_site(self, folder: Path, site: str, port: int) -> None:
        self._write_run(folder, {})
        data = self.data.get(site)
        facts = {**self._facts, "site": _yaml(site), "data": _yaml(str(data) if data else ""), "node_port": port}
        facts["accelerator"] = (self.config.get("trainer") or {}).get("accelerator") or "auto"
        for name in ("site.yaml", "compose.yaml"):
            _write(folder / name, _filled(f"site/{name}", facts))
        _write(folder / "start.sh", _filled("site/start.sh", {}), executable=True)
        _write(folder / "Dockerfile", _filled("Dockerfile", self._facts))

    def _write_run(self, folder: Path, federation: Mapping[str, Any]) -> None:
        """Writes what was agreed, without where data lies, and the plugin files that it names."""
        agreed = {name: value for name, value in self.config["federation"].items() if name not in _NOT_AGREED}
        config = {**self.config, "federation": {**agreed, **federation}}
        plugins = [Path(file) for file in config.get("load") or []]
        config["load"] = [f"plugins/{file.name}" for file in plugins]
        data = config["data"]
        if "root" in data.get("init_args", {}):
            config["data"] = {**data, "init_args": {**data["init_args"], "root": "at-the-site", "sites": None}}
        head = "# What server and sites have agreed on: all must have the same. What is a machine's own is elsewhere.\n"
        _write(folder / RUN, head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        for file in plugins:
            (folder / "plugins").mkdir(exist_ok=True)
            shutil.copy(file, folder / "plugins" / file.name)

    def _write_keys(self) -> None:
        from fedlight.deploy import certificates

        trusted, server = self.folder / "authority", self.folder / "server"
        for folder in (trusted, server / "certificates", server / "nodes"):
            folder.mkdir()
        ca, key = certificates.authority(trusted)
        hosts = dict.fromkeys([self.host, "localhost", "127.0.0.1", "superlink"])
        certificates.server(server / "certificates", list(hosts), ca, key)
        shutil.copy(trusted / "ca.crt", server / "certificates" / "ca.crt")
        for site in self._nodes:
            folder = self.folder / "sites" / site
            certificates.node(folder / "node.key", server / "nodes" / f"{site}.pub")
            shutil.copy(trusted / "ca.crt", folder / "ca.crt")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _filled(template: str, facts: Mapping[str, Any]) -> str:
    """Returns a template with its names in braces replaced; other braces stay."""
    text = (files("fedlight.deploy") / "templates" / template).read_text()
    for name, value in facts.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _write(path: Path, text: str, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if executable:
        path.chmod(0o755)


def _yaml(text: str) -> str:
    return yaml.safe_dump(text, allow_unicode=True, default_style='"').strip()
