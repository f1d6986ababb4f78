"""Load a trained policy and act with it, many worlds at a time and in a single one.

    pixel-hrl train agent=skills suite=debug size=debug folder=runs/first
    python examples/load_and_act.py runs/first

The argument is the folder of any run, or its file `policy.safetensors` alone. The first command
trains for seconds, which is too little to learn anything.
"""

import sys

import numpy as np

import hrl


def play_side_by_side(policy: hrl.ActingPolicy, num_envs: int = 4) -> np.ndarray:
    """Return the return of one episode in each of several worlds that are stepped together."""
    env = policy.make_vec_env(num_envs)
    observation, _ = env.reset()
    # `done` says where an episode begins, so that the policy forgets the one before.
    done = np.ones(num_envs, bool)
    finished = np.zeros(num_envs, bool)
    returns = np.zeros(num_envs)
    while not finished.all():
        action = policy.act(observation, done)
        observation, reward, terminated, truncated, _ = env.step(action)
        returns += np.where(finished, 0.0, reward)
        # A world whose episode has ended begins the next one by itself.
        done = terminated | truncated
        finished |= done
    env.close()
    return returns


def play_alone(policy: hrl.ActingPolicy, split: str = "train") -> float:
    """Return the return of one episode of a split's first task, in a Gymnasium environment."""
    env = policy.make_env(split)
    observation, _ = env.reset()
    total = 0.0
    done = True
    while True:
        action = policy.act(observation, done)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        done = terminated or truncated
        if done:
            env.close()
            return total


def main(path: str) -> None:
    """Play a few episodes with the policy at a path, and print their returns."""
    policy = hrl.load_policy(path)
    print(f"{policy.config.method} was trained on {policy.suite.name} for {policy.frames:,} steps")
    print("returns side by side:", play_side_by_side(policy).round(1))
    print("return of one episode:", round(play_alone(policy), 1))


if __name__ == "__main__":
    main(sys.argv[1])
