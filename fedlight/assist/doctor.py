"""Whether this machine can train: versions, device, disk, memory, services. Calls no network unless asked to."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

Level = Literal["ok", "note", "warning", "problem"]

EXTRAS = {
    "report": "figures and pages of results",
    "dicom": "DICOM series and segmentations",
    "export": "trained models as ONNX",
    "docs": "the documentation as a site",
    "zstd": "the codec Zstd",
    "secure": "secure aggregation",
    "privacy": "differential privacy",
    "flower": "training over a network",
    "tensorboard": "the tracker TensorBoardTracker",
    "mlflow": "the tracker MLflowTracker",
    "shell": "completion in the shell",
    "dev": "tests and checks of fedlight itself",
}
"""What the optional packages are for."""

_SHOWN = (
    "torch",
    "lightning",
    "torchmetrics",
    "monai",
    "segmentation-models-pytorch",
    "albumentations",
    "jsonargparse",
)
_GIGABYTE = 1e9
_LITTLE_DISK, _NO_DISK = 2.0, 0.1  # gigabytes: a run of a large network keeps some checkpoints
_LITTLE_SHARED = 0.25
_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's.

    Attributes:
        name: What was looked at.
        level: "problem" stops a run; a "warning" may; a "note" is for information.
        text: What was found, and for a problem the way out.
    """

    name: str
    level: Level
    text: str

    def plain(self) -> dict[str, str]:
        """Returns plain values for a script."""
        return asdict(self)


def examine(config: Mapping[str, Any], online: bool) -> Iterator[Check]:
    """Looks at everything.

    Args:
        config: Settings of the run that is planned; an empty one for none.
        online: Whether services may be called.
    """
    yield from versions()
    yield from extras()
    yield from device(config)
    yield from disk(Path(_group(config, "federation").get("run_folder") or "runs/run"))
    yield from memory(config)
    yield from data(config)
    yield from wandb(config, online)
    yield from flower(config)


def versions() -> Iterator[Check]:
    """Looks at Python and at the packages that fedlight needs."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", "ok", python)
    known = [f"{name} {version}" for name in ("fedlight", *_SHOWN) if (version := _version(name))]
    yield Check("packages", "ok", ", ".join(known))
    for requirement in _required(""):
        name, version = requirement.name, _version(requirement.name)
        if version is None:
            yield Check(name, "problem", f"is not installed. Get it with: pip install '{requirement}'.")
        elif not requirement.specifier.contains(version, prereleases=True):
            wanted = f"must be {requirement.specifier}, got {version}"
            yield Check(name, "problem", f"{wanted}. Get it with: pip install '{requirement}'.")


def extras() -> Iterator[Check]:
    """Says which optional packages are there and what they are for."""
    for extra, purpose in EXTRAS.items():
        names = [requirement.name for requirement in _required(extra)]
        missing = [name for name in names if _version(name) is None]
        if names and not missing:
            yield Check(f"extra {extra}", "ok", f"installed: {purpose}")
        elif names:
            yield Check(
                f"extra {extra}", "note", f"lacks {', '.join(missing)}: {purpose}; pip install 'fedlight[{extra}]'"
            )


def device(config: Mapping[str, Any]) -> Iterator[Check]:
    """Looks at GPUs and threads."""
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken installation raises whatever it likes
        reason = " ".join(str(error).split())[:200]
        yield Check("device", "problem", f"torch cannot be imported ({reason}). Install it anew.")
        return
    found = _gpus(torch)
    wanted = str(_group(config, "trainer").get("accelerator") or "auto")
    if wanted in ("gpu", "cuda", "mps") and not found:
        rule = f"trainer.accelerator must be one that is here, got {wanted}, and torch finds no GPU"
        yield Check("device", "problem", f"{rule}. Use auto or cpu.")
    else:
        yield Check("device", "ok", ", ".join(found) or "no GPU; training runs on the processor")
    cores, threads = _cores(), _group(config, "federation").get("threads")
    text = f"{cores} cores, {threads or torch.get_num_threads()} threads of torch"
    if isinstance(threads, int) and threads > cores:
        yield Check("threads", "warning", f"{text}: more threads than cores are slower. Lower federation.threads.")
    else:
        yield Check("threads", "ok", text)


def disk(run_folder: Path) -> Iterator[Check]:
    """Looks at the place where the run folder will be."""
    place = next(path for path in (run_folder.absolute(), *run_folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        rule = (
            f"federation.run_folder must lie where it can be made, got {run_folder}, and {place} cannot be written to"
        )
        yield Check("disk", "problem", f"{rule}. Name another.")
        return
    free = shutil.disk_usage(place).free / _GIGABYTE
    text = f"{free:.1f} GB free at {run_folder}"
    if free < _NO_DISK:
        yield Check("disk", "problem", f"{text}: too little for a run's checkpoints. Make room, or name another place.")
    else:
        few = free < _LITTLE_DISK
        yield Check(
            "disk", "warning" if few else "ok", text + (": large networks may fill it. Make room." if few else "")
        )


def memory(config: Mapping[str, Any]) -> Iterator[Check]:
    """Looks at what processes can share: MultiProcess takes it from memory, the workers of a loader from /dev/shm."""
    available = _available_memory()
    if available is not None:
        yield Check("memory", "ok", f"{available:.1f} GB available; MultiProcess shares images and models in it")
    place = Path("/dev/shm")
    if not place.is_dir():
        return
    free = shutil.disk_usage(place).free / _GIGABYTE
    loaders = bool(_group(_group(config, "data"), "init_args").get("num_workers"))
    if loaders and free < _LITTLE_SHARED:
        rule = f"{free:.2f} GB free in /dev/shm, which loaders with data.num_workers need more of"
        yield Check("shared memory", "problem", f"{rule}. Set it to 0, or enlarge /dev/shm (docker: --shm-size 2g).")
    else:
        yield Check("shared memory", "ok", f"{free:.1f} GB free in /dev/shm, for loaders with data.num_workers")


def data(config: Mapping[str, Any]) -> Iterator[Check]:
    """Looks whether the folder of the data is there; what is in it is for ``fedlight data check``."""
    root = _group(_group(config, "data"), "init_args").get("root")
    if root is None:
        return
    if Path(str(root)).is_dir():
        yield Check("data", "ok", f"{root} is there; fedlight data check -c CONFIG looks into it")
    else:
        yield Check("data", "problem", f"data.root must be a folder, got {root}. Give it with --data.root.")


def wandb(config: Mapping[str, Any], online: bool) -> Iterator[Check]:
    """Says whether W&B could be used, without asking it."""
    used = [_arguments(tracker) for tracker in _trackers(config) if _class(tracker) == "WandbTracker"]
    mode = next((str(arguments.get("mode") or "offline") for arguments in used), None)
    state = "logged in on this machine" if _logged_in() else "not logged in (wandb login)"
    plan = {None: "not used", "offline": "used offline: files only"}.get(mode, f"used {mode}")
    late = mode == "online" and not _logged_in()
    yield Check(
        "W&B", "warning" if late else "ok", f"{plan}; {state}{'; the run would go on without it' if late else ''}"
    )
    if online:
        address = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
        yield _reached("W&B server", address)
    else:
        yield Check("W&B server", "note", "not asked; --online does")


def flower(config: Mapping[str, Any]) -> Iterator[Check]:
    """Says whether Flower is there."""
    used, version = _class(_group(config, "federation").get("executor")) == "Flower", _version("flwr")
    if version is not None:
        yield Check("Flower", "ok", f"{version}; fedlight deploy check looks at a federation's server and sites")
    elif used:
        yield Check("Flower", "problem", "is not installed. Get it with: pip install 'fedlight[flower]'.")
    else:
        yield Check("Flower", "note", "not installed; only needed over a network")


def _reached(name: str, address: str) -> Check:
    parts = urlsplit(address)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or address, port), timeout=_SECONDS).close()
    except (OSError, ValueError) as error:
        return Check(name, "warning", f"{address} cannot be reached ({error}); mode offline needs no network")
    return Check(name, "ok", f"{address} can be reached")


def _required(extra: str) -> list[Any]:
    """Requirements of fedlight itself, or of one of its extras; none where it is not installed."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("fedlight") or ()]
    except metadata.PackageNotFoundError:
        return []
    if not extra:
        return [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [each for each in requirements if each.marker is not None and _of_extra(each.marker, extra)]


def _of_extra(marker: Any, extra: str) -> bool:
    return bool(marker.evaluate({"extra": extra})) and not marker.evaluate({"extra": ""})


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus(torch: Any) -> list[str]:
    if torch.cuda.is_available():
        every = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return [f"{each.name} ({each.total_memory / _GIGABYTE:.0f} GB)" for each in every]
    return ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _available_memory() -> float | None:
    """Gigabytes that a new program could have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 / _GIGABYTE if found else None


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return f"machine {host}" in path.read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _trackers(config: Mapping[str, Any]) -> Sequence[Any]:
    group = _group(config, "federation")
    return [*(group.get("trackers") or ()), *(group.get("trackers+") or ())]


def _class(part: Any) -> str:
    path = part if isinstance(part, str) else part.get("class_path", "") if isinstance(part, Mapping) else ""
    return str(path).rpartition(".")[2]


def _arguments(part: Any) -> Mapping[str, Any]:
    return _group(part, "init_args") if isinstance(part, Mapping) else {}


def _group(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}
