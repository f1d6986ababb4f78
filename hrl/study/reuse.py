"""Find finished runs of other studies that are, to the revision, what a study asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from hrl.config import ComposedConfig, ConfigError
from hrl.run.checkpoints import newest_frames
from hrl.run.config_match import MAY_CHANGE, differing_keys, with_saved_physics
from hrl.run.folder import RunFolder, find_run_folders
from hrl.run.provenance import UNKNOWN, code_revision

_NAMES = re.compile(r"^(?:method|seed|frames): *(\S+)$", re.MULTILINE)


class FinishedRuns:
    """Look for finished runs in folders.

    Args:
        roots: folders that hold run folders at any depth; those that do not exist hold none.
        own: folder of the study that asks, whose runs are no others.
    """

    def __init__(self, roots: Sequence[Path], own: Path) -> None:
        self._roots = roots
        self._own = own.resolve()

    def find(self, composed: ComposedConfig, before: Path | None = None) -> Path | None:
        """Return the folder of a finished run of this configuration and of the present code.

        Budget and method's name are the same too, and neither revision has uncommitted changes.

        Args:
            composed: the configuration.
            before: the run that the study chose when the code was what it is of: it stays chosen,
                whatever changed since, while it is finished and of this configuration.
        """
        config = composed.config
        if before is not None and self._is_other(before) and self._fits(before, composed, ""):
            return before
        wanted = (config.method, str(config.seed), str(config.frames))
        candidates = self._by_name.get(wanted, [])
        found = (path for path in candidates if self._fits(path, composed, self._revision))
        return next(found, None)

    # Private methods.

    @cached_property
    def _revision(self) -> str:
        revision, dirty = code_revision()
        return UNKNOWN if dirty else revision

    @cached_property
    def _by_name(self) -> dict[tuple[str, str, str], list[Path]]:
        """Return run folders by method, seed and frames, without reading whole configurations."""
        found: dict[tuple[str, str, str], list[Path]] = {}
        if self._revision == UNKNOWN:
            return found
        for folder in self._folders():
            text = RunFolder(folder).config.read_text(errors="replace")
            named = {line.group(0).split(":")[0]: line.group(1) for line in _NAMES.finditer(text)}
            key = (named.get("method", ""), named.get("seed", ""), named.get("frames", ""))
            found.setdefault(key, []).append(folder)
        return found

    def _folders(self) -> list[Path]:
        folders: list[Path] = []
        for root in self._roots:
            with suppress(ConfigError):  # it holds no run
                folders += find_run_folders([root])
        return [folder for folder in folders if self._is_other(folder)]

    def _is_other(self, folder: Path) -> bool:
        return self._own not in folder.resolve().parents

    def _fits(self, folder: Path, composed: ComposedConfig, revision: str) -> bool:
        """Return whether a run is finished, of this configuration, and of a revision unless ""."""
        files = RunFolder(folder)
        try:
            saved = files.read_config()
            environment = json.loads(files.environment.read_text())
        except (ConfigError, OSError, ValueError, RecursionError):  # damaged, or of another version
            return False
        return (
            isinstance(environment, dict)
            and revision in ("", environment.get("revision"))
            and environment.get("dirty") is False
            and newest_frames(files.checkpoints) >= composed.config.frames
            and not differing_keys(
                saved, with_saved_physics(composed.plain, saved), ignore=MAY_CHANGE
            )
        )
