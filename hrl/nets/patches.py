"""Cut images into square patches, and join patches to images."""

from __future__ import annotations

from torch import Tensor


def space_to_depth(maps: Tensor, size: int) -> Tensor:
    """Cut maps into patches of `size` times `size` pixels, which become channels.

    Args:
        maps: [batch, height, width, channel].
        size: divides height and width.

    Returns:
        Patches, [batch, height / size, width / size, size * size * channel].
    """
    batch, height, width, channel = maps.shape
    tiles = maps.reshape(batch, height // size, size, width // size, size, channel).transpose(2, 3)
    return tiles.reshape(batch, height // size, width // size, size * size * channel)


def depth_to_space(maps: Tensor, size: int) -> Tensor:
    """Join patches that are channels to maps: the inverse of `space_to_depth`."""
    batch, height, width, channel = maps.shape
    rows = maps.reshape(batch, height, width, size, size, channel // size**2).transpose(2, 3)
    return rows.reshape(batch, height * size, width * size, channel // size**2)
