"""Imitate Gymnasium environments without MuJoCo: images and rewards say what happened to them."""

import os
import subprocess
import time
from typing import Any

import gymnasium
import numpy as np

SIZE = 24


class Counter(gymnasium.Env[np.ndarray, Any]):
    """Show its state as a colour.

    Red is the clock, green the episode's start (0 to 255, drawn from the seed), blue the last
    action.

    The reward is the first number of the action as the environment gets it, in [-3, 5]; `ends_at`
    terminates and `cut_at` truncates after so many steps; a step is a success where the first
    number exceeds 4. `fails_at` raises an error in that step; `dies_at` ends the process, in the
    episodes whose start is below `dies_below`; `hangs_at` never returns from that step. A step
    takes `seconds`. With `discrete` it takes one of `choices` actions, which are counted from 5.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  as the base class has it

    def __init__(
        self,
        render_mode: str | None = None,
        ends_at: int = 10**6,
        cut_at: int = 10**6,
        fails_at: int = 10**6,
        dies_at: int = 10**6,
        dies_below: int = 256,
        hangs_at: int = 10**6,
        seconds: float = 0.0,
        discrete: bool = False,
        choices: int = 3,
        success_key: str = "success",
    ) -> None:
        self.render_mode = render_mode
        self.limits = {"ends": ends_at, "cut": cut_at, "fails": fails_at, "dies": dies_at}
        self.hangs_at = hangs_at
        self.seconds = seconds
        self.dies_below = dies_below
        self.discrete = discrete
        self.success_key = success_key
        self.observation_space: gymnasium.spaces.Space = gymnasium.spaces.Box(
            -np.inf, np.inf, (2,), np.float64
        )
        box = gymnasium.spaces.Box(
            np.array([-3.0, 0.0], np.float32), np.array([5.0, 10.0], np.float32)
        )
        self.action_space = gymnasium.spaces.Discrete(choices, start=5) if discrete else box

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.clock = 0
        self.blue = 0
        # One start from each of the random numbers that libraries use.
        own = self.np_random.integers(80)
        global_ = np.random.randint(80)  # noqa: NPY002  as such libraries do
        space = self.action_space.sample()
        self.start = int(own + global_ + (space if self.discrete else space[1] * 8))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        if self.clock == self.limits["fails"]:
            raise ZeroDivisionError("the counter is broken")
        if self.clock == self.limits["dies"] and self.start < self.dies_below:
            os._exit(7)
        time.sleep(600 if self.clock == self.hangs_at else self.seconds)
        assert self.action_space.contains(action), action
        first = float(action) if self.discrete else float(action[0])
        self.blue = int(10 * (first + 3))
        info = {self.success_key: np.float64(first > 4)}
        ends = self.clock >= self.limits["ends"]
        cut = self.clock >= self.limits["cut"]
        return self._observation(), first, ends, cut and not ends, info

    def render(self) -> np.ndarray:
        return np.full((SIZE, SIZE, 3), [self.clock, self.start, self.blue], np.uint8)

    def _observation(self) -> np.ndarray:
        return np.array([self.clock, self.start], np.float64)


class WithProgram(Counter):
    """Start a program, which ends when the environment is closed; write its number to a file.

    Another file, `NUMBERS.closed`, gets it when the environment is closed.
    """

    def __init__(self, render_mode: str | None = None, numbers: str = "", **limits: Any) -> None:
        super().__init__(render_mode, **limits)
        self.program = subprocess.Popen(["sleep", "600"])
        self.numbers = numbers
        self._note(numbers)

    def close(self) -> None:
        self.program.terminate()
        self.program.wait()
        self._note(f"{self.numbers}.closed")

    def _note(self, path: str) -> None:
        with open(path, "a") as file:
            file.write(f"{self.program.pid}\n")


class SixActions(Counter):
    """Take six numbers an action; the last four have no effect."""

    def __init__(self, render_mode: str | None = None, **limits: Any) -> None:
        super().__init__(render_mode, **limits)
        low = np.array([-3, 0, 0, 0, 0, 0], np.float32)
        high = np.array([5, 10, 1, 1, 1, 1], np.float32)
        self.action_space = gymnasium.spaces.Box(low, high)


class DictCounter(Counter):
    """Observe a Dict, of which an agent that gets images would see nothing."""

    def __init__(self, render_mode: str | None = None, **limits: Any) -> None:
        super().__init__(render_mode, **limits)
        parts = {name: gymnasium.spaces.Box(-1, 1, (2,)) for name in ("proprio", "goal")}
        self.observation_space = gymnasium.spaces.Dict(parts)


class SensibleDict(Counter):
    """Observe a Dict of a choice and a vector, always the same."""

    def __init__(self, render_mode: str | None = None, **limits: Any) -> None:
        super().__init__(render_mode, **limits)
        parts = {
            "vector": gymnasium.spaces.Box(-1, 1, (2,)),
            "choice": gymnasium.spaces.Discrete(3),
        }
        self.observation_space = gymnasium.spaces.Dict(parts)

    def _observation(self) -> Any:
        return {"vector": np.array([0.25, 0.5], np.float32), "choice": 2}


class ImageObserver(Counter):
    """Observe an image, which is no state."""

    def __init__(self, render_mode: str | None = None, **limits: Any) -> None:
        super().__init__(render_mode, **limits)
        self.observation_space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def _observation(self) -> np.ndarray:
        return self.render()


class Sized(Counter):
    """Observe its clock so many times."""

    def __init__(self, render_mode: str | None = None, clocks: int = 2, **limits: Any) -> None:
        super().__init__(render_mode, **limits)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (clocks,), np.float64)

    def _observation(self) -> np.ndarray:
        return np.full(self.observation_space.shape or (), self.clock, np.float64)


class Misshapen(Counter):
    """Observe three numbers from its third step on, one more than its space has."""

    def _observation(self) -> np.ndarray:
        numbers = super()._observation()
        return np.append(numbers, 0.0) if self.clock > 2 else numbers


class NeedsPackage(Counter):
    """Draw with a package that is not installed."""

    def render(self) -> np.ndarray:
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")


class Plain(Counter):
    """Draw nothing that could be shown."""

    def render(self) -> Any:
        return "a counter"


gymnasium.register("Counter-v0", f"{__name__}:Counter")
gymnasium.register("Limited-v0", f"{__name__}:Counter", max_episode_steps=30)
gymnasium.register("Slow-v0", f"{__name__}:Counter", max_episode_steps=30, kwargs={"seconds": 0.02})
gymnasium.register("WithProgram-v0", f"{__name__}:WithProgram")
gymnasium.register("SixActions-v0", f"{__name__}:SixActions")
gymnasium.register("DictCounter-v0", f"{__name__}:DictCounter")
gymnasium.register("SensibleDict-v0", f"{__name__}:SensibleDict")
gymnasium.register("ImageObserver-v0", f"{__name__}:ImageObserver")
gymnasium.register("Sized-v0", f"{__name__}:Sized")
gymnasium.register("Misshapen-v0", f"{__name__}:Misshapen")
gymnasium.register("NeedsPackage-v0", f"{__name__}:NeedsPackage")
gymnasium.register("Plain-v0", f"{__name__}:Plain")
