"""What is said to a person in a sentence, without a trace."""

from __future__ import annotations


class ConfigError(ValueError):
    """A user's mistake that was found before any training: one sentence with value, rule and way out."""


class DamagedFileError(ValueError):
    """A file of a run that is not what was written; the message names it."""


class ExportError(ValueError):
    """A model that could not be written, or that is another one after it was written."""
