"""Which model speaks for an arm whose sites keep parameters of their own.

At the held-out site an arm is its "global" model; where there is none, the "mean" of the sites' models; where there is
none either, or the arm is ``local``, there are two derived rows: "local (mean)", the mean over the sites' models of
what each scores, and "local (best, oracle)", in every job the site's model that has the highest mean Dice at the
held-out site. The latter is chosen with a look at the held-out site, so it flatters and is never ranked. An "ensemble"
beside these is a row of its own, "local (ensemble)".

At a site that trained, an arm is that site's own model, or the global one.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

Kind = Literal["arm", "oracle", "human"]


def held_out_cases(cases: pd.DataFrame, checkpoint: str) -> pd.DataFrame:
    """Returns one row a case of the held-out sites: arm (with its variant), kind, held_out, seed, site, case, metrics.

    HD95 and ASSD are undefined (NaN) where the structure was missed: "miss" counts that, apart from distances.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    raise NotImplementedError


def in_federation_cases(cases: pd.DataFrame, checkpoint: str) -> pd.DataFrame:
    """Returns the same for the test cases of the sites that trained; ``site`` says which.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    raise NotImplementedError
