"""Encode images for on-policy agents and for those of stable-baselines3.

World-model agents encode images by `hrl.nets.image.ImageEncoder` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.config_field import MAX_SIZE, CheckedConfig, ConfigValueError, config_field
from hrl.nets.mlp import orthogonal_
from hrl.nets.patches import space_to_depth


@dataclass(frozen=True)
class EncoderConfig(CheckedConfig):
    """Hold the sizes of the encoder."""

    patch: int = config_field(
        4,
        "side of the square patches that the stem cuts the image into; divides the image size",
        at_least=1,
        at_most=MAX_SIZE,
    )
    channels: list[int] = config_field(
        default_factory=lambda: [32, 32, 64],
        help="channels after the stem, then after each 3x3 convolution of stride 2",
        at_least=1,
        at_most=MAX_SIZE,
    )
    features: int = config_field(256, "size of the feature vector", at_least=1, at_most=MAX_SIZE)

    def check_together(self) -> None:
        """Refuse an encoder without a stem."""
        if not self.channels:
            raise ConfigValueError("channels", list(self.channels), "give at least one size")


class Encoder(nn.Module):
    """Map images to features: patch stem, strided convolutions, linear layer, LayerNorm, tanh.

    The stem is a convolution whose kernel equals its stride, computed as one matrix product over
    patches: bytes are rearranged before they are widened to floats, and a CPU's bf16 matrix units
    are fast at the product. A learner that encodes an image several times stores its patches
    (`to_patches`) and encodes those (`encode_patches`).

    Args:
        image_size: side of the square image in pixels; divisible by `config.patch`.
        in_channels: 3 times the frame stack.
        config: sizes.
        autocast: dtype of the convolutions and matrix products, `torch.float32` or
            `torch.bfloat16`; parameters and output features are float32 in both cases.

    Attributes:
        features: size of the feature vector.

    Raises:
        ValueError: `config.patch` does not divide `image_size`.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        config: EncoderConfig,
        autocast: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if image_size % config.patch:
            raise ValueError(
                f"patch is {config.patch}; it must divide image_size, which is {image_size}"
            )
        self.patch = config.patch
        self.autocast = autocast
        self.features = config.features
        widths = list(config.channels)
        self.stem = orthogonal_(nn.Linear(config.patch**2 * in_channels, widths[0]), 2**0.5)
        convolutions = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
        self.convolutions = nn.ModuleList(orthogonal_(layer, 2**0.5) for layer in convolutions)
        side = image_size // config.patch
        for _ in convolutions:
            side = (side + 1) // 2
        self.project = orthogonal_(nn.Linear(side * side * widths[-1], config.features), 1.0)
        self.norm = nn.LayerNorm(config.features)

    def forward(
        self, pixels: Num[Tensor, "batch height width channel"]
    ) -> Float[Tensor, "batch features"]:
        """Return features in [-1, 1] of images in [0, 255], preferably given as bytes."""
        return self.encode_patches(self.to_patches(pixels))

    def to_patches(
        self, pixels: Num[Tensor, "batch height width channel"]
    ) -> Float[Tensor, "batch row column patch"]:
        """Return the patches of images in the dtype of the matrix products.

        Bfloat16 represents every byte exactly.
        """
        return space_to_depth(pixels, self.patch).to(self.autocast)

    def encode_patches(
        self, patches: Float[Tensor, "batch row column patch"]
    ) -> Float[Tensor, "batch features"]:
        """Return features in [-1, 1] of patches from `to_patches`."""
        with torch.autocast(
            patches.device.type, dtype=self.autocast, enabled=self.autocast != torch.float32
        ):
            hidden = self._maps(patches)
            features = self.project(hidden.flatten(1))
        return torch.tanh(self.norm(features.float()))

    def _maps(self, patches: Tensor) -> Tensor:
        # Divide the few weights by 255 rather than the many pixels.
        hidden = F.relu(F.linear(patches, self.stem.weight / 255, self.stem.bias))
        hidden = hidden.permute(0, 3, 1, 2)  # a view: channels stay last in memory
        for layer in self.convolutions:
            hidden = F.relu(layer(hidden))
        return hidden.permute(0, 2, 3, 1)
