"""Which model speaks for an arm whose sites keep parameters of their own.

At the held-out site an arm is its "global" model; where there is none, the "mean" of the sites' models. Where there is
neither, as for ``local``, there are two derived rows: "local (mean)", the mean over the sites' models of what each of
them scores, and "local (best, oracle)", in every job the site's model with the highest mean Dice at the held-out site.
The latter is chosen with a look at the held-out site, in its favour, so it is never ranked. An "ensemble" of the
sites' models is a row of its own, "local (ensemble)".

At a site that trained, an arm is that site's own model; where there is none, the global one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from fedlight.benchmark.layout import HUMAN, KEYS

CHECKPOINTS = ("best", "last")
KINDS = ("arm", "oracle", "human")
"""What a row is: an arm; one that was chosen with a look at the held-out site; a second annotator."""

_SHARED = ("global", "mean")
_ENSEMBLE = "ensemble"
_JOB = ["held_out", "seed"]
_FIRST = ["arm", "base", "kind", "held_out", "seed", "site", "case"]


def metrics_of(cases: pd.DataFrame) -> list[str]:
    """Lists the columns that are metrics."""
    return [name for name in cases.columns if name not in {*_FIRST, *KEYS}]


def held_out_cases(cases: pd.DataFrame, checkpoint: str) -> pd.DataFrame:
    """Returns one row a case and seed of the held-out sites.

    Its columns are arm (with its variant), base (without), kind, held_out, seed, site, case, metrics. HD95
    and ASSD are undefined (NaN) where the structure was missed: "miss" counts that, apart from distances.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    chosen = _chosen(cases, "held-out", checkpoint)
    parts = [part for arm, rows in chosen.groupby("arm") for part in _variants(str(arm), rows)]
    return _arranged(pd.concat(parts, ignore_index=True) if parts else chosen.assign(base="", kind=""))


def in_federation_cases(cases: pd.DataFrame, checkpoint: str) -> pd.DataFrame:
    """Returns the same for the test cases of the sites that trained; ``site`` says which.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    chosen = _chosen(cases, "in-federation", checkpoint)
    order = chosen["model"].map({"global": 1, "mean": 2, _ENSEMBLE: 3}).mask(chosen["model"] == chosen["site"], 0)
    first = order.groupby([chosen[name] for name in ("arm", *_JOB, "site")]).transform("min")
    return _arranged(chosen[order == first].assign(base=lambda rows: rows["arm"], kind="arm"))


def _chosen(cases: pd.DataFrame, domain: str, checkpoint: str) -> pd.DataFrame:
    if checkpoint not in CHECKPOINTS:
        raise ValueError(f"checkpoint must be best or last, got {checkpoint}. Use best for the selected round.")
    return without_missed(cases[(cases["domain"] == domain) & (cases["checkpoint"] == checkpoint)])


def _arranged(cases: pd.DataFrame) -> pd.DataFrame:
    return cases[[*_FIRST, *metrics_of(cases)]].reset_index(drop=True)


def _variants(arm: str, rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if arm == HUMAN:
        yield rows.assign(base=arm, kind=HUMAN)
        return
    models = set(rows["model"])
    shared = next((model for model in _SHARED if model in models), None)
    if shared is not None:
        yield rows[rows["model"] == shared].assign(base=arm, kind="arm")
    elif models - {_ENSEMBLE}:
        alone = rows[rows["model"] != _ENSEMBLE]
        yield _mean_of_models(alone).assign(arm=f"{arm} (mean)", base=arm, kind="arm")
        yield _best_of_models(alone).assign(arm=f"{arm} (best, oracle)", base=arm, kind="oracle")
    if _ENSEMBLE in models:
        yield rows[rows["model"] == _ENSEMBLE].assign(arm=f"{arm} (ensemble)", base=arm, kind="arm")


def _mean_of_models(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby([*_JOB, "site", "case"], as_index=False)[metrics_of(rows)].mean()


def _best_of_models(rows: pd.DataFrame) -> pd.DataFrame:
    dice = rows.groupby([*_JOB, "model"])["dice"].mean().dropna()
    best = dice.loc[dice.groupby(_JOB).idxmax()].reset_index()[[*_JOB, "model"]]
    return rows.merge(best, on=[*_JOB, "model"])


def without_missed(cases: pd.DataFrame) -> pd.DataFrame:
    """Returns the cases with HD95 and ASSD undefined where the structure was missed.

    With several classes, the distance of a case is the mean over the classes that were not missed.
    """
    cases = cases.copy()
    missed = [name.removeprefix("miss/") for name in cases.columns if name.startswith("miss/")]
    for metric in ("hd95", "assd"):
        classes = [name for name in missed if f"{metric}/{name}" in cases]
        whole = cases[metric].mask(cases["miss"] > 0)
        for name in classes:
            cases[f"{metric}/{name}"] = cases[f"{metric}/{name}"].mask(cases[f"miss/{name}"] > 0)
        by_class = cases[[f"{metric}/{name}" for name in classes]].mean(axis=1)
        cases[metric] = by_class.fillna(whole) if classes else whole
    return cases
