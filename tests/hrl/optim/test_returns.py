"""Advantages against a slow reference that follows the definition, decision by decision."""

import pytest
import torch

from hrl.optim.returns import generalized_advantages, replayed_returns


def slow_advantages(
    rewards, values, is_decision, done, bootstrap, last_value, discount, gae_lambda
):
    """One environment: cuts episodes into decisions, forms each TD error as defined, then sums
    errors forward."""
    length = len(rewards)
    starts = [t for t in range(length) if is_decision[t]]
    errors, spans, closed = {}, {}, {}
    for start in starts:
        total, weight, t = 0.0, 1.0, start
        while True:
            total += weight * rewards[t]
            weight *= discount
            if done[t]:
                following, last = bootstrap[t], True
            elif t + 1 == length:
                following, last = last_value, True
            elif is_decision[t + 1]:
                following, last = values[t + 1], False
            else:
                t += 1
                continue
            errors[start] = total + weight * following - values[start]
            spans[start], closed[start] = t + 1 - start, last
            break
    result = [0.0] * length
    for position, start in enumerate(starts):
        weight = 1.0
        for later in starts[position:]:
            result[start] += weight * errors[later]
            if closed[later]:
                break
            weight *= (gae_lambda * discount) ** spans[later]
    return result


def random_case(seed, skill_duration):
    generator = torch.Generator().manual_seed(seed)
    length, envs = 23, 4
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    done = torch.rand(length, envs, generator=generator) < 0.15
    terminated = torch.rand(length, envs, generator=generator) < 0.5
    is_decision = torch.zeros(length, envs, dtype=torch.bool)
    steps_since_decision = torch.randint(skill_duration, (envs,), generator=generator)
    for t in range(length):
        is_decision[t] = steps_since_decision == 0
        steps_since_decision = torch.where(done[t], 0, (steps_since_decision + 1) % skill_duration)
    bootstrap = torch.where(done & ~terminated, draw(length, envs), 0.0)
    return draw(length, envs), draw(length, envs), is_decision, done, bootstrap, draw(envs)


@pytest.mark.parametrize("skill_duration", [1, 2, 5, 40])
@pytest.mark.parametrize(("discount", "gae_lambda"), [(0.9, 0.8), (1.0, 1.0), (0.97, 0.0)])
def test_advantages_equal_the_definition(skill_duration, discount, gae_lambda):
    case = random_case(seed=skill_duration, skill_duration=skill_duration)
    fast = generalized_advantages(*case, discount, gae_lambda)
    for env in range(4):
        one = [column[..., env].tolist() for column in case]
        slow = slow_advantages(*one[:5], one[5], discount, gae_lambda)
        torch.testing.assert_close(fast[:, env], torch.tensor(slow), rtol=1e-4, atol=1e-5)


def test_every_step_a_decision_is_plain_gae():
    rewards, values, _, done, bootstrap, last = random_case(seed=7, skill_duration=3)
    fast = generalized_advantages(
        rewards, values, torch.ones_like(done), done, bootstrap, last, 0.9, 0.8
    )
    running = torch.zeros(4)
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(rewards) else last
        error = rewards[t] + 0.9 * torch.where(done[t], bootstrap[t], following) - values[t]
        running = error + 0.9 * 0.8 * torch.where(done[t], 0.0, running)
        torch.testing.assert_close(fast[t], running)


def test_one_decision_is_the_discounted_sum_of_rewards_and_bootstrap():
    """Reward 1 for four steps, then value 10: 1 + .5 + .25 + .125 + .0625 * 10 - 3, worked out by
    hand."""
    column = lambda *values: torch.tensor(values).unsqueeze(1)  # noqa: E731
    advantages = generalized_advantages(
        column(1.0, 1.0, 1.0, 1.0),
        column(3.0, 0.0, 0.0, 0.0),
        column(True, False, False, False),
        column(False, False, False, False),
        torch.zeros(4, 1),
        torch.tensor([10.0]),
        discount=0.5,
        gae_lambda=0.9,
    )
    assert advantages[:, 0].tolist() == [1.875 + 0.625 - 3.0, 0.0, 0.0, 0.0]


def test_a_time_limit_bootstraps_and_a_termination_does_not():
    done = torch.tensor([[True], [True]])
    advantages = generalized_advantages(
        torch.ones(2, 1),
        torch.zeros(2, 1),
        done,
        done,
        torch.tensor([[0.0], [5.0]]),
        torch.tensor([99.0]),
        0.9,
        1.0,
    )
    assert advantages[:, 0].tolist() == [1.0, 1.0 + 0.9 * 5.0]


# Replayed returns.


def slow_replayed_return(rewards, bootstrap, is_last, is_terminal, start, discount, lambda_):
    """The mixture over n-step returns of one sequence, term by term."""
    total, share, factor, received = 0.0, 1.0, 1.0, 0.0
    for step in range(start + 1, len(rewards)):
        received += factor * rewards[step]
        factor *= discount * (not is_terminal[step])
        end = is_last[step] or step == len(rewards) - 1
        here = share * (1.0 if end else 1 - lambda_)
        total += here * (received + factor * bootstrap[step])
        share -= here
        if end:
            break
    return total


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_replayed_returns_are_mixtures_of_n_step_returns(lambda_):
    generator = torch.Generator().manual_seed(3)
    rewards, bootstrap = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    is_terminal = torch.rand(4, 9, generator=generator) < 0.15
    is_last = is_terminal | (torch.rand(4, 9, generator=generator) < 0.2)
    fast = replayed_returns(rewards, bootstrap, is_last, is_terminal, 0.9, lambda_)
    assert fast.shape == (4, 8)
    for row in range(4):
        for start in range(8):
            one = (part[row].tolist() for part in (rewards, bootstrap, is_last, is_terminal))
            expected = slow_replayed_return(*one, start, 0.9, lambda_)
            assert float(fast[row, start]) == pytest.approx(expected)
    assert bool(is_last.any())


def test_replayed_returns_by_hand():
    """A time limit at state 1 bootstraps from its own value; a terminal state 3 from nothing."""
    rewards = torch.tensor([[9.0, 1.0, 9.0, 2.0]])
    bootstrap = torch.tensor([[9.0, 10.0, 20.0, 30.0]])
    is_last = torch.tensor([[False, True, False, True]])
    is_terminal = torch.tensor([[False, False, False, True]])
    returns = replayed_returns(rewards, bootstrap, is_last, is_terminal, 0.5, 0.9)
    assert returns[0, [0, 2]].tolist() == [1.0 + 0.5 * 10.0, 2.0]
