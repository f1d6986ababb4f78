"""Train one run in one folder: the same call starts it and continues it to the last bit.

(This holds on a CPU. Some of a GPU's kernels add in an order of their own.)
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from envs import PixelVectorEnv, Suite, make_vec
from envs.simulation.backends import MUJOCO
from hrl.agents.base import AgentSpec, ExperienceSampler, Learner, RankLearner
from hrl.config import ComposedConfig, ConfigError, RunConfig
from hrl.config_field import ConfigValueError
from hrl.evaluation.episodes import evaluate, metrics
from hrl.evaluation.imagination_video import REPLAY_GOALS, record_imagination
from hrl.evaluation.policy_video import record_video
from hrl.ranks import ONE_RANK, Ranks
from hrl.run import hardware
from hrl.run.atomic_files import write_json
from hrl.run.build import agent_spec, build_learner, run_shapes, with_physics
from hrl.run.checkpoint_format import JSON, Checkpoint
from hrl.run.checkpoints import POLICY, RANKS, Checkpoints
from hrl.run.config_match import check_config_matches
from hrl.run.deadline import Deadline
from hrl.run.distributed import (
    check_same_ranks,
    join_ranks,
    local_processes,
    rank_config,
    rank_device,
)
from hrl.run.errors import CheckpointError, Interrupted, LoggerError
from hrl.run.eval_config import eval_config_for
from hrl.run.folder import FolderWatch, NoLock, RunFolder
from hrl.run.json_lines import check_lines
from hrl.run.logger import Logger, NoLogger
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
    Where torchrun started several processes, all of them call this, and train the run together.

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
        RankError: another process of the run has ended or does not answer.
    """
    with join_ranks() as ranks:
        return _train(composed, command, prepare, ranks)


def _train(
    composed: ComposedConfig,
    command: str,
    prepare: Callable[[Learner], None],
    ranks: Ranks,
) -> Path:
    folder = RunFolder(composed.config.folder)
    # Read by the first rank alone, before anything is written.
    reads = ranks.is_first and folder.holds_run()
    saved = ranks.gather(folder.read_config() if reads else None)[0]
    composed = with_schedule(composed, saved)
    config = composed.config
    deadline = Deadline(config.time_limit)
    suite = Suite.from_dict(composed.plain["suite"])
    try:
        device = hardware.choose_device(rank_device(config.device))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    composed = with_physics(composed, saved, suite, device)
    config = composed.config
    if saved is not None:
        check_config_matches(saved, composed.plain)
    own = rank_config(config, suite, ranks.count)
    _refuse_impossible(own, suite, ranks.count)
    for estimate in (
        *memory_estimates(own, suite, device, local_processes()),
        checkpoint_disk_estimate(config, suite, folder.path),
    ):
        print(estimate)
        estimate.check()
    print(f"physics: {config.physics} on {'cpu' if config.physics == MUJOCO else device}")
    if config.agent.startup_notice:
        print(config.agent.startup_notice, flush=True)
    hardware.configure(own.threads)
    with (
        folder.lock() if ranks.is_first else nullcontext(NoLock()) as lock,
        _Run(
            ComposedConfig(own, composed.plain), suite, folder, command, lock, ranks, prepare
        ) as run,
        stop_signals() as received,
    ):
        run.until(config.frames, received, deadline)
        if run.learner.frames < config.frames:
            stopped_by = max(ranks.gather(received[0] if received else 0))
            exit_code = 128 + stopped_by if stopped_by else os.EX_TEMPFAIL
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
    """Write a run folder: environment, learner, logger, checkpoints.

    Of several ranks the first one evaluates and writes everything but the other ranks' part of
    checkpoints.

    Args:
        composed: the configuration of this rank, and the plain one of the run.
        suite: of the run.
        folder: of the run.
        command: what the user typed.
        lock: of the folder.
        ranks: of the run.
        prepare: called with the new learner.
    """

    def __init__(
        self,
        composed: ComposedConfig,
        suite: Suite,
        folder: RunFolder,
        command: str,
        lock: FolderWatch | NoLock,
        ranks: Ranks = ONE_RANK,
        prepare: Callable[[Learner], None] = lambda learner: None,
    ) -> None:
        config, plain = composed
        self.config = config
        self.plain = plain
        self.suite = suite
        self.folder = folder
        self.lock = lock
        self.ranks = ranks
        try:
            self.spec = agent_spec(config, suite, ranks)
            self.env = _training_env(config, suite, self.spec)
            self.learner: Learner = build_learner(config, suite, self.env, self.spec)
            prepare(self.learner)
            if ranks.count > 1 and not isinstance(self.learner, RankLearner):
                raise ConfigError(f"agent {config.agent.name} has a learner for one process alone")
        except ValueError as error:  # a value that only its user can check
            raise ConfigError(str(error)) from error
        # Written once nothing of the configuration is left to refuse, so that a mistake leaves no
        # run behind.
        if ranks.is_first:
            folder.write_config(plain)
        self.checkpoints = Checkpoints(folder.checkpoints, folder.policy, ranks=ranks)
        self.time = _TrainingTime()
        self.evaluated = ""
        resumed = self._resume(self.checkpoints.load_latest(self._check_usable))
        if ranks.is_first and not folder.environment.exists():
            write_json(folder.environment, describe(command, self.learner.parameter_counts()))
        self.logger = self._open_logger(resumed) if ranks.is_first else NoLogger()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.logger.close()
        self.env.close()

    def until(self, frames: int, received: list[int], deadline: Deadline) -> None:
        """Iterate until the budget is spent, a signal asks to stop or time is up; save then."""
        saved = self.learner.frames
        enabled = self.config.tracking.progress and self.ranks.is_first
        with ProgressDisplay(frames, "frames", enabled=enabled) as display:
            if self.config.finetune and self.learner.frames == 0:
                self.logger.log(self._measure_start())
            while self.learner.frames < frames and not self._must_stop(received, deadline):
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

    def _open_logger(self, resumed: dict[str, Any] | None) -> Logger:
        return Logger(
            self.folder,
            config=self.plain,
            wandb_mode=self.config.tracking.wandb,
            tensorboard=self.config.tracking.tensorboard,
            resume_at=resumed,
        )

    def _must_stop(self, received: list[int], deadline: Deadline) -> bool:
        """Return whether any rank was asked to stop, or has no time left."""
        return self.ranks.any(bool(received) or deadline.is_near())

    def _check_usable(self, checkpoint: Checkpoint) -> None:
        """Refuse the checkpoint of another run, or one that metrics.jsonl does not lead up to."""
        check_same_ranks(checkpoint.metadata.get(RANKS, 1), self.ranks.count)
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
        if self.ranks.is_first:
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
            measured = self.learner.iterate()
            counts = {name: [count] for name, count in self.env.take_counts().items()}
            counted = {name: sum(each) for name, each in self.ranks.merge(counts).items()}
            return {**measured, **counted}

    def _measure(self) -> dict[str, float | int]:
        """Return the metrics of one iteration, and of an evaluation where one is due.

        Raises:
            NonFiniteError: something is not finite; the learner and the environment are saved as
                they are.
        """
        before = self.learner.frames
        with self._dump_on_nonfinite():
            measured = self._iterate()
            self.lock.check()
            due = crossed(self.config.evaluation.every, before, self.learner.frames)
            if due and self.ranks.is_first:
                measured |= self._evaluate()
                self.evaluated = evaluation_in_words(measured, self.learner.frames)
            check_metrics(measured)
        return measured

    def _measure_start(self) -> dict[str, float | int]:
        """Return the metrics of a policy that was trained elsewhere, before it learns here."""
        with self._dump_on_nonfinite():
            due = self.config.evaluation.every and self.ranks.is_first
            measured = self._evaluate() if due else {}
            measured |= {"frames": 0, "steps": 0, "updates": 0}
            check_metrics(measured)
        return measured

    def _dump_on_nonfinite(self) -> AbstractContextManager[None]:
        return dump_on_nonfinite(self.folder, self._counters, self._state, self.ranks.index)

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
        if self.ranks.count > 1:
            assert isinstance(self.learner, RankLearner)
            self.ranks.check_same(policy)
            own = {key: learned.pop(key) for key in self.learner.own_keys}
            of_rank = {"learner": own, "env": self.env.state_dict()}
            state = {POLICY: policy, "learner": learned}
            self.checkpoints.save_ranks(self.learner.frames, state, of_rank, metadata)
        else:
            state = {POLICY: policy, "learner": learned, "env": self.env.state_dict()}
            self.checkpoints.save(self.learner.frames, state, metadata)
        return self.learner.frames


# Private functions.


def _training_env(config: RunConfig, suite: Suite, spec: AgentSpec) -> PixelVectorEnv:
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
        device=spec.device,
        first_env=spec.ranks.index * config.num_envs,
        total_envs=spec.ranks.count * config.num_envs,
    )


def _refuse_impossible(config: RunConfig, suite: Suite, ranks: int) -> None:
    """Refuse combinations of keys, in each of so many ranks, that no single key can know of."""
    tasks = len(suite.tasks("train"))
    if config.num_envs < tasks:
        raise ConfigError(
            f"num_envs is {config.num_envs}; suite {suite.name} has {tasks} training tasks, "
            "each of which needs one"
        )
    try:
        config.agent.check_run(run_shapes(config, suite))
    except ConfigValueError as error:
        where = f" (in each of {ranks} processes)" if ranks > 1 else ""
        raise ConfigError(f"{error.within('agent')}{where}") from error
