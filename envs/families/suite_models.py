"""Read dm_control's own models from the installed package without importing it.

Importing `dm_control.suite` would load every domain and choose an OpenGL backend, neither of which
is needed here.
"""

from importlib.util import find_spec
from pathlib import Path

import mujoco


def suite_model(name: str) -> mujoco.MjSpec:
    """Return a suite domain such as "walker", to be changed and compiled, without its sky.

    The sky is never drawn (a scene's background is one colour), but its texture would take 60 MB
    per thread.

    Raises:
        FileNotFoundError: the installed dm-control has no such domain.
    """
    spec = library_model(f"suite/{name}.xml")
    for texture in list(spec.textures):
        if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            spec.delete(texture)
    return spec


def library_model(file: str) -> mujoco.MjSpec:
    """Return a model file of dm_control.

    Args:
        file: path relative to the folder of dm_control's package.

    Raises:
        FileNotFoundError: there is no such file.
    """
    package = find_spec("dm_control")
    roots = list(package.submodule_search_locations or []) if package else []
    paths = [Path(root) / file for root in roots]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"the installed dm-control has no model {file!r} (looked for {paths})"
        )
    return mujoco.MjSpec.from_file(str(found[0]))
