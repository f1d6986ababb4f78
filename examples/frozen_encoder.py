"""Use a pretrained encoder that never changes: here the one of another run.

    export PYTHONPATH=examples
    pixel-hrl train agent=ppo suite=debug folder=runs/pretrained
    pixel-hrl train --import=frozen_encoder agent=skills suite=debug method=skills_frozen \
        network.encoder.kind=frozen network.encoder.weights=runs/pretrained/policy.safetensors

Its sizes (`patch`, `channels`, `features`, `image_size`, `frame_stack`) are those of that run,
whose encoder was of kind cnn. The file is read whenever the agent is built: it must stay there. An
encoder from elsewhere is registered in the same way, as a subclass of `hrl.nets.encoder.Encoder`
that loads its own weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Num
from safetensors.torch import load_file
from torch import Tensor, nn

from hrl.nets.encoder import ConvEncoder, EncoderConfig, register_encoder

PREFIX = "encoder."


@register_encoder("frozen")
class FrozenEncoder(ConvEncoder):
    """Encode images by the weights of a `policy.safetensors`, without gradient."""

    loads_weights = True

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        config: EncoderConfig,
        autocast: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(image_size, in_channels, config, autocast)
        self._load(Path(config.weights).expanduser())
        self.requires_grad_(False)

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Leave the weights as they are: stable-baselines3 would set all of them anew by this."""
        del fn
        return self

    def encode_patches(
        self, patches: Num[Tensor, "batch row column patch"]
    ) -> Float[Tensor, "batch features"]:
        """Return features as `ConvEncoder` does, without what a backward pass would need."""
        with torch.no_grad():
            return super().encode_patches(patches)

    def _load(self, path: Path) -> None:
        """Take over the encoder of a policy.

        Raises:
            ValueError: names the key and the file, and what is wrong with it.
        """
        key = f"network.encoder.weights is {str(path)!r}"
        if not path.is_file():
            raise ValueError(f"{key}; there is no such file")
        saved = load_file(path)
        own = {
            name.removeprefix(PREFIX): tensor
            for name, tensor in saved.items()
            if name.startswith(PREFIX)
        }
        try:
            self.load_state_dict(own)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{key}; it does not hold this encoder: {reason}") from error
