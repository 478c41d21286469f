"""What is said to a person in a sentence, without a trace."""

from __future__ import annotations

import sys


class ConfigError(ValueError):
    """A user's mistake that was found before any training: one sentence with value, rule and way out."""


class DamagedFileError(ValueError):
    """A file of a run that is not what was written; the message names it."""


class ExportError(ValueError):
    """A model that could not be written, or that is another one after it was written."""


def say(what: object, code: int = 0) -> int:
    """Tells a person, beside what the command prints, and returns the exit code.

    Args:
        what: A sentence, or an error with one or several of them.
        code: The exit code of the command.
    """
    for line in what.args if isinstance(what, BaseException) and what.args else (what,):
        sys.stderr.write(f"fedlight: {line}\n")
    return code
