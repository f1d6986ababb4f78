"""Train one run in one folder: the same call starts it and continues it to the last bit.

(This holds on a CPU. Some of a GPU's kernels add in an order of their own.)
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from envs import PixelVectorEnv, Suite, make_vec
from envs.simulation.backends import MUJOCO
from hrl.agents.base import ExperienceSampler, Learner
from hrl.config import ComposedConfig, ConfigError, RunConfig
from hrl.config_field import ConfigValueError
from hrl.evaluation.episodes import evaluate, metrics
from hrl.evaluation.imagination_video import REPLAY_GOALS, record_imagination
from hrl.evaluation.policy_video import record_video
from hrl.run import hardware
from hrl.run.atomic_files import write_json
from hrl.run.build import agent_spec, build_learner, run_shapes, with_physics
from hrl.run.checkpoint_format import JSON, Checkpoint
from hrl.run.checkpoints import POLICY, Checkpoints
from hrl.run.config_match import check_config_matches
from hrl.run.deadline import Deadline
from hrl.run.errors import CheckpointError, Interrupted, LoggerError
from hrl.run.eval_config import eval_config_for
from hrl.run.folder import FolderWatch, RunFolder
from hrl.run.json_lines import check_lines
from hrl.run.logger import Logger
from hrl.run.memory_estimate import checkpoint_disk_estimate, memory_estimates
from hrl.run.nan_dump import check_metrics, dump_on_nonfinite
from hrl.run.progress import ProgressDisplay, evaluation_in_words, training_details
from hrl.run.provenance import describe
from hrl.run.schedule import crossed, with_schedule
from hrl.run.stop_signals import stop_signals


def train(
    composed: ComposedConfig,
    command: str,
    prepare: Callable[[Learner], None] = lambda learner: None,
) -> Path:
    """Start or continue the run of `config.folder`; return the folder.

    On a CPU a run continues exactly: killed at any moment, it ends with the weights and metrics of
    a run that never was. The signals of `stop_signals` finish the iteration under way and save.

    Args:
        composed: the configuration, from `hrl.config.load`.
        command: what the user typed, for the record.
        prepare: called with the new learner, before anything is written or continued.

    Raises:
        ConfigError: a configuration that cannot be run.
        ConfigMismatchError: the folder holds another run.
        MemoryEstimateError: the run does not fit into memory; nothing of it was written.
        FolderError: the folder cannot be used, or was removed or replaced meanwhile.
        DiskEstimateError: its checkpoints do not fit onto the disk; nothing of it was written.
        NonFiniteError: a loss, an action, a reward or a metric is not finite; the message names the
            dump.
        Interrupted: a signal or time_limit stopped the run before its budget was spent.
    """
    folder = RunFolder(composed.config.folder)
    saved = folder.read_config() if folder.holds_run() else None
    composed = with_schedule(composed, saved)
    config = composed.config
    deadline = Deadline(config.time_limit)
    suite = Suite.from_dict(composed.plain["suite"])
    try:
        device = hardware.choose_device(config.device)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    composed = with_physics(composed, saved, suite, device)
    config = composed.config
    if saved is not None:
        check_config_matches(saved, composed.plain)
    _refuse_impossible(config, suite)
    for estimate in (
        *memory_estimates(config, suite, device),
        checkpoint_disk_estimate(config, suite, folder.path),
    ):
        print(estimate)
        estimate.check()
    print(f"physics: {config.physics} on {'cpu' if config.physics == MUJOCO else device}")
    if config.agent.startup_notice:
        print(config.agent.startup_notice, flush=True)
    hardware.configure(config.threads)
    with (
        folder.lock() as lock,
        _Run(composed, suite, folder, command, lock, prepare) as run,
        stop_signals() as received,
    ):
        run.until(config.frames, received, deadline)
        if run.learner.frames < config.frames:
            exit_code = 128 + received[0] if received else os.EX_TEMPFAIL
            raise Interrupted(folder.path, run.learner.frames, exit_code)
    return folder.path


@dataclass
class _TrainingTime:
    """Measure the time of training.

    Attributes:
        seconds: of training, summed over continuations.
        rate: frames a second over the last few iterations.
    """

    seconds: float = 0.0
    rate: float = 0.0

    @contextmanager
    def measure(self, frames: Callable[[], int]) -> Iterator[None]:
        before = frames()
        started = time.perf_counter()
        yield
        elapsed = time.perf_counter() - started
        self.seconds += elapsed
        rate = (frames() - before) / elapsed
        self.rate = rate if not self.rate else 0.8 * self.rate + 0.2 * rate


class _Run:
    """Write a run folder: environment, learner, logger, checkpoints."""

    def __init__(
        self,
        composed: ComposedConfig,
        suite: Suite,
        folder: RunFolder,
        command: str,
        lock: FolderWatch,
        prepare: Callable[[Learner], None] = lambda learner: None,
    ) -> None:
        config, plain = composed
        self.config = config
        self.plain = plain
        self.suite = suite
        self.folder = folder
        self.lock = lock
        try:
            self.spec = agent_spec(config, suite)
            self.env = _training_env(config, suite, self.spec.device)
            self.learner: Learner = build_learner(config, suite, self.env, self.spec)
            prepare(self.learner)
        except ValueError as error:  # a value that only its user can check
            raise ConfigError(str(error)) from error
        # Written once nothing of the configuration is left to refuse, so that a mistake leaves no
        # run behind.
        folder.write_config(plain)
        self.checkpoints = Checkpoints(folder.checkpoints, folder.policy)
        self.time = _TrainingTime()
        self.evaluated = ""
        resumed = self._resume(self.checkpoints.load_latest(self._check_usable))
        if not folder.environment.exists():
            write_json(folder.environment, describe(command, self.learner.parameter_counts()))
        self.logger = Logger(
            folder,
            config=plain,
            wandb_mode=config.tracking.wandb,
            tensorboard=config.tracking.tensorboard,
            resume_at=resumed,
        )

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.logger.close()
        self.env.close()

    def until(self, frames: int, received: list[int], deadline: Deadline) -> None:
        """Iterate until the budget is spent, a signal asks to stop or time is up; save then."""
        saved = self.learner.frames
        enabled = self.config.tracking.progress
        with ProgressDisplay(frames, "frames", enabled=enabled) as display:
            if self.config.finetune and self.learner.frames == 0:
                self.logger.log(self._measure_start())
            while self.learner.frames < frames and not (received or deadline.is_near()):
                before = self.learner.frames
                with deadline.iteration():
                    measured = self._measure()
                self.logger.log(measured)
                self.logger.log_timing(self.learner.frames, self.time.seconds, self.time.rate)
                details = training_details(measured, self.env.partial_returns(), self.evaluated)
                display.update(self.learner.frames, self.time.rate, details)
                if crossed(self.config.checkpoint_every, before, self.learner.frames):
                    with deadline.save():
                        saved = self._save()
        if saved != self.learner.frames:
            self._save()

    # Private methods.

    def _check_usable(self, checkpoint: Checkpoint) -> None:
        """Refuse the checkpoint of another run, or one that metrics.jsonl does not lead up to."""
        check_config_matches(checkpoint.value("config", dict), self.plain)
        try:
            check_lines(self.folder.metrics, checkpoint.value("position", dict)["metrics"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(checkpoint.path, "its metadata have no position") from error
        except LoggerError as error:
            reason = f"{error}; bring that file back from a copy, or train in another folder"
            raise CheckpointError(checkpoint.path, reason) from error

    def _resume(self, checkpoint: Checkpoint | None) -> dict[str, Any] | None:
        if checkpoint is None:
            return None
        before = checkpoint.value("computed_with", dict)
        now = self._computed_with()
        if before != now:
            warnings.warn(
                f"continuing with {now} what was computed with {before}: the last bits may differ",
                stacklevel=2,
            )
        try:
            learned = {**checkpoint.state["learner"], POLICY: checkpoint.state[POLICY]}
            self.learner.load_state_dict(learned)
            self.env.load_state_dict(checkpoint.state["env"])
        except (
            LookupError,
            TypeError,
            AttributeError,
            ValueError,
            RuntimeError,
        ) as error:  # another version of the agent
            reason = " ".join(str(error).split())
            raise CheckpointError(
                checkpoint.path, f"it does not fit this agent: {reason}"
            ) from error
        self.time.seconds = checkpoint.value("seconds", float)
        self.checkpoints.publish_policy(checkpoint.path)
        print(f"continuing {self.folder} at {self.learner.frames:,} frames")
        return dict(checkpoint.value("position", dict))

    def _computed_with(self) -> dict[str, JSON]:
        """Return what `auto` and 0 stand for on this machine."""
        precision = str(self.spec.autocast).removeprefix("torch.")
        return {
            "device": self.spec.device.type,
            "precision": precision,
            "threads": torch.get_num_threads(),
        }

    def _iterate(self) -> dict[str, float | int]:
        with self.time.measure(lambda: self.learner.frames):
            return {**self.learner.iterate(), **self.env.take_counts()}

    def _measure(self) -> dict[str, float | int]:
        """Return the metrics of one iteration, and of an evaluation where one is due.

        Raises:
            NonFiniteError: something is not finite; the learner and the environment are saved as
                they are.
        """
        before = self.learner.frames
        with dump_on_nonfinite(self.folder, self._counters, self._state):
            measured = self._iterate()
            self.lock.check()
            if crossed(self.config.evaluation.every, before, self.learner.frames):
                measured |= self._evaluate()
                self.evaluated = evaluation_in_words(measured, self.learner.frames)
            check_metrics(measured)
        return measured

    def _measure_start(self) -> dict[str, float | int]:
        """Return the metrics of a policy that was trained elsewhere, before it learns here."""
        with dump_on_nonfinite(self.folder, self._counters, self._state):
            measured = self._evaluate() if self.config.evaluation.every else {}
            measured |= {"frames": 0, "steps": 0, "updates": 0}
            check_metrics(measured)
        return measured

    def _counters(self) -> dict[str, int]:
        return {"frames": self.learner.frames, "seed": self.config.seed}

    def _state(self) -> dict[str, Any]:
        return {"learner": self.learner.state_dict(), "env": self.env.state_dict()}

    def _evaluate(self) -> dict[str, float | int]:
        settings = self.config.evaluation
        eval_config = eval_config_for(self.config, self.spec.device, settings.episodes)
        measured = metrics(evaluate(self.learner.policy, self.suite, ["train"], eval_config))
        for task in self.suite.tasks("train")[: self.config.tracking.videos]:
            self.lock.check()  # a video makes its folder
            path = self.folder.video(self.learner.frames, task.name)
            record_video(
                self.learner.policy,
                self.suite,
                task,
                eval_config,
                self.config.tracking.video_steps,
                path,
            )
            replayed = (
                self.learner.sample_for_video(REPLAY_GOALS)
                if isinstance(self.learner, ExperienceSampler)
                else {}
            )
            record_imagination(self.learner.policy, self.suite, task, eval_config, path, replayed)
            self.logger.log_video(f"video/{task.name}", path, self.learner.frames)
        return measured

    def _save(self) -> int:
        self.lock.check()
        self.logger.flush()
        metadata: dict[str, JSON] = {
            "position": self.logger.position(),
            "seconds": self.time.seconds,
            "config": self.plain,
            "computed_with": self._computed_with(),
        }
        learned = self.learner.state_dict()
        policy = learned.pop(POLICY)
        state = {POLICY: policy, "learner": learned, "env": self.env.state_dict()}
        self.checkpoints.save(self.learner.frames, state, metadata)
        return self.learner.frames


# Private functions.


def _training_env(config: RunConfig, suite: Suite, device: torch.device) -> PixelVectorEnv:
    return make_vec(
        suite,
        config.num_envs,
        seed=config.seed,
        stream="train",
        frame_stack=config.frame_stack,
        image_size=config.image_size,
        observation=config.observation,
        threads=config.threads or None,
        random_initial_episode_step=config.random_initial_episode_step,
        physics=config.physics,
        device=device,
    )


def _refuse_impossible(config: RunConfig, suite: Suite) -> None:
    """Refuse combinations of keys that no single key can know of."""
    tasks = len(suite.tasks("train"))
    if config.num_envs < tasks:
        raise ConfigError(
            f"num_envs is {config.num_envs}; suite {suite.name} has {tasks} training tasks, "
            "each of which needs one"
        )
    try:
        config.agent.check_run(run_shapes(config, suite))
    except ConfigValueError as error:
        raise ConfigError(str(error.within("agent"))) from error
