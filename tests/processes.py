"Processes to kill: forked from one that has loaded torch already, so that a test need not wait for it each time"

import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

HEAVY = ["torch", "torchvision", "timm", "peft", "sklearn.linear_model", "scipy.stats", "pandas", "optuna", "pytest"]


def _run(code: str, out: str, err: str, environment: dict[str, str], path: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.path[:] = path
    import warnings

    warnings.simplefilter("ignore")
    try:
        exec(compile(code, "<job>", "exec"), {"__name__": "__main__"})
    except SystemExit as e:
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush(), sys.stderr.flush()


class Job:
    "A process that runs some code, with the part of `subprocess.Popen` that tests use"

    def __init__(self, code: str, **environment: str):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(HEAVY)
        self.files = [Path(tempfile.mkstemp(prefix="job-")[1]) for _ in range(2)]
        arguments = (code, *map(str, self.files), dict(os.environ) | environment, list(sys.path))
        self.process = context.Process(target=_run, args=arguments)
        self.process.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        "Exit code, or None while it runs"
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 300) -> int | None:
        self.process.join(timeout)
        return self.process.exitcode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        "What it wrote to its output and to its errors, when it has ended"
        if self.wait(timeout) is None:
            self.kill()
            raise TimeoutError(f"still running after {timeout} s")
        said = tuple(f.read_text() for f in self.files)
        for f in self.files:
            f.unlink()
        return said
