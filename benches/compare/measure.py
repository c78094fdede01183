"""Runs child processes and measures them; makes the input. Standard library only."""
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

CHILD_SECONDS_MAX = 900
# the shape of a flow; see `highwater generate flows`
TINY_ROW = (
    '{{"time": {n}.0, "duration": 0.0, "srcdevice": "Comp000001", "dstdevice": "Comp{n:06}", '
    '"protocol": 6.0, "srcport": "Port00001", "dstport": "80", '
    '"srcpackets": 1.0, "dstpackets": 1.0, "srcbytes": 40.0, "dstbytes": 40.0}}\n'
)


class Failure(Exception):
    """What went wrong, for the person who started the comparison."""


@dataclass
class Sample:
    """One run of one child."""

    wall_s: float
    # user and system time
    cpu_s: float
    # the kernel's figure for the child; never below what this script itself takes, see `floor`
    peak_mib: float


@dataclass
class Series:
    """All runs of one contender."""

    samples: list = field(default_factory=list)

    def median(self, name):
        return statistics.median(getattr(sample, name) for sample in self.samples)

    def spread(self, name):
        values = [getattr(sample, name) for sample in self.samples]
        return min(values), max(values)

    def plain(self):
        return [asdict(sample) for sample in self.samples]


def run_measured(command, cwd, stdout_path, stderr_path):
    """Runs the command to its end and returns a Sample; a child that fails or takes too long is a Failure."""
    with open(stdout_path, "wb") as out, open(stderr_path, "wb") as err:
        started = time.monotonic()
        child = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        with killed_after(child, CHILD_SECONDS_MAX):
            # wait4, unlike wait, tells what this child alone used
            _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - started
    # the child is gone; Popen must not wait for it (or for a later process with its id)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Failure(failed(command, child.returncode, pathlib.Path(stderr_path).read_text(errors="replace")))
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
    batch_duration_ms: float


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
                at_s = time.monotonic() - self.started
                try:
                    batch = json.loads(line)
                    yield Progress(at_s, int(batch["batchId"]), float(batch["batchDuration"] or 0))
                except (ValueError, KeyError, TypeError):
                    self.other_lines.append(line)

    def kill(self):
        """Kills with SIGKILL; false where the child had already ended by itself."""
        alive = self.child.poll() is None
        self.child.kill()
        return alive and self.child.wait() < 0

    def finish(self):
        """All progress that is still to come; a run that fails is a Failure."""
        rest = list(self.progress())
        code = self.child.wait()
        if code != 0:
            raise Failure(failed(self.command, code, "".join(self.other_lines)))
        return rest


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


def set_order(paths):
    """Gives files increasing modification times, a second apart, in the order given."""
    for index, path in enumerate(paths):
        at = 1_577_836_800 + index
        os.utime(path, (at, at))


def copy_input(source, folder):
    """Copies the JSON files of `source`; their names decide the order of modification times."""
    files = sorted(path for path in source.glob("*.json") if path.is_file())
    if not files:
        raise Failure(f"no *.json in {source}")
    folder.mkdir()
    set_order([pathlib.Path(shutil.copyfile(path, folder / path.name)) for path in files])


def tiny_input(folder, count, row=TINY_ROW):
    """`count` files of one flow each, all of them asking a web server; or of no row."""
    folder.mkdir()
    paths = [folder / f"tiny_{number:04}.json" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_text(row.format(n=number))
    set_order(paths)


def read_all(folder):
    """Reads every file, so that all contenders find it in the page cache; returns files, bytes and lines."""
    files = sorted(folder.glob("*.json"))
    contents = (path.read_bytes() for path in files)
    sizes = [(len(content), content.count(b"\n")) for content in contents]
    return len(files), sum(size for size, _ in sizes), sum(lines for _, lines in sizes)


def machine(scratch):
    """What the figures depend on."""
    def first(path, prefix):
        with contextlib.suppress(OSError):
            for line in open(path):
                if line.startswith(prefix):
                    return line.split(":", 1)[1].strip()
        return "unknown"

    command = ["stat", "--file-system", "--format=%T", str(scratch)]
    file_system = subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": first("/proc/cpuinfo", "model name"),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "file_system": file_system,
        "python": sys.version.split()[0],
    }
