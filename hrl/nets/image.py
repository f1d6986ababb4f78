"""Encode and decode images for world models: DreamerV3's networks, and strided ones for CPUs.

Maps are [batch, height, width, channel] throughout. PyTorch's convolutions get them as
channels-last views, so that norms and matrix products over channels need no copies. Under
`torch.autocast` convolutions and products run in its dtype, norms and the loss in float32.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.nets.block_linear import BlockLinear
from hrl.nets.dense import Dense, RMSNorm, linear, truncated_normal_
from hrl.nets.patches import depth_to_space, space_to_depth

# Channels of the maps of 1/2, 1/4, 1/8 and 1/16 of the image's side, in units of `depth`.
MULTIPLIERS = (2, 3, 4, 4)
REDUCTION = 1 << len(MULTIPLIERS)
# The strided variant works on patches in place of so many of the finest scales.
_SKIPPED = 2
PATCH = 1 << _SKIPPED


class ImageEncoder(nn.Module):
    """Map bytes to a flat vector, through maps of 1/2, 1/4, 1/8 and 1/16 of the image's side.

    As in DreamerV3 (Hafner et al. 2023, arXiv 2301.04104, and its published code), each scale has a
    convolution, 2x2 maximum pooling, RMSNorm over channels and SiLU. The strided variant begins
    with one matrix product over 4x4 patches and pools by strides: the maps of 1/4, 1/8 and 1/16
    have the same sizes, at a small part of the cost.

    Args:
        image_size: side of the square image in pixels, a multiple of 16.
        channels: of the image.
        depth: the finest maps have twice, the coarsest four times as many channels.
        kernel: side of the convolutions' kernels, odd.
        strided: whether to use the variant for CPUs.

    Attributes:
        outputs: size of the vector.

    Raises:
        ValueError: a size does not fit; the message names it.
    """

    def __init__(
        self, image_size: int, channels: int, depth: int, kernel: int = 5, strided: bool = False
    ) -> None:
        super().__init__()
        widths = [depth * multiplier for multiplier in MULTIPLIERS]
        self.outputs = _coarsest_side(image_size, kernel) ** 2 * widths[-1]
        self.stages = (_strided_stages if strided else _pooled_stages)(channels, widths, kernel)

    def forward(
        self, pixels: UInt8[Tensor, "*batch height width channel"]
    ) -> Float[Tensor, "*batch outputs"]:
        """Return the coarsest maps, flattened."""
        maps: Tensor = self.stages(pixels.reshape(-1, *pixels.shape[-3:]))
        return maps.reshape(*pixels.shape[:-3], self.outputs)


class ImageDecoder(nn.Module):
    """Map the model's state to an image in [0, 1], through maps of 1/16 to 1/2 of its side.

    As in DreamerV3, the recurrent state through a block-diagonal layer and the latent through a
    perceptron add up to the coarsest map. Then each scale has RMSNorm over channels, SiLU, nearest
    upsampling and a convolution. The strided variant ends with one matrix product from the map of
    1/4 to patches of 4x4 pixels.

    Args:
        image_size: side of the square image in pixels, a multiple of 16.
        channels: of the image.
        deter: size of the recurrent state.
        stoch: size of the flat latent.
        units: half the width of the latent's hidden layer.
        depth: as of the encoder.
        blocks: of the recurrent state's layer; divides `deter` and four times `depth`.
        kernel: side of the convolutions' kernels, odd.
        strided: whether to use the variant for CPUs.

    Raises:
        ValueError: a size does not fit; the message names it.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        deter: int,
        stoch: int,
        units: int,
        depth: int,
        blocks: int = 8,
        kernel: int = 5,
        strided: bool = False,
    ) -> None:
        super().__init__()
        widths = [depth * multiplier for multiplier in reversed(MULTIPLIERS)]
        if widths[0] % blocks:
            raise ValueError(f"depth is {depth}; blocks, which is {blocks}, must divide 4 * depth")
        self.side = _coarsest_side(image_size, kernel)
        self.blocks = blocks
        self.deter = BlockLinear(deter, self.side**2 * widths[0], blocks)
        self.stoch = Dense(stoch, [2 * units], self.side**2 * widths[0])
        self.norm = RMSNorm(widths[0])
        last: nn.Module = _UpsampleConv(widths[-1], channels, kernel)
        if strided:
            widths = widths[: 1 - _SKIPPED]
            last = _PatchHead(widths[-1], channels)
        stages = [
            _stage(_UpsampleConv(before, after, kernel), after)
            for before, after in pairwise(widths)
        ]
        self.stages = nn.Sequential(*stages, last)

    def forward(
        self, deter: Float[Tensor, "*batch deter"], stoch: Float[Tensor, "*batch stoch"]
    ) -> Float[Tensor, "*batch height width channel"]:
        """Return the image that belongs to the state, in float32."""
        return torch.sigmoid(self.logits(deter, stoch).float())

    def logits(
        self, deter: Float[Tensor, "*batch deter"], stoch: Float[Tensor, "*batch stoch"]
    ) -> Float[Tensor, "*batch height width channel"]:
        """Return the image before the sigmoid."""
        logits: Tensor = self.stages[-1](self._maps(deter, stoch))
        return logits.reshape(*deter.shape[:-1], *logits.shape[-3:])

    def loss(
        self,
        deter: Float[Tensor, "*batch deter"],
        stoch: Float[Tensor, "*batch stoch"],
        pixels: UInt8[Tensor, "*batch height width channel"],
    ) -> Float[Tensor, "*batch"]:
        """Return the `image_loss` of the logits.

        The strided variant compares patches with patches: cutting bytes is cheaper than joining
        logits.
        """
        maps = self._maps(deter, stoch)
        images = pixels.reshape(-1, *pixels.shape[-3:])
        last = self.stages[-1]
        if isinstance(last, _PatchHead):
            loss = image_loss(last.project(maps), space_to_depth(images, PATCH))
        else:
            loss = image_loss(last(maps), images)
        return loss.reshape(deter.shape[:-1])

    def _maps(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """Return the finest maps before the last layer, [all, height, width, channel]."""
        channels = self.norm.scale.numel() // self.blocks
        # Each block of the recurrent state fills its own channels at every position.
        block_maps = self.deter(deter).reshape(-1, self.blocks, self.side, self.side, channels)
        maps = block_maps.permute(0, 2, 3, 1, 4).flatten(-2)
        maps = maps + self.stoch(stoch).reshape(maps.shape)
        finest: Tensor = self.stages[:-1](F.silu(self.norm(maps)))
        return finest


def image_loss(
    logits: Float[Tensor, "*batch height width channel"],
    pixels: UInt8[Tensor, "*batch height width channel"],
) -> Float[Tensor, "*batch"]:
    """Return the squared error of sigmoid(logits) to bytes over 255, summed over each image.

    There is no factor 1/2.
    """
    loss: Tensor = _SigmoidSquaredError.apply(logits, pixels)  # type: ignore[no-untyped-call]
    return loss


class _SigmoidSquaredError(torch.autograd.Function):
    """Compute loss and gradient together, because images are the largest tensors of an update.

    Every pass over them that is saved shortens the update.
    """

    @staticmethod
    def forward(context: Any, logits: Tensor, pixels: Tensor) -> Tensor:
        image = torch.sigmoid(logits.float())
        error = torch.sub(image, pixels, alpha=1 / 255)
        if logits.requires_grad:
            slope = torch.ops.aten.sigmoid_backward(error, image)
            context.save_for_backward(slope.to(logits.dtype))
        return error.square_().sum((-3, -2, -1))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = context.saved_tensors
        return slope * (2 * gradient).to(slope.dtype)[..., None, None, None], None


def _coarsest_side(image_size: int, kernel: int) -> int:
    if image_size < REDUCTION or image_size % REDUCTION:
        raise ValueError(f"image_size is {image_size}; it must be a multiple of {REDUCTION}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel is {kernel}; it must be odd and positive")
    return image_size // REDUCTION


def _stage(layer: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(layer, RMSNorm(width), nn.SiLU())


def _pooled_stages(channels: int, widths: list[int], kernel: int) -> nn.Sequential:
    stages = [
        _stage(_PooledConv(before, after, kernel), after)
        for before, after in pairwise([channels, *widths])
    ]
    return nn.Sequential(_Center(), *stages)


def _strided_stages(channels: int, widths: list[int], kernel: int) -> nn.Sequential:
    widths = widths[_SKIPPED - 1 :]
    stages = [
        _stage(_Conv(before, after, kernel, stride=2), after) for before, after in pairwise(widths)
    ]
    return nn.Sequential(_stage(_PatchStem(channels, widths[0]), widths[0]), *stages)


def _compute_dtype(device: torch.device) -> torch.dtype:
    return (
        torch.get_autocast_dtype(device.type)
        if torch.is_autocast_enabled(device.type)
        else torch.float32
    )


class _Center(nn.Module):
    """Map bytes to [-0.5, 0.5]."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.to(_compute_dtype(pixels.device)) / 255 - 0.5


class _Conv(nn.Conv2d):
    """Convolve maps with zero padding: a stride of 1 keeps their side, a stride of 2 halves it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2)
        assert self.bias is not None
        truncated_normal_(self.weight, inputs * kernel**2)
        nn.init.zeros_(self.bias)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _PooledConv(_Conv):
    """Convolve, then take the maximum of each 2x2 block."""

    def forward(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(super().forward(maps).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class _UpsampleConv(_Conv):
    """Upsample by two (nearest) and convolve, computed as one transposed convolution.

    After upsampling, several of the kernel's columns and rows meet copies of the same coarse
    element. Their weights are summed beforehand: a coarse element, which has two copies along each
    axis, adds to (k + 1) x (k + 1) fine elements by a kernel of k x k. The map is the same, borders
    included, for 2.8 (k = 5) or 2.25 (k = 3) times fewer multiplications and without the upsampled
    copy in memory.
    """

    def forward(self, maps: Tensor) -> Tensor:
        # The sums are exact to float32 before anything is rounded to autocast's dtype.
        with torch.autocast(maps.device.type, enabled=False):
            two_copies = torch.ones(1, 1, 2, 2, device=maps.device)
            # [inputs, outputs, row, column], from coarse to fine
            mirrored = self.weight.flip(-2, -1).transpose(0, 1)
            flat = mirrored.flatten(0, 1).unsqueeze(1)
            kernels = F.conv2d(flat, two_copies, padding=1).squeeze(1)
        kernels = kernels.unflatten(0, mirrored.shape[:2])
        channels_first = maps.permute(0, 3, 1, 2)
        padding = self.weight.shape[-1] // 2
        fine = F.conv_transpose2d(channels_first, kernels, self.bias, stride=2, padding=padding)
        return fine.permute(0, 2, 3, 1)


class _PatchStem(nn.Module):
    """Cut bytes into patches and map each to features by one matrix product.

    This is a convolution whose stride is its kernel's side.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.project = linear(PATCH**2 * channels, outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = space_to_depth(pixels, PATCH).to(_compute_dtype(pixels.device))
        # Scale by 1/255 and subtract 1/2 on the few weights rather than on the many pixels.
        weight = self.project.weight
        return F.linear(patches, weight / 255, self.project.bias - 0.5 * weight.sum(1))


class _PatchHead(nn.Module):
    """Map features to adjacent patches by one matrix product.

    This is a transposed convolution whose stride is its kernel's side.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.project = linear(inputs, PATCH**2 * channels)

    def forward(self, maps: Tensor) -> Tensor:
        return depth_to_space(self.project(maps), PATCH)
