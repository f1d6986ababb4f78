"""Import the modules of a user, which register agents and task families.

Worker processes of external environments import the same modules before they make an environment.
"""

import importlib
import os
import sys
from collections.abc import Sequence

_imported: list[str] = []


def import_modules(names: Sequence[str]) -> None:
    """Import modules, each once; the working folder is searched too, as `python -m` does.

    Raises:
        ValueError: a module cannot be found, or fails while it is imported.
    """
    if names and "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        if name in _imported:
            continue
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ValueError(
                f"--import={name}: the module cannot be imported: {type(error).__name__}: {error}"
            ) from error
        _imported.append(name)


def search_path() -> str:
    """Return where this process looks for modules, as a value of PYTHONPATH.

    A Python that is started with `-P` and this value takes a file in the current directory, such as
    random.py, for a module only where this process does.
    """
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def imported_modules() -> tuple[str, ...]:
    """Return the modules that `import_modules` has imported, in order."""
    return tuple(_imported)
