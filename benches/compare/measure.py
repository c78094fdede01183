"""Runs child processes and measures them, from their start to their end. Standard library only."""
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass

CHILD_SECONDS_MAX = 900


class Failure(Exception):
    """What went wrong, for the person who started the comparison."""


@dataclass
class Sample:
    """One run of one child, with the children that it waited for."""

    wall_s: float
    # user and system time
    cpu_s: float
    # the largest process among them, as the kernel has it; never below what this script itself takes, see `floor`
    peak_mib: float

    def then(self, other):
        """Both, one after the other."""
        return Sample(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.peak_mib, other.peak_mib))


def median(samples, name):
    return statistics.median(getattr(sample, name) for sample in samples)


def run_measured(command, cwd, stdout_path, stderr_path, environment=None):
    """Runs the command to its end and returns a Sample; a child that fails or takes too long is a Failure.

    `environment` is added to ours.
    """
    with open(stdout_path, "wb") as out, open(stderr_path, "wb") as err:
        started = time.monotonic()
        child = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=os.environ | (environment or {})
        )
        with killed_after(child, CHILD_SECONDS_MAX):
            sample = waited_for(child, started)
    if child.returncode != 0:
        raise Failure(failed(command, child.returncode, pathlib.Path(stderr_path).read_text(errors="replace")))
    return sample


def waited_for(child, started):
    """Waits for the child, whose `returncode` is known then, and returns a Sample."""
    try:
        # wait4, unlike wait, tells what this child alone used, together with the children that it waited for itself
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        # somebody stops the comparison: nothing may keep running
        child.kill()
        child.wait()
        raise
    wall_s = time.monotonic() - started
    # the child is gone; Popen must not wait for it (or for a later process with its id)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Sample(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@contextlib.contextmanager
def killed_after(child, seconds):
    timer = threading.Timer(seconds, child.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def failed(command, code, stderr):
    tail = "\n".join(stderr.splitlines()[-15:])
    return f"`{' '.join(map(str, command))}` ended with {code}:\n{tail}"


@dataclass
class Progress:
    """One progress line, and when it came (seconds after the child was started)."""

    at_s: float
    batch_id: int
    # whole milliseconds, as progress has them
    batch_duration_ms: float


def progress_of(line, at_s=0.0):
    """The Progress that a line of `highwater run --progress json` holds, or None."""
    try:
        batch = json.loads(line)
        return Progress(at_s, int(batch["batchId"]), float(batch["batchDuration"] or 0))
    except (ValueError, KeyError, TypeError):
        return None


class WatchedRun:
    """A `highwater run --progress json` whose progress is read while it runs."""

    def __init__(self, command, cwd):
        self.command = command
        self.other_lines = []
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # after an error in between: nothing may keep running
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stderr.close()

    def progress(self):
        """Yields each batch's progress as it comes, until the child closes stderr."""
        with killed_after(self.child, CHILD_SECONDS_MAX):
            for line in self.child.stderr:
                batch = progress_of(line, time.monotonic() - self.started)
                if batch is None:
                    self.other_lines.append(line)
                else:
                    yield batch

    def kill(self):
        """Kills with SIGKILL; false where the child had already ended by itself."""
        alive = self.child.poll() is None
        self.child.kill()
        return alive and self.child.wait() < 0

    def finish(self):
        """All progress that is still to come, and the Sample; a run that fails is a Failure."""
        rest = list(self.progress())
        sample = waited_for(self.child, self.started)
        if self.child.returncode != 0:
            raise Failure(failed(self.command, self.child.returncode, "".join(self.other_lines)))
        return rest, sample


def floor(scratch):
    """Peak memory that a child is charged with for having been started by this script."""
    return run_measured(["true"], scratch, scratch / "floor.out", scratch / "floor.err").peak_mib


def fsync_pairs_ms(folder, count):
    """Durations of `count` times: write 4 KiB and make it durable, in `folder`."""
    path = folder / "fsync.probe"
    page = bytes(range(256)) * 16
    durations = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        for _ in range(count):
            started = time.monotonic()
            os.write(descriptor, page)
            os.fsync(descriptor)
            durations.append((time.monotonic() - started) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return durations
