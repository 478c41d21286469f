"""What the writer and the readers of results agree on: the format of a record, the keys of a case, the human arm."""

FORMAT = 1
"""Of ``job.json``."""

HUMAN = "human"
"""The arm of a second annotator, where there is one."""

KEYS = ("domain", "checkpoint", "model", "site", "case")
"""Columns of ``cases.csv`` that say what was scored; all others are metrics."""

MODELS = ("global", "mean", "ensemble")
"""Models that may speak for an arm at a held-out site, the first of them that there is."""
