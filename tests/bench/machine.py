"""What is measured of processes and of the machine, and on which core each thing runs."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

PACKAGES = ("granian", "pyreqwest", "asyncpg", "uvloop", "msgspec")
DESCRIPTORS_WANTED = 65_536


class Cores(msgspec.Struct, frozen=True):
    """One core for what is measured and the others for everything that measures it; one machine core serves both."""

    subject: int
    others: frozenset[int]

    @classmethod
    def choose(cls) -> "Cores":
        """Take the first core that this process may use for the subject."""
        first, *rest = sorted(os.sched_getaffinity(0))
        return cls(first, frozenset(rest or [first]))


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that all threads of a process have used, user and system, to the nanosecond."""
    # What clock_getcpuclockid(3) computes; the kernel's own clock of a process, threads that ended included.
    return time.clock_gettime((~pid << 3) | 2)


def reaped_s(pid: int) -> float:
    """Return the seconds of CPU of the children that a process has seen end."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kib) * 1024


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process and of all below it, each shared page divided among those that share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(kib) * 1024 + sum(proportional_bytes(child) for child in children(pid))


def parent(pid: int) -> int:
    """Return the process that started a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def load_average() -> float:
    """Return the load of the last minute: more than 0.3 before a run means that somebody else is at work here."""
    return os.getloadavg()[0]


def describe_machine(postgres: str, nginx: str) -> dict[str, object]:
    """Name the processor and the versions of everything that takes part."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": postgres,
        "nginx": nginx,
        **{name: version(name) for name in PACKAGES},
    }
