"""What left the sites in a run, and what of their privacy was spent, from what the run wrote down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fedlight.checkpoint import RunFolder, SiteStore
from fedlight.disclosure.protections import disclosures, of_part, of_run
from fedlight.document import Section, Table, in_bytes
from fedlight.errors import DamagedFileError
from fedlight.export.record import Record
from fedlight.plugins import Plugin
from fedlight.plugins.disclosure import beyond_site_level
from fedlight.privacy.accounting import Ledger
from fedlight.privacy.example_level import Account, ExampleLevel

if TYPE_CHECKING:
    from fedlight.federation import Federation

_UP = "bytes_up/"
NO_PROTECTION = "Neither differential privacy nor secure aggregation: who ran the server saw every site's update."


def ledger(federation: Federation, plugins: Sequence[Plugin], record: Record, folder: RunFolder) -> Section:
    """Makes the section of a model card on privacy.

    Args:
        federation: The federation.
        plugins: Those of the run by their names in messages, the aggregator among them.
        record: What the run wrote down.
        folder: Where.
    """
    said = [
        "Images and masks are part of no message. In every round a site sent what is in the table, with numbers of "
        "cases and means of losses and scores over them.",
        *(f"{name} shared {known.what}." for name, known in disclosures(plugins).items()),
        *_beyond(federation, plugins),
        *(f"{promise[0].upper()}{promise[1:]} ({name})." for name, promise in of_run(federation).items()),
        *_spent(federation, plugins, record, folder),
    ]
    if not of_run(federation) and not any("epsilon" in row for row in record.rounds):
        said.append(NO_PROTECTION)
    return Section("Privacy", tuple(said), _sent(federation, plugins, record))


def _beyond(federation: Federation, plugins: Sequence[Plugin]) -> list[str]:
    clauses = beyond_site_level(plugins, federation.shares_cases)
    return [f"More than statistics of whole sites left them: {'; '.join(clauses)}."] if clauses else []


def _sent(federation: Federation, plugins: Sequence[Plugin], record: Record) -> Table:
    sizes = Counter[str]()
    for row in record.rows:
        if row["kind"] == "fit":
            sizes.update({name.removeprefix(_UP): value for name, value in row.items() if name.startswith(_UP)})
    rows = tuple((part, of_part(part, federation, plugins), in_bytes(size)) for part, size in sizes.items())
    header = ("what left the sites", "protection", "bytes, all sites and rounds")
    return Table(header, rows or (("unknown", "unknown", "unknown"),), frozenset({2}))


def _spent(federation: Federation, plugins: Sequence[Plugin], record: Record, folder: RunFolder) -> Iterator[str]:
    """Says what was spent: of single patients by every site, of whole sites by the server."""
    settings = federation.local.example_privacy
    for site in record.sites if settings is not None else ():
        assert settings is not None
        value = _of_site(settings, site, record, folder)
        known = "unknown" if value is None else f"{value:.2f}"
        yield f"Epsilon spent by {site} for its patients: {known} at delta {settings.delta:g}, in all rounds."
    total = next((row["epsilon"] for row in reversed(record.rounds) if row.get("epsilon") is not None), None)
    if total is not None:
        delta = next((getattr(plugin, "delta", None) for plugin in plugins if hasattr(plugin, "delta")), None)
        at = "unknown" if delta is None else f"{delta:g}"
        yield f"Epsilon spent for whole sites: {total:.2f} at delta {at}, in all rounds."


def _of_site(settings: ExampleLevel, site: str, record: Record, folder: RunFolder) -> float | None:
    """Returns what a site's own ledger says, which knows of abandoned rounds too, or the last that it reported."""
    path = SiteStore(folder.sites / site).ledger
    if path.is_file():
        try:
            return Account(settings, Ledger(path)).spent
        except DamagedFileError:
            raise
        except ValueError:  # no Opacus here
            pass
    rows = [row for row in record.rows if row["kind"] == "fit" and row["site"] == site]
    return next((row["epsilon"] for row in reversed(rows) if row.get("epsilon") is not None), None)
