"""A SLURM cluster of this machine alone, with a partition whose jobs the other's preempt."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=120 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


def why_not() -> str:
    """Why there can be no cluster here; empty where there can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return (
            f"no {', '.join(missing)}: `make install-slurm` installs slurm-wlm and munge, as root"
        )
    return "" if os.geteuid() == 0 else "the daemons of SLURM have to be started by root"


@contextmanager
def slurm_cluster(folder: Path):
    """Start the daemons, and stop them afterwards; the environment leads to them meanwhile."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=socket.gethostname(), folder=folder, ports=free_ports()))
    os.environ["SLURM_CONF"] = str(config)
    try:
        start_munge(folder / "munge")
        subprocess.run(["slurmctld", "-f", config], check=True)
        subprocess.run(["slurmd", "-f", config, "-N", socket.gethostname()], check=True)
        wait_for(lambda: "idle" in output("sinfo", "--noheader", "--format=%T"), 120)
        yield
    finally:
        del os.environ["SLURM_CONF"]
        for path in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            if (folder / path).exists():
                os.kill(int((folder / path).read_text()), signal.SIGTERM)


def start_munge(folder: Path) -> None:
    """Start the daemon that signs messages, with a key of its own."""
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    files = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid"}
    files |= {"log-file": folder / "log", "seed-file": folder / "seed"}
    options = [f"--{name}={path}" for name, path in files.items()]
    subprocess.run(["munged", "--force", *options], check=True)


def free_ports() -> list[int]:
    """Two ports that nothing listens at."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_for(condition, seconds: float) -> None:
    """Wait until a condition holds, and fail where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.5)
