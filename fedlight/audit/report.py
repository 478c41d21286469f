"""The audit of a run: three attacks, each beside what protects from it, as a page and as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from fedlight import __version__
from fedlight.audit.attacked import Attacked, inversions, verdict
from fedlight.audit.inversion import Attacker
from fedlight.audit.leaks import Leak, of_a_round, of_one_image, shared_by_sites
from fedlight.audit.membership import ALARMS, Membership, infer, losses_of
from fedlight.audit.pictures import strip
from fedlight.audit.protected import Protections
from fedlight.audit.similarity import best_match
from fedlight.audit.spectra import flat_image, whole_amplitude, window_image
from fedlight.batch import Batch
from fedlight.data.federated import FederatedDataModule
from fedlight.document import Page, Picture, Section, Table, write
from fedlight.output_folder import make_folder, require_folder
from fedlight.preparation import ConfigError
from fedlight.privacy.accounting import Ledger
from fedlight.run import Run
from fedlight.statistics import channel_moments
from fedlight.tasks.federated_module import FederatedModule

if TYPE_CHECKING:
    from fedlight.federation import Federation

PATIENTS = (
    "This page and the pictures beside it show patients, as they are and as an attacker sees them. They belong where "
    "the data are, and in no repository."
)
LIMITS = (
    "An attack that fails here proves nothing: one attacker was tried on one batch of one round. One that succeeds "
    "on what the run shows proves that it gives images away."
)
BESIDE = (
    "A number means something only beside that of the mean image, which needs no update. Look at the pictures too: "
    "they may show shapes where colours are wrong and numbers are low."
)
_MOST_STEPS = 20
"""Local steps of the case with several of them; with more, an update is further from any gradient."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much an audit may take.

    Attributes:
        steps: Steps of the attacker from every start.
        restarts: Starts.
        size: Longer side of the images that are attacked; larger ones are made smaller.
        noise: Of the supposed case with noise, in units of the norm to which a gradient is clipped; 0 leaves it out.
    """

    steps: int = 300
    restarts: int = 2
    size: int = 32
    noise: float = 0.1

    def check(self) -> None:
        """Checks the numbers.

        Raises:
            ConfigError: With the first that cannot work.
        """
        for name, value, least in (("steps", self.steps, 1), ("restarts", self.restarts, 1), ("size", self.size, 16)):
            if value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}. Use {getattr(Budget(), name)}.")
        if not self.noise >= 0:
            raise ConfigError(f"noise must not be negative, got {self.noise}. Use {Budget().noise}.")


def audit(
    federation: Federation, run: Run, data: FederatedDataModule, output: Path, site: str | None, budget: Budget
) -> Page:
    """Attacks a run and writes ``audit.html``, ``audit.json`` and the pictures.

    Args:
        federation: The federation, as the run was configured.
        run: The run, opened for scoring.
        data: The run's own data.
        output: Folder to write to; it is made if need be.
        site: Whose images are attacked; the first one if left out.
        budget: How hard.

    Raises:
        ConfigError: If there is no such site or the data are elsewhere.
    """
    budget.check()
    require_folder(output)
    site = _site(federation, run, site)
    module = run.make_client.module.cpu().train()
    seen = next(iter(data.train_loader(site, seed=federation.seed)))
    batch = _shown(module, seen, budget.size)
    leaks = list(_leaks(federation, run, data, site, batch, budget))
    inverted = list(inversions(module, batch, leaks, Attacker(budget.steps, budget.restarts), federation.seed))
    read = list(_statistics(run, data, site, seen, federation.seed))
    members = _memberships(run, module, data, federation.seed)
    page = _page(run, site, budget, batch, inverted, read, members)
    make_folder(output)
    for section in page.sections:
        for picture in section.pictures:
            (output / f"{picture.name}.png").write_bytes(picture.png)
    for name in ("audit.html", "audit.json"):
        write(page, output / name)
    return page


def _site(federation: Federation, run: Run, site: str | None) -> str:
    if federation.executor.remote:
        raise ConfigError(
            "audit needs the images that a run was trained on, which are not here. Run it at a site or in a "
            "simulation, with --federation.executor InProcess."
        )
    if site is not None and site not in run.sites:
        raise ConfigError(f"site must be one of {', '.join(run.sites)}, got {site}. Name one that trains.")
    return site or run.sites[0]


def _shown(module: FederatedModule, batch: Batch, size: int) -> Batch:
    """Returns a training batch as the network sees it, with a longer side of at most ``size``."""
    images = module.harmonised(batch["image"], batch["valid"])
    shrunk = _shrunk(images, size)
    grid = (shrunk.shape[-2], shrunk.shape[-1])
    masks = F.interpolate(batch["mask"][:, None].float(), grid, mode="nearest-exact")[:, 0].long()
    valid = F.interpolate(batch["valid"][:, None].float(), grid, mode="nearest-exact")[:, 0].bool()
    smaller: Batch = batch.copy()
    smaller["image"], smaller["mask"], smaller["valid"] = shrunk, masks, valid
    return smaller


def _shrunk(images: Tensor, size: int) -> Tensor:
    """Makes images (N, C, H, W) smaller, to sides that are multiples of 16, as networks halve them four times."""
    factor = min(1.0, size / max(images.shape[-2:]))
    if factor == 1.0:
        return images
    grid = [max(16, round(side * factor / 16) * 16) for side in images.shape[-2:]]
    return F.interpolate(images, grid, mode="area")


# --- the attacks -----------------------------------------------------------------------------------------------------


def _leaks(
    federation: Federation, run: Run, data: FederatedDataModule, site: str, batch: Batch, budget: Budget
) -> Iterator[Leak]:
    """Yields what is to be attacked: the worst case, and the run's own round with its own protections."""
    module, seed = run.make_client.module, federation.seed
    protections = _protections(federation, run, site)
    yield from of_one_image(module, batch, protections, budget.noise, seed)
    batches = {site: batch}
    if protections.secure is not None or protections.aggregator is not None:
        for other in (other for other in run.sites if other != site):
            batches[other] = _shown(module, next(iter(data.train_loader(other, seed=seed))), budget.size)
    cases = {name: float(data.num_samples(name)) for name in batches}
    weights = cases if federation.weighting == "samples" else dict.fromkeys(batches, 1.0)
    steps = min(federation.local.steps or 1, _MOST_STEPS)
    yield from of_a_round(module, batches, weights, protections, steps, seed)


def _protections(federation: Federation, run: Run, site: str) -> Protections:
    local, aggregator = federation.local, run.server.aggregator
    return Protections(
        codecs=local.compression.uplink,
        privacy=local.example_privacy,
        noise=_noise(federation, run, site),
        aggregator=aggregator if "epsilon" in aggregator.report() else None,
        secure=local.secure,
    )


def _noise(federation: Federation, run: Run, site: str) -> float:
    """Returns the noise of example-level privacy at a site, as was asked for or as its ledger says."""
    settings = federation.local.example_privacy
    if settings is None or settings.noise is not None:
        return 0.0 if settings is None or settings.noise is None else settings.noise
    path = run.make_client.store(site).ledger
    charges = Ledger(path).charges
    if not charges:
        raise ConfigError(f"{path} must say with how much noise {site} trained, but it is missing. Bring it back.")
    return charges[0].noise


def _statistics(run: Run, data: FederatedDataModule, site: str, batch: Batch, seed: int) -> Iterator[Attacked]:
    """Yields what a reader makes of what the run's plugins shared of a site, and of more than that as a contrast."""
    images = batch["image"]
    grid = (images.shape[-2], images.shape[-1])
    saved: Any = run.folder.load() or {}
    others = [other for other in run.sites if other != site]
    phase = next(iter(data.train_loader(others[0], seed=seed)))["image"][0] if others else None
    for plugin, shared in (saved.get("server", {}).get("shared") or {}).items():
        for name, value in {**shared, **shared_by_sites(shared, site)}.items():
            if name != "amplitude":
                continue
            window = value if value.ndim == 3 else value[0]
            yield from _amplitudes(f"{plugin} window", "Its amplitudes, as shared,", window, phase, images, grid)
    says = "All amplitudes of one image, which nothing shares,"
    yield from _amplitudes("one image, all amplitudes", says, whole_amplitude(images[0]), phase, images[:1], grid)
    mean = images.mean(0)
    yield Attacked("mean image", "The mean of the batch, which nothing shares.", best_match(mean, images), mean)
    flat = flat_image(channel_moments(images, batch["valid"])[0].mean(0).flatten(), grid)
    yield Attacked("channel means", "The constant image of the site's channel means.", best_match(flat, images), flat)


def _amplitudes(
    name: str, says: str, window: Tensor, phase: Tensor | None, images: Tensor, grid: tuple[int, int]
) -> Iterator[Attacked]:
    flat = window_image(window, grid)
    yield Attacked(f"{name}, no phase", f"{says} with phase 0.", best_match(flat, images), flat)
    if phase is not None:
        put = window_image(window, grid, phase)
        yield Attacked(f"{name}, other phase", f"{says} with another site's phase.", best_match(put, images), put)


def _memberships(run: Run, module: FederatedModule, data: FederatedDataModule, seed: int) -> dict[str, Membership]:
    """Weighs the attack on every site and on all of them together; sites without other cases are left out."""
    inside, outside, found = list[float](), list[float](), dict[str, Membership]()
    for institution in (institution for site in run.sites for institution in data.institutions(site)):
        members = losses_of(module, data, institution, "train")
        others = losses_of(module, data, institution, "val") + losses_of(module, data, institution, "test")
        inside, outside = inside + members, outside + others
        if members and others:
            found[institution] = infer(members, others, seed)
    if inside and outside:
        found["all sites"] = infer(inside, outside, seed)
    return found


# --- the page --------------------------------------------------------------------------------------------------------


def _page(
    run: Run,
    site: str,
    budget: Budget,
    batch: Batch,
    inverted: Sequence[Attacked],
    read: Sequence[Attacked],
    members: dict[str, Membership],
) -> Page:
    span = (float(batch["image"].min()), float(batch["image"].max()))
    sections = (
        Section(
            "Gradient inversion",
            (
                *verdict(inverted),
                f"The image whose gradient fits what {site} sends, at {'x'.join(map(str, batch['image'].shape[-2:]))} "
                f"pixels, by cosine similarity and total variation, with {budget.steps} steps and {budget.restarts} "
                "start(s), the first from near the mean image, where an attack that finds nothing stays. The attacker "
                "knows model and true masks. Of several images the best one found counts. Misfit is 1 - cosine: near 0 "
                "the attacker has found what explains the "
                "update, like the image or not; near 1 there was nothing to follow.",
                BESIDE,
            ),
            _inversion_table(inverted),
            pictures=(
                Picture(
                    "inversion",
                    strip({"true image": batch["image"][0], **{a.name: a.image for a in inverted}}, span),
                    "The true image, what needs no update, and what the attacker found.",
                ),
            ),
        ),
        Section("Shared amplitudes and styles", _read_said(read), _table(read), pictures=_read_pictures(read, batch)),
        Section(
            "Membership inference",
            (
                "Whether a case was trained on, told from the global model's loss on it: cases of training against "
                "those of validation and test of the same sites. AUC 0.5 is a coin, 1 is certainty. Validation cases "
                "chose the model's round, so they are not quite unseen.",
            ),
            _membership_table(members),
        ),
    )
    facts = {
        "run": str(run.folder.path),
        "round": run.server.round,
        "site": site,
        "budget": asdict(budget),
        "inversion": [_facts(one) for one in inverted],
        "statistics": [_facts(one) for one in read],
        "membership": {name: asdict(found) for name, found in members.items()},
    }
    title = f"What {run.folder.path.name} gives away"
    footer = f"Made by fedlight {__version__} with fedlight audit; equal seeds give equal numbers."
    return Page(title, (f"The global model of round {run.server.round}.", PATIENTS, LIMITS), sections, facts, footer)


def _read_said(read: Sequence[Attacked]) -> tuple[str, ...]:
    shares = any("window" in one.name for one in read)
    said = "" if shares else "This run's plugins share no amplitudes. "
    return (f"{said}Compared with those images of the site that a picture is most like.",)


def _read_pictures(read: Sequence[Attacked], batch: Batch) -> tuple[Picture, ...]:
    span = (float(batch["image"].min()), float(batch["image"].max()))
    images = {"an image": batch["image"][0], **{one.name: one.image for one in read}}
    return (Picture("statistics", strip(images, span), "An image of the site, and what a reader makes of statistics."),)


def _table(attacked: Sequence[Attacked]) -> Table:
    rows = tuple((one.name, f"{one.found.psnr:.1f}", f"{one.found.ssim:.2f}", one.says) for one in attacked)
    return Table(("case", "PSNR dB", "SSIM", "what it is made of"), rows, frozenset({1, 2}))


def _inversion_table(attacked: Sequence[Attacked]) -> Table:
    rows = tuple(
        (
            one.name,
            f"{one.found.psnr:.1f}",
            f"{one.found.ssim:.2f}",
            "" if one.misfit is None else f"{one.misfit:.3f}",
            "" if one.beats is None else "yes" if one.beats else "no",
            one.says,
        )
        for one in attacked
    )
    header = ("case", "PSNR dB", "SSIM", "misfit", "beats mean image", "what it is made of")
    return Table(header, rows, frozenset({1, 2, 3}))


def _membership_table(members: dict[str, Membership]) -> Table:
    rows = tuple(
        (
            name,
            f"{found.members} / {found.others}",
            f"{found.auc:.2f}",
            f"{found.low:.2f} to {found.high:.2f}",
            f"{found.power:.0%}",
        )
        for name, found in members.items()
    )
    header = ("site", "members / others", "AUC", "95 % interval", f"found at {ALARMS:.0%} false alarms")
    return Table(header, rows, frozenset({1, 2, 3, 4}))


def _facts(attacked: Attacked) -> dict[str, Any]:
    inverted = {} if attacked.misfit is None else {"misfit": attacked.misfit, "beats": attacked.beats}
    return {"case": attacked.name, "says": attacked.says, **asdict(attacked.found), **inverted}
