"""The world model's encoder and decoder of images against plain convolutions, and everything
together, traced."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.image import ImageDecoder, ImageEncoder, image_loss
from hrl.nets.one_hot import OneHot, kl
from hrl.nets.patches import depth_to_space, space_to_depth
from hrl.nets.two_hot import TwoHot


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def randomise(module):
    """Biases and norms start at values that would hide a mistake with them."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter += 0.3 * draws(*parameter.shape, seed=index)
    return module


def slow_channel_norm(maps, scale):
    return maps / torch.sqrt((maps**2).mean(1, keepdim=True) + 1e-4) * scale[:, None, None]


def decoder_of(**sizes):
    return ImageDecoder(channels=3, deter=16, stoch=4, units=4, **sizes)


def images(*shape, seed=0):
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_image_networks_have_the_published_sizes():
    encoder = ImageEncoder(64, 3, depth=16)
    decoder = ImageDecoder(64, 3, deter=2048, stoch=512, units=256, depth=16, blocks=8)
    assert (count(encoder), count(decoder), encoder.outputs) == (220_416, 1_272_003, 4 * 4 * 64)


def test_encoder_equals_convolution_pooling_norm_silu():
    encoder = randomise(ImageEncoder(32, 3, depth=2))
    pixels = images(3, 32, 32, 3)
    maps = pixels.permute(0, 3, 1, 2).float() / 255 - 0.5
    parameters = list(encoder.parameters())
    for weight, bias, scale in zip(
        parameters[::3], parameters[1::3], parameters[2::3], strict=True
    ):
        maps = F.conv2d(maps, weight, bias, padding=2)
        batch, channel, height, width = maps.shape
        maps = maps.reshape(batch, channel, height // 2, 2, width // 2, 2).amax((3, 5))
        maps = F.silu(slow_channel_norm(maps, scale))
    torch.testing.assert_close(
        encoder(pixels), maps.permute(0, 2, 3, 1).flatten(1), rtol=1e-4, atol=1e-5
    )


def slow_decoder_stem(decoder, deter, stoch, side, width, blocks):
    """The coarsest map, element by element as the published code arranges it."""
    blocked, flat = decoder.deter(deter), decoder.stoch(stoch)
    maps = torch.empty(len(deter), width, side, side)
    share = width // blocks
    for block in range(blocks):
        for row in range(side):
            for column in range(side):
                for channel in range(share):
                    source = ((block * side + row) * side + column) * share + channel
                    maps[:, block * share + channel, row, column] = blocked[:, source]
    return maps + flat.reshape(len(deter), side, side, width).permute(0, 3, 1, 2)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_decoder_equals_upsampling_then_convolution(kernel):
    decoder = randomise(
        ImageDecoder(32, 3, deter=16, stoch=6, units=5, depth=2, blocks=4, kernel=kernel)
    )
    deter, stoch = draws(3, 16), draws(3, 6, seed=1)
    maps = slow_decoder_stem(decoder, deter, stoch, 2, 8, 4)
    maps = F.silu(slow_channel_norm(maps, decoder.norm.scale))
    parameters = list(decoder.stages.parameters())
    for index in range(0, len(parameters), 3):
        upsampled = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
        maps = F.conv2d(upsampled, parameters[index], parameters[index + 1], padding=kernel // 2)
        if index + 2 < len(parameters):
            maps = F.silu(slow_channel_norm(maps, parameters[index + 2]))
    expected = torch.sigmoid(maps).permute(0, 2, 3, 1)
    torch.testing.assert_close(decoder(deter, stoch), expected, rtol=1e-4, atol=1e-5)
    expected.square().sum().backward()
    slow = [parameter.grad.clone() for parameter in decoder.parameters()]
    decoder.zero_grad()
    decoder(deter, stoch).square().sum().backward()
    for parameter, gradient in zip(decoder.parameters(), slow, strict=True):
        # Sums of many terms, in another order: rounding is relative to the largest of them.
        torch.testing.assert_close(
            parameter.grad, gradient, rtol=1e-3, atol=2e-5 * float(gradient.abs().max())
        )


def test_patch_stem_equals_a_convolution_whose_stride_is_its_kernel():
    encoder = randomise(ImageEncoder(16, 3, depth=2, strided=True))
    pixels = images(2, 16, 16, 3)
    stem = encoder.stages[0][0]
    kernel = stem.project.weight.reshape(6, 4, 4, 3).permute(0, 3, 1, 2)
    expected = F.conv2d(
        pixels.permute(0, 3, 1, 2).float() / 255 - 0.5, kernel, stem.project.bias, stride=4
    )
    torch.testing.assert_close(stem(pixels), expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_patch_head_equals_a_transposed_convolution_whose_stride_is_its_kernel():
    decoder = randomise(ImageDecoder(16, 3, deter=16, stoch=6, units=5, depth=2, strided=True))
    head, maps = decoder.stages[-1], draws(2, 4, 4, 6)
    kernel = head.project.weight.reshape(4, 4, 3, 6).permute(3, 2, 0, 1)
    expected = F.conv_transpose2d(maps.permute(0, 3, 1, 2), kernel, stride=4).permute(0, 2, 3, 1)
    expected = expected + head.project.bias.reshape(1, 4, 1, 4, 3).expand(4, 4, 4, 4, 3).reshape(
        16, 16, 3
    )
    torch.testing.assert_close(head(maps), expected, rtol=1e-4, atol=1e-5)


def test_space_and_depth_are_inverse():
    maps = draws(2, 8, 12, 3)
    assert torch.equal(depth_to_space(space_to_depth(maps, 4), 4), maps)
    assert torch.equal(space_to_depth(maps, 4)[0, 1, 2, :12], maps[0, 4, 8:12].flatten())


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_images_take_any_batch_and_reach_every_weight(batch, strided):
    encoder = ImageEncoder(32, 4, depth=4, strided=strided)
    decoder = ImageDecoder(32, 4, deter=24, stoch=6, units=8, depth=4, strided=strided)
    pixels = images(*batch, 32, 32, 4)
    features = encoder(pixels)
    logits = decoder.logits(draws(*batch, 24), draws(*batch, 6))
    assert features.shape == (*batch, encoder.outputs) == (*batch, 2 * 2 * 16)
    assert logits.shape == pixels.shape
    (features.square().sum() + image_loss(logits, pixels).sum()).backward()
    for module in (encoder, decoder):
        assert all(
            parameter.grad is not None and bool(parameter.grad.any())
            for parameter in module.parameters()
        )


@pytest.mark.parametrize("strided", [False, True])
def test_images_in_bfloat16_are_close_and_train_float32_weights(strided):
    torch.manual_seed(0)
    encoder = ImageEncoder(32, 3, depth=4, strided=strided).to(memory_format=torch.channels_last)
    decoder = ImageDecoder(32, 3, 64, 16, 16, depth=4, strided=strided).to(
        memory_format=torch.channels_last
    )
    pixels, deter, stoch = images(4, 32, 32, 3), draws(4, 64), draws(4, 16)
    exact = encoder(pixels), decoder(deter, stoch)
    with torch.autocast("cpu", torch.bfloat16):
        features, image = encoder(pixels), decoder(deter, stoch)
        loss = image_loss(decoder.logits(deter, stoch), pixels)
    assert (features.dtype, image.dtype, loss.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )
    assert float((features.float() - exact[0]).detach().abs().max()) < 0.08
    assert float((image - exact[1]).detach().abs().max()) < 0.02
    (loss.sum() + features.float().sum()).backward()
    assert all(p.grad.dtype == torch.float32 for m in (encoder, decoder) for p in m.parameters())


@pytest.mark.parametrize("strided", [False, True])
def test_the_decoders_loss_is_that_of_its_image(strided):
    """Whether it compares images or patches: values and gradients."""
    decoder = ImageDecoder(32, 3, 24, 6, units=8, depth=4, kernel=3, strided=strided)
    deter, stoch, pixels = draws(2, 3, 24).requires_grad_(), draws(2, 3, 6), images(2, 3, 32, 32, 3)
    losses = decoder.loss(deter, stoch, pixels), image_loss(decoder.logits(deter, stoch), pixels)
    torch.testing.assert_close(*losses)
    weights = draws(2, 3)
    inputs = [deter, *decoder.parameters()]
    torch.testing.assert_close(
        *(torch.autograd.grad((loss * weights).sum(), inputs) for loss in losses)
    )


def test_image_loss_sums_squared_errors_over_each_image():
    logits, pixels = draws(2, 3, 4, 4, 3), images(2, 3, 4, 4, 3)
    loss = image_loss(logits, pixels)
    pairs = zip(logits[1, 2].flatten().tolist(), pixels[1, 2].flatten().tolist(), strict=True)
    expected = sum((1 / (1 + math.exp(-value)) - byte / 255) ** 2 for value, byte in pairs)
    assert float(loss[1, 2]) == pytest.approx(expected, rel=1e-5)
    assert image_loss(torch.full((1, 1, 1, 1), -99.0), images(1, 1, 1, 1) * 0 + 255).tolist() == [
        1.0
    ]


def test_image_loss_has_the_gradient_that_autograd_finds():
    """The gradient is made with the loss; each image's loss may count differently."""
    logits, pixels, weights = draws(2, 3, 4, 4, 3), images(2, 3, 4, 4, 3), torch.rand(2, 3)
    logits.requires_grad_()
    (own,) = torch.autograd.grad((image_loss(logits, pixels) * weights).sum(), logits)
    slow = (torch.sigmoid(logits) - pixels.float() / 255).square().sum((-3, -2, -1))
    (expected,) = torch.autograd.grad((slow * weights).sum(), logits)
    torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("strided", [False, True])
def test_images_can_be_learned(strided):
    torch.manual_seed(0)
    encoder = ImageEncoder(16, 3, depth=8, strided=strided)
    decoder = ImageDecoder(16, 3, encoder.outputs, 4, 16, depth=8, strided=strided)
    pixels, stoch = images(4, 1, 1, 3).expand(4, 16, 16, 3).clone(), torch.zeros(4, 4)
    pixels[:, 4:9, 3:12] = 255 - pixels[:, 4:9, 3:12]
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    losses = []
    for _ in range(60):
        loss = image_loss(decoder.logits(encoder(pixels), stoch), pixels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]


def test_image_networks_refuse_sizes_that_do_not_fit():
    for build in (
        lambda **k: ImageEncoder(channels=3, depth=4, **k),
        lambda **k: decoder_of(depth=4, **k),
    ):
        for size in (0, 40):
            with pytest.raises(
                ValueError, match=f"image_size is {size}; it must be a multiple of 16"
            ):
                build(image_size=size)
        with pytest.raises(ValueError, match="kernel is 4; it must be odd"):
            build(image_size=32, kernel=4)
    with pytest.raises(ValueError, match=r"depth is 3; blocks, which is 8, must divide 4 \* depth"):
        decoder_of(image_size=32, depth=3)


@pytest.mark.slow
def test_networks_and_distributions_trace_as_one_graph():
    """In a process of its own: Dynamo cannot trace the checks of shapes that tests run with."""
    program = "from tests.hrl.nets.test_image import trace_as_one_graph as trace; trace()"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=120, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def trace_as_one_graph():
    """Dynamo refuses host reads and shapes that depend on data; no code is generated here."""
    encoder = ImageEncoder(16, 3, depth=2, strided=True)
    decoder = ImageDecoder(16, 3, 16, 6, 4, depth=2)
    head = nn.Linear(encoder.outputs, 6 + 255 + 4)

    def loss(pixels, deter, noise, normal):
        logits, value, policy = head(encoder(pixels)).split([6, 255, 4], -1)
        latent = OneHot(logits.unflatten(-1, (2, 3)), 0.01)
        stoch, action = latent.sample(noise), BoundedNormal(policy, 0.1, 1.0)
        total = image_loss(decoder.logits(deter, stoch.flatten(-2)), pixels) + TwoHot(value).loss(
            TwoHot(value).mean()
        )
        total = total + kl(latent.detach(), latent) + action.log_prob(action.sample(normal)).sum(-1)
        return (total + latent.entropy().sum(-1) + latent.log_prob(latent.mode()).sum(-1)).sum()

    inputs = images(2, 16, 16, 3), draws(2, 16), torch.rand(2, 2), draws(2, 2)
    traced = torch.compile(loss, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(traced(*inputs), loss(*inputs))
