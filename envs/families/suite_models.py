"""dm_control's own suite models, read from the installed package without importing it.

Importing `dm_control.suite` would load every domain and choose an OpenGL backend, neither of which is needed here.
"""

from importlib.util import find_spec
from pathlib import Path


def suite_model_path(name: str) -> Path:
    """The MJCF file of a suite domain such as "walker".

    Raises:
        FileNotFoundError: the installed dm-control has no such file.
    """
    spec = find_spec("dm_control")
    roots = list(spec.submodule_search_locations or []) if spec else []
    paths = [Path(root) / "suite" / f"{name}.xml" for root in roots]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise FileNotFoundError(f"the installed dm-control has no suite model {name!r} (looked for {paths})")
    return found[0]
