"""Join the processes by which `torchrun` trains one run, on one GPU each or on a CPU."""

from __future__ import annotations

import ctypes
import importlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from envs import Suite
from hrl.agents.registry import registered_agents
from hrl.config import ConfigError, RunConfig
from hrl.config_field import ConfigValueError
from hrl.ranks import ONE_RANK, RankError, Ranks
from hrl.run.errors import Interrupted

TIMEOUT_VARIABLE = "PIXEL_HRL_RANK_TIMEOUT"
"""Environment variable with the seconds that a rank waits for the others."""
TIMEOUT = 1800.0
"""Seconds where it is not set: rank 0 evaluates while the others wait."""
_FAILURE = "pixel-hrl/failure"
_joins = itertools.count()  # numbers the calls of `join_ranks` in this process
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def is_first_process() -> bool:
    """Return whether this is a run's only process or the first that torchrun started."""
    return not distributed.is_torchelastic_launched() or os.environ["RANK"] == "0"


def launched_processes() -> int:
    """Return the number of processes that torchrun started together with this one; else 1."""
    launched = distributed.is_torchelastic_launched()
    return int(os.environ["WORLD_SIZE"]) if launched else 1


def local_processes() -> int:
    """Return how many of them are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched_processes() > 1 else 1


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Yield the ranks of the run, after all processes that torchrun started have come together.

    Ranks other than the first print nothing. A rank that fails tells the others why. If torchrun
    is killed, all save and leave.

    Raises:
        RankError: another rank has ended or does not answer.
        ConfigError: `PIXEL_HRL_RANK_TIMEOUT` holds no number of seconds, or the processes have
            joined before: what they agreed on by then is still in torchrun's store.
    """
    if launched_processes() == 1:
        yield ONE_RANK
        return
    timeout = _timeout()
    if next(_joins):
        raise ConfigError(
            "these processes of torchrun have trained a run; start torchrun again for another"
        )
    _leave_with_torchrun()
    # Its functions keep the group of the moment of their import as a default: it must be None.
    importlib.import_module("torch.distributed.nn")
    try:
        store, rank, count = next(rendezvous("env://", timeout=timeout))
        distributed.init_process_group(
            _backend(), store=store, rank=rank, world_size=count, timeout=timeout
        )
    except RuntimeError as error:
        raise RankError(f"this rank did not find the others: {error}") from error
    ranks = Ranks(distributed.group.WORLD, lambda: _why(store))
    try:
        with (
            _time_to_explain(ranks),
            open(os.devnull, "w") as nowhere,
            redirect_stdout(sys.stdout if ranks.is_first else nowhere),
        ):
            yield ranks
    except RankError:
        raise
    except Interrupted:
        _leave(ranks)
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())
        store.set(_FAILURE, f"rank {rank} ended by {type(error).__name__}: {reason}")
        raise
    else:
        _leave(ranks)


def rank_device(name: str) -> str:
    """Return the device of this process: the GPU of its number on this machine where it uses one.

    Args:
        name: of the configuration.

    Raises:
        ConfigError: one GPU for several processes, or fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count()
    if launched_processes() == 1 or name == "cpu" or (name == "auto" and not gpus):
        return name
    if ":" in name:
        raise ConfigError(
            f"device is {name}, one GPU for several processes: give device=cuda, by which every "
            "process of torchrun takes the GPU of its number"
        )
    if local_processes() > gpus:
        raise ConfigError(
            f"torchrun started {local_processes()} processes on this machine, which has {gpus} "
            f"GPUs: start --nproc-per-node={max(gpus, 1)}, or give device=cpu"
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"


def rank_config(config: RunConfig, suite: Suite, count: int) -> RunConfig:
    """Return the configuration of one rank: its share of environments, batches and threads.

    Args:
        config: of the run.
        suite: of the run.
        count: number of ranks.

    Raises:
        ConfigError: the agent cannot be trained by several processes, or something cannot be
            divided among them; names what would work.
    """
    if count == 1:
        return config
    _refuse_agent(config, count)
    _refuse_environments(config, suite, count)
    try:
        agent = config.agent.of_rank(count)
    except ConfigValueError as error:
        raise ConfigError(str(error.within("agent"))) from error
    cores = len(os.sched_getaffinity(0))
    threads = config.threads or max(1, cores // local_processes())
    return replace(config, num_envs=config.num_envs // count, agent=agent, threads=threads)


def check_same_ranks(saved: object, count: int) -> None:
    """Refuse to continue a checkpoint with another number of ranks.

    Args:
        saved: the number that the checkpoint was saved by.
        count: the number of ranks now.

    Raises:
        ConfigError: names the command that continues it.
    """
    if saved != count:
        how = "without torchrun" if saved == 1 else f"with torchrun --nproc-per-node={saved}"
        raise ConfigError(
            f"the run was trained by {_processes(saved)} and cannot be continued by "
            f"{_processes(count)}, which would have other environments: start it {how}"
        )


# Private functions.


def _refuse_agent(config: RunConfig, count: int) -> None:
    if not config.agent.trains_on_several:
        entries = registered_agents().items()
        able = [name for name, entry in entries if entry.config.trains_on_several]
        raise ConfigError(
            f"agent {config.agent.name} cannot be trained by several processes, and torchrun "
            f"started {count}: start it without torchrun, or choose from {', '.join(able)}"
        )


def _refuse_environments(config: RunConfig, suite: Suite, count: int) -> None:
    """Refuse environments that cannot be divided, or too few for every rank to see all tasks."""
    tasks = len(suite.tasks("train"))
    works = max(config.num_envs // count, tasks) * count
    advice = f"give num_envs={works}, or start another number of processes"
    given = f"num_envs is {config.num_envs}, and torchrun started {count} processes"
    if config.num_envs % count:
        raise ConfigError(f"{given}, each of which has as many environments: {advice}")
    if config.num_envs < count * tasks:
        raise ConfigError(
            f"{given}, each of which needs an environment for each of the {tasks} training tasks "
            f"of suite {suite.name}: {advice}"
        )


def _leave_with_torchrun() -> None:
    """Let this process be asked to save and leave when torchrun dies, which could not ask it."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # of Linux
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _time_to_explain(ranks: Ranks) -> Iterator[None]:
    """Let a rank that has lost another say so, although torchrun asks it to end at the same moment.

    From then on SIGTERM is ignored; torchrun kills what has not ended 30 s later.
    """
    before = signal.getsignal(signal.SIGTERM)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if not ranks.has_lost_contact:
            signal.signal(number, before)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if not ranks.has_lost_contact:
            signal.signal(signal.SIGTERM, before)


def _leave(ranks: Ranks) -> None:
    """Leave when all ranks do: torchrun ends the others as soon as one has left with a code.

    Nothing may refer to the process group any longer, so that its threads end with it: one that
    lets go of a tensor while Python ends aborts the process.
    """
    ranks.leave()
    distributed.destroy_process_group()


def _processes(count: object) -> str:
    return "one process" if count == 1 else f"{count} processes"


def _backend() -> str:
    nccl = torch.cuda.is_available() and distributed.is_nccl_available()
    return "cpu:gloo,cuda:nccl" if nccl else "gloo"


def _timeout() -> timedelta:
    given = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(given or TIMEOUT)
        if not 0 < seconds < 1e7:
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            f"{TIMEOUT_VARIABLE} is {given!r}; it must be a number of seconds above 0"
        ) from error
    return timedelta(seconds=seconds)


def _why(store: Any) -> str:
    """Return what a rank that failed has said; read its output for more."""
    try:
        said = store.get(_FAILURE).decode() if store.check([_FAILURE]) else ""
    except RuntimeError:  # torchrun itself is gone
        said = ""
    if said:
        return f"{said}; the output of that rank says more"
    return (
        "none said why, so that it was killed (memory may have run out) or does not answer; "
        "torchrun's summary names the rank that failed first, whose output says more"
    )
