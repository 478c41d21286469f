"""Commands that answer without torch: they read files only, or must also work where it is broken."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from fedlight.errors import ConfigError, DamagedFileError, say


def light(arguments: Sequence[str]) -> int:
    """Runs one of these commands and returns the exit code: 0, 1 for a failure, 2 for a mistake, 130 if interrupted."""
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except ConfigError as error:
        return say(error, 2)
    except DamagedFileError as error:
        return say(error, 1)
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return say("interrupted", 130)


def _runs(arguments: Sequence[str]) -> int:
    from fedlight.watching.command import runs

    return runs(arguments)


def _watch(arguments: Sequence[str]) -> int:
    from fedlight.watching.command import watch

    return watch(arguments)


def _doctor(arguments: Sequence[str]) -> int:
    from fedlight.assist.command import doctor

    return doctor(arguments)


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {"runs": _runs, "watch": _watch, "doctor": _doctor}
