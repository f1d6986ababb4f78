"""Check that MuJoCo Warp can use a device, and that the worlds fit into its memory."""

from pathlib import Path

import psutil
import torch
import warp

from envs.simulation.renderer import start_warp

DRIVER_VERSION = Path("/proc/driver/nvidia/version")
# The share of the free memory that worlds may take.
LARGEST_SHARE = 0.9


def check_device(name: str | torch.device) -> torch.device:
    """Return the device that is simulated on, a GPU with its number.

    Raises:
        ValueError: it is neither the CPU nor a GPU that torch and Warp can use; the message says
            why and what would work.
    """
    device = torch.device(name)
    if device.type == "cpu":
        start_warp()
        return torch.device("cpu")
    if device.type != "cuda":
        raise ValueError(f"physics=warp simulates on cpu or cuda, not on {str(device)!r}")
    if str(device) == "cuda":
        current = torch.cuda.current_device() if torch.cuda.is_available() else 0
        device = torch.device("cuda", current)
    reason = _why_not_cuda(device)
    if reason is not None:
        raise ValueError(
            f"physics=warp cannot simulate on {device}: {reason}. device=cpu, or physics=mujoco, "
            "would work"
        )
    return device


def check_memory(device: torch.device, num_worlds: int, size: int, what: str) -> None:
    """Refuse more worlds than fit.

    Args:
        device: that simulates them.
        num_worlds: number of worlds.
        size: bytes of one world.
        what: is simulated, for the message.

    Raises:
        ValueError: they do not fit; the message says how many would.
    """
    most = most_worlds(device, size)
    if num_worlds > most:
        free = free_memory(device)
        raise ValueError(
            f"{num_worlds} worlds of {what} take {num_worlds * size / 2**30:.1f} GiB with "
            f"physics=warp, and {free / 2**30:.1f} GiB of {device} are free: at most {most} fit"
        )


def most_worlds(device: torch.device, size: float) -> int:
    """Return how many worlds of `size` bytes fit into the free memory of a device."""
    return int(LARGEST_SHARE * free_memory(device) / size)


def free_memory(device: torch.device) -> int:
    """Return the bytes of a device that are free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _why_not_cuda(device: torch.device) -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if device.index >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()} CUDA devices, numbered from 0"
    start_warp()
    if not warp.is_cuda_available():
        toolkit = ".".join(map(str, warp.get_cuda_toolkit_version() or ("?",)))
        return (
            f"Warp {warp.config.version} is built for CUDA {toolkit} and needs an NVIDIA driver "
            f"R580 or newer, and a Turing GPU or newer; this machine's driver is {driver_version()}"
        )
    if not warp.is_mempool_enabled(f"cuda:{device.index}"):
        return "its driver has no memory pools, without which nothing can be captured"
    if not warp.is_conditional_graph_supported():
        return "its driver is older than CUDA 12.4 and has no conditional graphs"
    return None


def driver_version() -> str:
    """Return the NVIDIA driver's version, or "unknown"."""
    if not DRIVER_VERSION.exists():
        return "unknown"
    words = DRIVER_VERSION.read_text(encoding="utf-8").splitlines()[0].split()
    numbers = [word for word in words if word[0].isdigit() and "." in word]
    return numbers[0] if numbers else "unknown"
