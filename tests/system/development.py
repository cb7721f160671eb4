"""``nusagate dev`` as a child process: one data folder, its ports, and what a person does beside it."""

import contextlib
import json
import signal
import subprocess
from pathlib import Path

from tests.fakes.processes import ChildProcess, free_port
from tests.system.installation import COMMAND, clean_environment, run_command

READY_S = 60
STOPPED_S = 30
PROCESSES = Path("/proc")


class Dev:
    """One data folder, the ports that belong to it, and the commands beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / ".nusagate"
        self.ports = [free_port() for _ in range(5)]
        self._processes: list[ChildProcess] = []

    @property
    def words(self) -> tuple[str, ...]:
        """The command that starts it."""
        names = ("--port", "--worker-port", "--simulator-port", "--admin-port", "--sandbox-port")
        options = zip(names, map(str, self.ports), strict=True)
        return (
            "dev",
            "--no-open",
            "--data",
            str(self.data),
            *(word for option in options for word in option),
        )

    def start(self, *, until: str = "Ctrl-C stops everything") -> ChildProcess:
        """Start it and return when it has said this, by default the end of its greeting."""
        process = ChildProcess([*COMMAND, *self.words], output=self.folder / "output.txt")
        self._processes.append(process)
        process._poll(lambda: until in process.output, until, READY_S)
        return process

    def stop(self) -> None:
        """Stop what a test that failed has left."""
        for process in self._processes:
            process.stop(deadline_s=STOPPED_S)

    @contextlib.contextmanager
    def running(self):
        """Run it for a block, press Ctrl-C, and see that nothing is left."""
        process = self.start()
        try:
            yield process
        finally:
            process.signal(signal.SIGINT)
            status = process.wait(deadline_s=STOPPED_S)
        assert (status, self.left_over()) == (0, [])

    def left_over(self) -> list[str]:
        """Every process that has to do with the folder, told by its command line and its environment."""
        return [line for line in map(described, PROCESSES.glob("[0-9]*")) if str(self.data) in line]

    @property
    def file(self) -> dict:
        """``dev.json`` as it is now."""
        return json.loads((self.data / "dev.json").read_text())

    def paste(self, line: str) -> str:
        """Run what the greeting offers, as somebody would who pastes it into a shell."""
        done = subprocess.run(
            ["bash", "-c", line],
            env=clean_environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answer(self, *words: str) -> tuple[int, dict]:
        """Run a command beside it, with no settings at all."""
        done = run_command((*words, "--json"), {}, self.folder)
        return done.returncode, json.loads(done.stdout)


def described(process: Path) -> str:
    with contextlib.suppress(OSError):
        return ((process / "cmdline").read_bytes() + (process / "environ").read_bytes()).decode(
            errors="replace"
        )
    return ""
