"""The goal autoencoder's numbers against loops, and that it learns a few states by heart."""

import math

import pytest
import torch

from hrl.optim.laprop import LaProp
from hrl.world_model.goal_autoencoder import (
    GoalAutoencoder,
    GoalAutoencoderConfig,
    distinct_fraction,
    perplexity,
)
from tests.fakes import randomise

DETER, TASK, GROUPS, CLASSES, COUNT = 6, 2, 3, 4, 5


def autoencoder(moved: bool = True, **changes: object) -> GoalAutoencoder:
    config = GoalAutoencoderConfig(
        **({"groups": GROUPS, "classes": CLASSES, "layers": 1} | changes)
    )
    torch.manual_seed(0)
    built = GoalAutoencoder(DETER, TASK, 4, 16, config)
    return randomise(built) if moved else built


def states(count: int = COUNT, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences of one state each, [count, 1, ...], and their tasks."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, DETER, generator=generator), torch.randn(
        count, 1, TASK, generator=generator
    )


def drawn(goals: GoalAutoencoder, deter: torch.Tensor, task: torch.Tensor) -> list[torch.Tensor]:
    """What each state's drawn code decodes to, by the cumulative distribution, class by class."""
    probs = goals.encode(deter, task).probs.detach()
    noise = torch.rand(*deter.shape[:-1], GROUPS)
    decoded = []
    for row in range(len(deter)):
        code = torch.zeros(1, 1, GROUPS, CLASSES)
        for group in range(GROUPS):
            below, chosen = 0.0, 0
            for place in range(CLASSES - 1):
                below += float(probs[row, 0, group, place])
                chosen += below <= float(noise[row, 0, group])
            code[0, 0, group, chosen] = 1
        decoded.append(goals.decode(code, task[row : row + 1])[0, 0])
    return decoded


@pytest.mark.parametrize("per_dimension", [True, False])
def test_the_loss_is_the_squared_error_and_the_weighted_divergence(per_dimension):
    """Per dimension counted 1024 times, or summed; the divergence from uniform codes by its
    definition."""
    goals, (deter, task) = autoencoder(per_dimension=per_dimension), states()
    torch.manual_seed(1)
    loss, metrics = goals.loss(deter, task)
    torch.manual_seed(1)
    errors = [
        (one - other[0]).square()
        for one, other in zip(drawn(goals, deter, task), deter, strict=True)
    ]
    squares = sum(float(error.sum()) for error in errors) / COUNT
    divergence = 0.0
    for probability in goals.encode(deter, task).probs.flatten().tolist():
        divergence += probability * (math.log(probability) - math.log(1 / CLASSES)) / COUNT
    reconstruction = squares * (1024 / DETER if per_dimension else 1)
    assert float(metrics["goal_autoencoder/reconstruction"]) == pytest.approx(
        reconstruction, rel=1e-4
    )
    assert float(metrics["goal_autoencoder/divergence"]) == pytest.approx(divergence, rel=1e-4)
    weight = float(metrics["goal_autoencoder/weight"])
    assert float(loss) == pytest.approx(reconstruction + weight * divergence, rel=1e-4)
    variance = float(deter.var(0, correction=0).mean())
    assert float(metrics["goal_autoencoder/unexplained"]) == pytest.approx(
        squares / DETER / variance, rel=1e-4
    )


def test_the_weight_steers_the_divergence_to_its_share_of_the_capacity():
    """Down by a tenth below 1 / 1.1 of the target, up above 1.1 times it, at most 1."""
    capacity = GROUPS * math.log(CLASSES)
    for target, moved in ((0.9, 1 / 1.1), (1e-3, 1.0)):
        goals, (deter, task) = autoencoder(divergence_target=target), states()
        divergence = float(goals.loss(deter, task)[1]["goal_autoencoder/divergence"])
        assert (divergence < target * capacity / 1.1) == (moved < 1)
        assert float(goals.weight.value) == pytest.approx(moved)


def test_the_exploration_reward_is_the_mean_squared_error_and_carries_no_gradient():
    goals, (deter, task) = autoencoder(), states()
    torch.manual_seed(2)
    exploration_reward = goals.exploration_reward(deter.requires_grad_(), task)
    torch.manual_seed(2)
    decoded = drawn(goals, deter.detach(), task)
    expected = [
        float((one - other[0]).square().mean()) for one, other in zip(decoded, deter, strict=True)
    ]
    assert exploration_reward[:, 0].tolist() == pytest.approx(expected, rel=1e-4)
    assert not exploration_reward.requires_grad


def test_a_differentiable_exploration_reward_is_the_same_number_with_a_gradient_of_the_states():
    """The gradient is that of the error with the autoencoder's weights as constants."""
    goals, (deter, task) = autoencoder(), states()
    torch.manual_seed(2)
    plain = goals.exploration_reward(deter, task)
    torch.manual_seed(2)
    reward = goals.exploration_reward(deter.requires_grad_(), task, differentiable=True)
    torch.testing.assert_close(reward, plain)
    (found,) = torch.autograd.grad(reward.sum(), deter)
    torch.manual_seed(2)
    reconstructed, _ = goals.reconstruct(deter, task)
    (expected,) = torch.autograd.grad((reconstructed - deter).square().mean(-1).sum(), deter)
    assert bool(expected.any())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("count", "time"), [(1, 5), (4, 5), (1, 1)])
def test_the_variance_that_is_explained_is_over_sequences_and_steps(count, time):
    """One sequence is enough; where there is a single state the metric is a number all the same."""
    goals = autoencoder()
    deter, task = torch.randn(count, time, DETER), torch.randn(count, time, TASK)
    torch.manual_seed(1)
    _, metrics = goals.loss(deter, task)
    torch.manual_seed(1)
    error = (goals.reconstruct(deter, task)[0] - deter).square().mean()
    rows = [deter[one, step] for one in range(count) for step in range(time)]
    mean = sum(rows) / len(rows)
    variance = sum((row - mean).square() for row in rows).mean() / len(rows)
    found = metrics["goal_autoencoder/unexplained"]
    assert bool(torch.isfinite(found))
    torch.testing.assert_close(found, error / variance.clamp(min=1e-8))


def test_gradient_reaches_the_autoencoder_and_not_the_states():
    goals, (deter, task) = autoencoder(), states()
    goals.loss(deter.requires_grad_(), task)[0].backward()
    assert deter.grad is None
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in goals.parameters())


def test_perplexity_counts_the_classes_in_use():
    """Two states with different codes use two classes of every group; all alike use one; fresh ones
    are spread."""
    goals, (deter, task) = autoencoder(False), states(2)
    logits = torch.full((2, 1, GROUPS, CLASSES), -50.0)
    logits[0, ..., 1] = logits[1, ..., 3] = 50.0
    for given, expected in (
        (logits, 2.0),
        (logits[:1].expand_as(logits), 1.0),
        (torch.zeros_like(logits), CLASSES),
    ):
        goals.encoder.forward = lambda deter, task, given=given: given.flatten(-2)
        measured = goals.loss(deter, task)[1]["goal_autoencoder/perplexity"]
        assert float(measured) == pytest.approx(expected, rel=1e-3)


def test_a_few_states_are_learned_by_heart():
    """Of the variance of sixteen states less than a tenth stays unexplained."""
    goals, (deter, task) = (
        autoencoder(False, groups=4, classes=4, divergence_target=0.9),
        states(16, seed=3),
    )
    optimizer = LaProp(list(goals.parameters()), 1e-2)
    torch.manual_seed(0)
    for _ in range(800):
        loss, metrics = goals.loss(deter, task)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(metrics["goal_autoencoder/unexplained"]) < 0.1


def test_drift_is_the_distance_of_fixed_codes_goals_from_their_running_mean():
    """Over how far they are from each other: falls to 0 while weights stay, and rises when the
    decoder moves."""
    goals, (deter, task) = autoencoder(), states()

    def drift() -> float:
        return float(goals.loss(deter, task)[1]["goal_autoencoder/drift"])

    decoded = goals.decode(goals.probes, torch.zeros(1, TASK)).detach()
    assert drift() == drift() == pytest.approx(0.0, abs=1e-5)
    torch.testing.assert_close(goals.probe_goals, decoded)
    randomise(goals.decoder, 0.1, seed=5)
    moved = goals.decode(goals.probes, torch.zeros(1, TASK)).detach()
    spread = (moved - moved.mean(0)).norm(dim=-1).mean()
    assert drift() == pytest.approx(float((moved - decoded).norm(dim=-1).mean() / spread), rel=1e-3)
    torch.testing.assert_close(goals.probe_goals, 0.99 * decoded + 0.01 * moved)
    assert len({tuple(code.argmax(-1).tolist()) for code in goals.probes}) > 12


def test_different_codes_are_counted_as_a_set_counts_them():
    generator = torch.Generator().manual_seed(0)
    for classes, count in ((2, 40), (4, 200), (8, 7)):
        chosen = torch.randint(classes, (count, 2, GROUPS), generator=generator)
        codes = torch.nn.functional.one_hot(chosen, classes).float()
        expected = len({tuple(code) for code in chosen.flatten(0, 1).tolist()}) / (2 * count)
        assert float(distinct_fraction(codes)) == pytest.approx(expected)
    assert float(distinct_fraction(codes[:1].expand(50, -1, -1, -1))) <= 2 / 100
    chosen = torch.zeros(64, 40, dtype=torch.int64)
    chosen[:, 0] = torch.arange(64) % 16
    assert float(
        distinct_fraction(torch.nn.functional.one_hot(chosen, 32).float())
    ) == pytest.approx(16 / 64), "first of many"


def test_a_state_without_the_probes_goals_is_refused():
    goals = autoencoder()
    saved = {name: value for name, value in goals.state_dict().items() if name != "probe_goals"}
    with pytest.raises(RuntimeError, match="probe_goals"):
        autoencoder().load_state_dict(saved)


def test_perplexity_of_codes_that_are_all_alike_is_one():
    code = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0]]), CLASSES).float()
    assert float(perplexity(code.expand(9, -1, -1))) == pytest.approx(1.0, abs=1e-4)
    even = torch.eye(CLASSES)[:, None].expand(-1, GROUPS, -1)
    assert float(perplexity(even)) == pytest.approx(CLASSES, rel=1e-4)
