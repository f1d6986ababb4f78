"""Encode a body's own state, in place of images or beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from typing_extensions import override

from hrl.nets.encoder import Encoder, ObservationEncoder
from hrl.nets.mlp import MLP
from hrl.nets.two_hot import symlog


class StateEncoder(ObservationEncoder):
    """Map states to features: symlog, a perceptron, LayerNorm, tanh.

    Symlog (DreamerV3, arXiv 2301.04104) brings positions, velocities and forces, whose units differ
    by orders of magnitude, near to each other without running statistics.

    Args:
        state_size: numbers of a state.
        hidden: hidden layers of the perceptron.
        features: size of the feature vector.
    """

    def __init__(self, state_size: int, hidden: Sequence[int], features: int) -> None:
        super().__init__()
        self.features = features
        self.layers = MLP(state_size, hidden, features)
        self.norm = nn.LayerNorm(features)

    @override
    def columns(
        self,
        pixels: Num[Tensor, "batch height width channel"],
        state: Float[Tensor, "batch state"],
    ) -> dict[str, Tensor]:
        """Return the state alone."""
        del pixels
        return {"state": state}

    @override
    def encode_columns(self, columns: Mapping[str, Tensor]) -> Float[Tensor, "batch features"]:
        """Return features in [-1, 1] of states."""
        return torch.tanh(self.norm(self.layers(symlog(columns["state"]))))


class PixelsAndStateEncoder(ObservationEncoder):
    """Map images and states to the features of both, side by side.

    Args:
        pixels: encodes the images.
        state: encodes the states.
    """

    def __init__(self, pixels: Encoder, state: StateEncoder) -> None:
        super().__init__()
        self.pixels = pixels
        self.state = state
        self.features = pixels.features + state.features

    @override
    def columns(
        self,
        pixels: Num[Tensor, "batch height width channel"],
        state: Float[Tensor, "batch state"],
    ) -> dict[str, Tensor]:
        """Return the columns of both."""
        return self.pixels.columns(pixels, state) | self.state.columns(pixels, state)

    @override
    def encode_columns(self, columns: Mapping[str, Tensor]) -> Float[Tensor, "batch features"]:
        """Return the features of the images, then those of the states."""
        encoders = (self.pixels, self.state)
        return torch.cat([encoder.encode_columns(columns) for encoder in encoders], -1)
