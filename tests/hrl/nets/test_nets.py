"""Networks against closed forms, sampling, and each other."""

import pytest
import torch

from hrl.nets.encoder import ConvEncoder, EncoderConfig
from hrl.nets.gaussian import Gaussian, compose
from hrl.nets.mlp import MLP, TaskEmbedding


def test_composite_equals_the_renormalised_product_of_densities():
    """One dimension: the product of densities to the power of their weights, integrated on a fine
    grid."""
    mean, std = torch.tensor([-0.5, 0.8, 0.1]), torch.tensor([0.3, 0.9, 0.5])
    weights = torch.tensor([0.2, 0.5, 0.3])
    grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    log_density = sum(
        w * -0.5 * ((grid - m) / s) ** 2 for m, s, w in zip(mean, std, weights, strict=True)
    )
    density = torch.exp(log_density) / torch.exp(log_density).sum()
    expected_mean = (grid * density).sum()
    expected_std = ((grid - expected_mean) ** 2 * density).sum().sqrt()
    composite = compose(Gaussian(mean[:, None], std.log()[:, None]), weights)
    torch.testing.assert_close(composite.mean[0].double(), expected_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        composite.log_std.exp()[0].double(), expected_std, rtol=1e-5, atol=1e-6
    )


def test_composite_of_one_skill_is_that_skill():
    skill = Gaussian(torch.randn(5, 1, 2), torch.rand(5, 1, 2) - 1)
    composite = compose(skill, torch.ones(5, 1))
    torch.testing.assert_close(composite.mean, skill.mean[:, 0])
    torch.testing.assert_close(composite.log_std, skill.log_std[:, 0])


def test_composite_spread_lies_between_the_skills():
    generator = torch.Generator().manual_seed(0)
    log_std = -2.3 * torch.rand(64, 6, 3, generator=generator)
    weights = torch.softmax(torch.randn(64, 6, generator=generator), -1)
    composite = compose(Gaussian(torch.randn(64, 6, 3, generator=generator), log_std), weights)
    assert bool((composite.log_std >= log_std.amin(1) - 1e-6).all())
    assert bool((composite.log_std <= log_std.amax(1) + 1e-6).all())


def test_composite_by_sampling():
    """Importance weights turn draws of one skill into the composite's moments."""
    mean, log_std = torch.tensor([[-0.3], [0.4]]), torch.tensor([[-0.2], [-0.6]])
    weights = torch.tensor([0.6, 0.4])
    composite = compose(Gaussian(mean, log_std), weights)
    wide = Gaussian(torch.zeros(1), torch.zeros(1))
    generator = torch.Generator().manual_seed(0)
    draws = Gaussian(torch.zeros(400_000, 1), torch.zeros(400_000, 1)).sample(generator)
    each = [
        weight * Gaussian(m, s).log_prob(draws)
        for m, s, weight in zip(mean, log_std, weights, strict=True)
    ]
    importance = torch.softmax(sum(each) - wide.log_prob(draws), 0)
    sampled = (importance * draws[:, 0]).sum()
    assert abs(float(sampled - composite.mean[0])) < 5e-3
    spread = (importance * (draws[:, 0] - sampled) ** 2).sum().sqrt()
    assert abs(float(spread - composite.log_std.exp()[0])) < 5e-3


def test_gaussian_agrees_with_torch():
    gaussian = Gaussian.from_parameters(
        torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    )
    reference = torch.distributions.Independent(
        torch.distributions.Normal(gaussian.mean, gaussian.log_std.exp()), 1
    )
    value = gaussian.sample(torch.Generator().manual_seed(2))
    torch.testing.assert_close(gaussian.log_prob(value), reference.log_prob(value))
    torch.testing.assert_close(gaussian.entropy(), reference.entropy())


def test_gaussian_spread_stays_in_its_range_and_greedy_is_the_mean():
    extreme = Gaussian.from_parameters(torch.tensor([[0.0, -1000.0], [0.0, 1000.0]]))
    torch.testing.assert_close(extreme.log_std[:, 0], torch.tensor([-2.3, 0.0]))
    assert extreme.sample(None) is extreme.mean


def test_stem_equals_a_convolution_whose_kernel_is_its_stride():
    encoder = ConvEncoder(16, 3, EncoderConfig(patch=4, channels=[5], features=7))
    pixels = torch.randint(
        0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    kernel = encoder.stem.weight.reshape(5, 4, 4, 3).permute(0, 3, 1, 2)
    image = pixels.permute(0, 3, 1, 2).float() / 255
    expected = torch.relu(torch.nn.functional.conv2d(image, kernel, encoder.stem.bias, stride=4))
    torch.testing.assert_close(
        encoder._maps(encoder.to_patches(pixels)),
        expected.permute(0, 2, 3, 1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_bfloat16_encoder_is_close_to_float32_and_trains_float32_weights():
    torch.manual_seed(0)
    exact = ConvEncoder(64, 9, EncoderConfig())
    quick = ConvEncoder(64, 9, EncoderConfig(), torch.bfloat16)
    quick.load_state_dict(exact.state_dict())
    pixels = torch.randint(0, 256, (8, 64, 64, 9), dtype=torch.uint8)
    features = quick(pixels)
    assert features.dtype == torch.float32
    assert float((features - exact(pixels)).detach().abs().max()) < 0.05
    features.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in quick.parameters())


def test_encoder_refuses_a_patch_that_does_not_divide_the_image():
    with pytest.raises(ValueError, match=r"patch is 5; it must divide image_size, which is 64"):
        ConvEncoder(64, 3, EncoderConfig(patch=5))


@pytest.mark.parametrize(
    ("key", "value"), [("patch", 0), ("features", 0), ("channels", []), ("channels", [8, 0])]
)
def test_encoder_config_names_the_key(key, value):
    with pytest.raises(ValueError, match=key):
        EncoderConfig(**{key: value})


def test_mlp_gain_scales_the_last_layer():
    mlp = MLP(16, [16], 4, gain=0.01)
    singular = torch.linalg.svdvals(mlp.layers[-1].weight)
    torch.testing.assert_close(singular, torch.full((4,), 0.01))


def test_task_embedding_has_the_size_of_features_and_differs_between_near_tasks():
    torch.manual_seed(0)
    embedding = TaskEmbedding(1, 64)
    features = embedding(torch.tensor([[0.1], [0.2], [0.9]])).detach()
    assert float(features.abs().max()) <= 1
    assert float((features[0] - features[1]).abs().mean()) > 0.05
    assert float(features[2].square().mean()) > 0.2
