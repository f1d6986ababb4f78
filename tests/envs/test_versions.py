"""Packages of the simulator that do not belong together are refused by name and number."""

from collections.abc import Callable

import pytest

from envs.versions import check_backend, check_installed_versions, check_versions


def refused(check: Callable[[], None]) -> bool:
    try:
        check()
    except ImportError:
        return True
    return False


def test_the_installed_versions_belong_together() -> None:
    assert not refused(check_installed_versions)
    assert not refused(lambda: check_versions("3.16.2", "1.0.49", "3.16.0")), "a patch of mujoco"


@pytest.mark.parametrize(
    "versions",
    [("4.0.0", "1.0.49", "3.16.0"), ("3.16.0", "1.0.50", "3.16.0"), ("3.16.0", "1.0.49", "3.11.0")],
)
def test_others_are_refused(versions: tuple[str, str, str]) -> None:
    with pytest.raises(ImportError) as caught:
        check_versions(*versions)
    message = str(caught.value)
    assert (
        f"mujoco {versions[0]}, dm-control {versions[1]} and mujoco-warp {versions[2]}" in message
    )
    assert "mujoco 3.16.x with dm-control 1.0.49" in message


def test_an_error_names_the_valid_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "egl", "Disabled", "disable", "on", "glx", "osmesa"):
        monkeypatch.setenv("MUJOCO_GL", value)
        check_backend()
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(
        ImportError, match=r"MUJOCO_GL is 'vulkan'; leave it unset or choose from .*, egl, osmesa"
    ):
        check_backend()
