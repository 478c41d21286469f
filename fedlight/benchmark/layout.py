"""What the writer and the readers of results agree on: the format of a record, the keys of a case, names of arms."""

FORMAT = 1
"""Of ``job.json``."""

HUMAN = "human"
"""The arm of a second annotator, where there is one."""

TUNED = "@tuned"
"""Behind the name of an arm whose settings a search has chosen, for every held-out site anew."""

KEYS = ("domain", "checkpoint", "model", "site", "case")
"""Columns of ``cases.csv`` that say what was scored; all others are metrics."""

MODELS = ("global", "mean", "ensemble")
"""Models that may speak for an arm at a held-out site, the first of them that there is."""
