"""Choose where a run computes: device, precision, threads, and how memory is allocated."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import torch

from hrl.config_field import ConfigValueError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
# Linux's names of the instructions: Intel's matrix units, and AVX-512's products, also AMD's.
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}


def choose_device(name: str) -> torch.device:
    """Return the named torch device, or for `auto` the GPU where there is one.

    A GPU that is named by number becomes the current one, on which streams and graphs are made.

    Raises:
        ConfigValueError: a name torch does not know, or a device this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        rule = f"it cannot be used here: {str(error).splitlines()[0]}"
        raise ConfigValueError("device", name, rule) from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the encoder's products.

    For `auto` it is bfloat16 on GPUs and on processors that multiply it (`BFLOAT16_FLAGS`).
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    fast = device.type == "cuda" or bool(BFLOAT16_FLAGS & _processor_flags())
    return torch.bfloat16 if fast else torch.float32


def configure(threads: int) -> int:
    """Set torch's threads and keep freed memory; return the threads.

    0 threads stand for one per core that this process may use.

    By default glibc gives every large block back to the system when it is freed and pays page
    faults for the next one; a learner frees and takes the same blocks thousands of times.
    """
    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return count


def _processor_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    lines = (line for line in path.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())
