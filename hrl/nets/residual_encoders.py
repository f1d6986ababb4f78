"""Encode images by residual networks: IMPALA's, and ResNet's basic blocks."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.nets.encoder import Encoder, EncoderConfig, register_encoder
from hrl.nets.mlp import orthogonal_

BLOCKS = 2
"""Residual blocks of each of IMPALA's sequences and of each of ResNet-18's stages."""
GROUP = 16
"""Channels of a group that GroupNorm normalises together (Wu & He 2018, arXiv 1803.08494)."""


class ResidualEncoder(Encoder):
    """Encode images as they are by stages of maps [batch, channel, height, width]."""

    stages: nn.Sequential

    @classmethod
    def stored_bytes(cls, image_size: int, in_channels: int) -> int:
        """Return the bytes of an image: it is stored as it is."""
        return image_size**2 * in_channels

    def to_patches(
        self, pixels: Num[Tensor, "batch height width channel"]
    ) -> Num[Tensor, "batch height width channel"]:
        """Return the images as they are: every pixel is a patch."""
        return pixels

    def _maps(self, patches: Tensor) -> Tensor:
        # One layout in memory whatever the caller's is: convolutions add in an order that depends
        # on it.
        images = patches.contiguous().to(self.autocast).permute(0, 3, 1, 2) / 255
        maps: Tensor = self.stages(images)
        return maps


@register_encoder("impala")
class ImpalaEncoder(ResidualEncoder):
    """Encode by the larger network of IMPALA (Espeholt et al. 2018, arXiv 1802.01561, figure 3).

    Each sequence has a 3x3 convolution, 3x3 maximum pooling of stride 2, and two residual blocks;
    a block adds to its input what two ReLUs, each followed by a 3x3 convolution, make of it. A ReLU
    follows the last sequence. In place of the paper's linear layer with ReLU stands the end that
    all kinds of encoders share here, and the LSTM is left out.
    """

    @classmethod
    def map_bytes(cls, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        """Return the bytes of the convolutions' and the blocks' maps in float32."""
        values = image_size**2 * in_channels
        side = image_size
        for channels in config.channels:
            pooled = (side + 1) // 2
            # Pooling keeps an index of eight bytes a value; a block keeps four maps.
            values += channels * (side**2 + pooled**2 * (2 + 4 * BLOCKS))
            side = pooled
        return 4 * values

    def _make_maps(self, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        widths = [in_channels, *config.channels]
        sequences = [_Sequence(before, after) for before, after in pairwise(widths)]
        self.stages = nn.Sequential(*sequences, nn.ReLU())
        side = image_size
        for _ in sequences:
            side = (side + 1) // 2
        return side * side * widths[-1]


@register_encoder("resnet")
class ResNetEncoder(ResidualEncoder):
    """Encode by a residual network of basic blocks (He et al. 2016, arXiv 1512.03385).

    As in ResNet-18, a 7x7 convolution of stride 2 and 3x3 maximum pooling of stride 2 come first,
    then a stage of two blocks for each number of channels; every stage but the first halves the
    side of the maps. GroupNorm (Wu & He 2018, arXiv 1803.08494) replaces batch normalisation, whose
    statistics would differ between acting and learning. The last maps are not averaged, because
    control depends on where things are.
    """

    @classmethod
    def map_bytes(cls, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        """Return the bytes of the stem's and the blocks' maps in float32."""
        values = image_size**2 * in_channels
        side = (image_size + 1) // 2
        values += 3 * config.channels[0] * side**2
        side = (side + 1) // 2
        for index, channels in enumerate(config.channels):
            side = side if index == 0 else (side + 1) // 2
            # A block keeps the inputs of convolutions, norms and ReLUs; the first of a stage those
            # of its shortcut too.
            values += channels * side**2 * (6 * BLOCKS + 2)
        return 4 * values

    def _make_maps(self, image_size: int, in_channels: int, config: EncoderConfig) -> int:
        widths = [config.channels[0], *config.channels]
        stages: list[nn.Module] = [_ResNetStem(in_channels, widths[0])]
        side = (image_size + 3) // 4
        for index, (before, after) in enumerate(pairwise(widths)):
            stride = 1 if index == 0 else 2
            side = (side + stride - 1) // stride
            stages.append(_BasicBlock(before, after, stride))
            stages += [_BasicBlock(after, after, 1) for _ in range(BLOCKS - 1)]
        self.stages = nn.Sequential(*stages)
        return side * side * widths[-1]


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    return orthogonal_(layer, 2**0.5)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // GROUP if channels % GROUP == 0 else 1, channels)


class _Sequence(nn.Module):
    """Convolve, pool, and apply residual blocks."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs)
        self.blocks = nn.ModuleList(_ImpalaBlock(outputs) for _ in range(BLOCKS))

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.max_pool2d(self.conv(maps), 3, stride=2, padding=1)
        for block in self.blocks:
            maps = block(maps)
        return maps


class _ImpalaBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(F.relu(maps))))
        return maps + change


class _ResNetStem(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs, kernel=7, stride=2)
        self.norm = _norm(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.norm(self.conv(maps))), 3, stride=2, padding=1)


class _BasicBlock(nn.Module):
    """Add to the input, or to its projection where the shape changes, two convolutions of it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, stride=stride)
        self.first_norm = _norm(outputs)
        self.second = _conv(outputs, outputs)
        self.second_norm = _norm(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _conv(inputs, outputs, 1, stride)

    def forward(self, maps: Tensor) -> Tensor:
        change = F.relu(self.first_norm(self.first(maps)))
        change = self.second_norm(self.second(change))
        return F.relu(self.shortcut(maps) + change)
