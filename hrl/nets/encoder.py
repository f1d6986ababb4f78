"""Encode images for on-policy agents and for those of stable-baselines3.

Kinds of encoders are registered by name: `cnn` here, `impala` and `resnet` in
`hrl.nets.residual_encoders`, others by `register_encoder` in a module of a user. World-model agents
encode images by `hrl.nets.image.ImageEncoder` instead.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.config_field import MAX_SIZE, CheckedConfig, ConfigValueError, config_field
from hrl.nets.mlp import orthogonal_
from hrl.nets.patches import space_to_depth

DEFAULT_ENCODER = "cnn"


@dataclass(frozen=True)
class EncoderConfig(CheckedConfig):
    """Hold the kind of the encoder and its sizes."""

    kind: str = config_field(
        DEFAULT_ENCODER,
        "cnn: a stem over patches and strided convolutions; impala: IMPALA's residual network; "
        "resnet: basic blocks of ResNet; or a kind that an imported module registered",
    )
    patch: int = config_field(
        4,
        "of kind cnn, side of the square patches that the stem cuts the image into; divides the "
        "image size",
        at_least=1,
        at_most=MAX_SIZE,
    )
    channels: list[int] = config_field(
        default_factory=lambda: [32, 32, 64],
        help="channels; cnn: after the stem, then after each 3x3 convolution of stride 2; impala: "
        "of each sequence (published: 16, 32, 32); resnet: of each stage (published: 64, 128, 256, "
        "512)",
        at_least=1,
        at_most=MAX_SIZE,
    )
    features: int = config_field(256, "size of the feature vector", at_least=1, at_most=MAX_SIZE)
    weights: str = config_field(
        "", "file of weights, of a registered kind that loads one; the kinds above load none"
    )

    def check_together(self) -> None:
        """Refuse an unknown kind, one without channels, and weights that nothing would load."""
        try:
            encoder = find_encoder(self.kind)
        except UnknownEncoderError as error:
            raise ConfigValueError("kind", self.kind, str(error)) from error
        if not self.channels:
            raise ConfigValueError("channels", list(self.channels), "give at least one size")
        if encoder.loads_weights != bool(self.weights):
            rule = "name a file" if encoder.loads_weights else "it must be empty"
            raise ConfigValueError("weights", self.weights, f"with kind={self.kind} {rule}")


class UnknownEncoderError(ValueError):
    """Report a name that no kind of encoder was registered under."""


class ObservationEncoder(nn.Module, ABC):
    """Map what is observed, beside the task, to features.

    Attributes:
        features: size of the feature vector.
    """

    features: int

    @abstractmethod
    def columns(
        self,
        pixels: Num[Tensor, "batch height width channel"],
        state: Float[Tensor, "batch state"],
    ) -> dict[str, Tensor]:
        """Return by name what is encoded, which a learner may store to encode it again."""

    @abstractmethod
    def encode_columns(self, columns: Mapping[str, Tensor]) -> Float[Tensor, "batch features"]:
        """Return features in [-1, 1] of what `columns` gave; other columns are ignored."""


class Encoder(ObservationEncoder):
    """Map images to features: maps of the kind, a linear layer, LayerNorm, tanh.

    A learner that encodes an image several times stores its patches (`to_patches`) and encodes
    those (`encode_patches`). A kind that cuts no patches stores the image's bytes as they are.

    Args:
        image_size: side of the square image in pixels.
        in_channels: 3 times the frame stack.
        config: sizes.
        autocast: dtype of the convolutions and matrix products, `torch.float32` or
            `torch.bfloat16`; parameters and output features are float32 in both cases.

    Attributes:
        features: size of the feature vector.
        loads_weights: whether the kind takes weights from the file `config.weights`.

    Raises:
        ValueError: a size that does not fit the image; the message names it.
    """

    loads_weights = False
    project: nn.Linear
    norm: nn.LayerNorm

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        config: EncoderConfig,
        autocast: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.autocast = autocast
        self.features = config.features
        outputs = self._make_maps(image_size, in_channels, config)
        self.project = orthogonal_(nn.Linear(outputs, config.features), 1.0)
        self.norm = nn.LayerNorm(config.features)

    @classmethod
    def check_size(cls, image_size: int, config: EncoderConfig) -> None:
        """Refuse an image that the kind cannot encode.

        Raises:
            ConfigValueError: names the key of the encoder's configuration.
        """

    @classmethod
    @abstractmethod
    def stored_bytes(cls, image_size: int, in_channels: int) -> int:
        """Return the bytes that `to_patches` of one image takes, at most."""

    @classmethod
    @abstractmethod
    def map_bytes(cls, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        """Return the bytes of one image's maps that a backward pass needs, roughly."""

    @abstractmethod
    def _make_maps(self, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        """Make the layers of the maps, and return the number of values in the last ones."""

    @abstractmethod
    def _maps(self, patches: Tensor) -> Tensor:
        """Return the last maps [batch, ...] of patches from `to_patches`."""

    @abstractmethod
    def to_patches(
        self, pixels: Num[Tensor, "batch height width channel"]
    ) -> Num[Tensor, "batch row column patch"]:
        """Return what is encoded of images: their patches, which may be single pixels."""

    def forward(
        self, pixels: Num[Tensor, "batch height width channel"]
    ) -> Float[Tensor, "batch features"]:
        """Return features in [-1, 1] of images in [0, 255], preferably given as bytes."""
        return self.encode_patches(self.to_patches(pixels))

    def columns(
        self,
        pixels: Num[Tensor, "batch height width channel"],
        state: Float[Tensor, "batch state"],
    ) -> dict[str, Tensor]:
        """Return the patches of images by name; states are not encoded here."""
        del state
        return {"patches": self.to_patches(pixels)}

    def encode_columns(self, columns: Mapping[str, Tensor]) -> Float[Tensor, "batch features"]:
        """Return features in [-1, 1] of what `columns` gave; other columns are ignored."""
        return self.encode_patches(columns["patches"])

    def encode_patches(
        self, patches: Num[Tensor, "batch row column patch"]
    ) -> Float[Tensor, "batch features"]:
        """Return features in [-1, 1] of patches from `to_patches`."""
        with torch.autocast(
            patches.device.type, dtype=self.autocast, enabled=self.autocast != torch.float32
        ):
            hidden = self._maps(patches)
            features = self.project(hidden.flatten(1))
        return torch.tanh(self.norm(features.float()))


EncoderClass = TypeVar("EncoderClass", bound=type[Encoder])
_KINDS: dict[str, type[Encoder]] = {}


def register_encoder(kind: str) -> Callable[[EncoderClass], EncoderClass]:
    """Return a decorator that registers a kind of encoder, for `network.encoder.kind`.

    Args:
        kind: its name.

    Raises:
        ValueError: the name is taken by another module.
    """

    def register(encoder: EncoderClass) -> EncoderClass:
        taken = _KINDS.get(kind)
        if taken is not None and taken.__module__ != encoder.__module__:
            raise ValueError(
                f"encoder {kind!r} of module {encoder.__module__} has the name of one that module "
                f"{taken.__module__} registered; choose another name"
            )
        _KINDS[kind] = encoder
        return encoder

    return register


def find_encoder(kind: str) -> type[Encoder]:
    """Return the class of a kind of encoder.

    Raises:
        UnknownEncoderError: names the registered kinds.
    """
    importlib.import_module("hrl.nets.residual_encoders")  # it registers its kinds
    if kind not in _KINDS:
        raise UnknownEncoderError(
            f"choose from {', '.join(sorted(_KINDS))}, or import the module that registers it"
        )
    return _KINDS[kind]


@register_encoder(DEFAULT_ENCODER)
class ConvEncoder(Encoder):
    """Encode by a patch stem and strided convolutions.

    The stem is a convolution whose kernel equals its stride, computed as one matrix product over
    patches: bytes are rearranged before they are widened to floats, and a CPU's bf16 matrix units
    are fast at the product.
    """

    @classmethod
    def check_size(cls, image_size: int, config: EncoderConfig) -> None:
        """Refuse patches that do not divide the image."""
        if image_size % config.patch:
            rule = f"it must divide image_size, which is {image_size}"
            raise ConfigValueError("patch", config.patch, rule)

    @classmethod
    def stored_bytes(cls, image_size: int, in_channels: int) -> int:
        """Return the bytes of patches in float32; in bfloat16 they take half of it."""
        return 4 * image_size**2 * in_channels

    @classmethod
    def map_bytes(cls, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        """Return the bytes of the stem's maps, which have about the size of the patches."""
        del config
        return 4 * image_size**2 * in_channels

    def _make_maps(self, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        self.check_size(image_size, config)
        self.patch = config.patch
        widths = list(config.channels)
        self.stem = orthogonal_(nn.Linear(config.patch**2 * in_channels, widths[0]), 2**0.5)
        convolutions = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
        self.convolutions = nn.ModuleList(orthogonal_(layer, 2**0.5) for layer in convolutions)
        side = image_size // config.patch
        for _ in convolutions:
            side = (side + 1) // 2
        return side * side * widths[-1]

    def to_patches(
        self, pixels: Num[Tensor, "batch height width channel"]
    ) -> Float[Tensor, "batch row column patch"]:
        """Return the patches of images in the dtype of the matrix products.

        Bfloat16 represents every byte exactly.
        """
        return space_to_depth(pixels, self.patch).to(self.autocast)

    def _maps(self, patches: Tensor) -> Tensor:
        # Divide the few weights by 255 rather than the many pixels.
        hidden = F.relu(F.linear(patches, self.stem.weight / 255, self.stem.bias))
        hidden = hidden.permute(0, 3, 1, 2)  # a view: channels stay last in memory
        for layer in self.convolutions:
            hidden = F.relu(layer(hidden))
        return hidden.permute(0, 2, 3, 1)
