"""Kinds of encoders: what they compute, what they take, and what the registry refuses."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hrl.nets.encoder import ConvEncoder, Encoder, EncoderConfig, find_encoder, register_encoder
from hrl.nets.residual_encoders import ImpalaEncoder, ResNetEncoder

KINDS = ("cnn", "impala", "resnet")
SIZES = {"cnn": [8, 16], "impala": [16, 32], "resnet": [16, 32]}


def make(kind: str, image_size: int = 32, autocast: torch.dtype = torch.float32) -> Encoder:
    torch.manual_seed(0)
    config = EncoderConfig(kind=kind, channels=SIZES[kind], features=24)
    return find_encoder(kind)(image_size, 3, config, autocast)


def images(image_size: int = 32, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, image_size, image_size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def end(encoder: Encoder, maps: Tensor) -> Tensor:
    features = F.layer_norm(encoder.project(maps.flatten(1)), (24,))
    return torch.tanh(features)


def convolve(maps: Tensor, weights: dict[str, Tensor], name: str, stride: int = 1) -> Tensor:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.conv2d(maps, kernel, bias, stride, padding=kernel.shape[-1] // 2)


@pytest.mark.parametrize("image_size", [32, 20])
def test_impala_is_the_papers_network(image_size):
    """Figure 3 (right), written out: 15 convolutions where there are three sequences."""
    encoder = make("impala", image_size)
    weights = dict(encoder.state_dict())
    maps = images(image_size).permute(0, 3, 1, 2).float() / 255
    for sequence in ("stages.0", "stages.1"):
        maps = convolve(maps, weights, f"{sequence}.conv")
        maps = F.max_pool2d(F.pad(maps, (1, 1, 1, 1), value=-torch.inf), 3, 2)
        for block in (f"{sequence}.blocks.0", f"{sequence}.blocks.1"):
            inner = convolve(maps.clamp(min=0), weights, f"{block}.first")
            maps = maps + convolve(inner.clamp(min=0), weights, f"{block}.second")
    expected = end(encoder, maps.clamp(min=0))
    torch.testing.assert_close(encoder(images(image_size)), expected, rtol=1e-4, atol=1e-5)
    published = ImpalaEncoder(64, 3, EncoderConfig(kind="impala", channels=[16, 32, 32]))
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in published.modules()) == 15


def normalise(maps: Tensor, groups: int) -> Tensor:
    """GroupNorm before it has learned anything, by its definition."""
    parts = maps.unflatten(1, (groups, -1))
    mean = parts.mean((2, 3, 4), keepdim=True)
    variance = ((parts - mean) ** 2).mean((2, 3, 4), keepdim=True)
    return ((parts - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)


@pytest.mark.parametrize("image_size", [32, 20])
def test_resnet_has_basic_blocks_with_group_norm(image_size):
    encoder = make("resnet", image_size)
    weights = dict(encoder.state_dict())
    maps = images(image_size).permute(0, 3, 1, 2).float() / 255
    maps = normalise(convolve(maps, weights, "stages.0.conv", 2), 1).clamp(min=0)
    maps = F.max_pool2d(F.pad(maps, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    for number, (groups, stride) in enumerate([(1, 1), (1, 1), (2, 2), (2, 1)], start=1):
        block = f"stages.{number}"
        inner = convolve(maps, weights, f"{block}.first", stride)
        inner = convolve(normalise(inner, groups).clamp(min=0), weights, f"{block}.second")
        if stride == 2:
            maps = convolve(maps, weights, f"{block}.shortcut", 2)
        maps = (maps + normalise(inner, groups)).clamp(min=0)
    torch.testing.assert_close(
        encoder(images(image_size)), end(encoder, maps), rtol=1e-4, atol=1e-5
    )
    published = ResNetEncoder(64, 3, EncoderConfig(kind="resnet", channels=[64, 128, 256, 512]))
    kernels = [layer.kernel_size[0] for layer in published.modules() if hasattr(layer, "stride")]
    assert (kernels.count(7), kernels.count(3), kernels.count(1)) == (1, 16, 3), "ResNet-18"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_float32_weights_also_in_bfloat16(kind):
    exact, quick = make(kind), make(kind, autocast=torch.bfloat16)
    pixels = images()
    features = quick(pixels)
    assert features.dtype == torch.float32
    assert features.shape == (4, 24)
    assert float((features - exact(pixels)).detach().abs().max()) < 0.1
    torch.testing.assert_close(exact(pixels.float()), exact(pixels))  # as SB3 gives them
    (features * torch.randn_like(features)).sum().backward()
    for parameter in quick.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.any())


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_of_a_backward_pass_is_what_was_said(kind):
    encoder, saved = make(kind), {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = 32
    patches = encoder.to_patches(images(batch=batch))
    parameters = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder.encode_patches(patches)
    taken = sum(size for place, size in saved.items() if place not in parameters)
    config = EncoderConfig(kind=kind, channels=SIZES[kind], features=24)
    said = encoder.stored_bytes(32, 3) + encoder.map_bytes(32, 3, config)
    assert patches.untyped_storage().nbytes() <= batch * encoder.stored_bytes(32, 3)
    assert taken <= 1.05 * batch * said <= 2 * taken


def test_unknown_kinds_and_weights_that_nothing_loads_are_refused_by_name(monkeypatch):
    monkeypatch.setattr("hrl.nets.encoder._KINDS", {"cnn": ConvEncoder})
    with pytest.raises(ValueError, match=r"kind is 'vit'; choose from cnn, or import the module"):
        EncoderConfig(kind="vit")
    with pytest.raises(ValueError, match=r"weights is 'a\.pt'; with kind=cnn it must be empty"):
        EncoderConfig(weights="a.pt")

    @register_encoder("loaded")
    class Loaded(ConvEncoder):
        loads_weights = True

    assert find_encoder("loaded") is Loaded
    with pytest.raises(ValueError, match=r"weights is ''; with kind=loaded name a file"):
        EncoderConfig(kind="loaded")
    with pytest.raises(ValueError, match=r"'cnn' of module tests\.hrl\.nets\.test_encoders has"):
        register_encoder("cnn")(Loaded)
