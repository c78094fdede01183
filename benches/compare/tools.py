"""What the comparison needs here: the release binary, a virtual environment, Java; and what machine this is."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from measure import Failure

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VENV = pathlib.Path.home() / ".cache" / "highwater-venv"
JAVA_MIN = 17
JAVA_PACKAGE = "openjdk-17-jre-headless"
# there, fsync costs nothing
NOT_DISKS = ("tmpfs", "ramfs")


def say(text):
    print(text, file=sys.stderr, flush=True)


def built_binary():
    """The release binary, or the one that HIGHWATER_BIN names."""
    if named := os.environ.get("HIGHWATER_BIN"):
        path = pathlib.Path(named).resolve()
        if not path.is_file():
            raise Failure(f"HIGHWATER_BIN names {path}, which is no file")
        return path
    say("building highwater")
    subprocess.run(["cargo", "build", "--locked", "--release", "--bin", "highwater"], cwd=ROOT, check=True)
    command = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return pathlib.Path(metadata["target_directory"]) / "release" / "highwater"


def python_with(packages):
    """A Python that has these packages, in an environment of its own."""
    python = VENV / "bin" / "python"
    if not python.exists():
        say(f"making {VENV}")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    missing = [name for name in packages if not has(python, name)]
    if missing:
        say(f"installing {', '.join(missing)} in {VENV}")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *missing], check=True)
    return python


def has(python, package):
    found = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return subprocess.run([python, "-c", found, package]).returncode == 0


def versions(python, packages):
    """Version by package, without loading it."""
    program = "import importlib.metadata, sys; print(*(importlib.metadata.version(name) for name in sys.argv[1:]))"
    told = subprocess.run([python, "-c", program, *packages], check=True, capture_output=True, text=True).stdout
    return dict(zip(packages, told.split()))


def java():
    """Java's version, installed where it is missing and may be installed; or None, and why."""
    version = java_version()
    if version is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {JAVA_PACKAGE}")
        command = ["apt-get", "install", "--yes", "--no-install-recommends", JAVA_PACKAGE]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        version = java_version()
    if version is None:
        return None, f"no `java`, and {JAVA_PACKAGE} could not be installed here"
    if version < JAVA_MIN:
        return None, f"`java` is version {version}, Spark needs {JAVA_MIN} or newer"
    return version, None


def java_version():
    """The major version of `java`, or None where there is none."""
    with contextlib.suppress(OSError):
        told = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
        # 17.0.15, or 1.8.0 as it was written once
        if found := re.search(r'version "(?:1\.)?(\d+)', told):
            return int(found.group(1))
    return None


def file_system(scratch):
    """What `scratch` lies on; a file system in memory is refused."""
    command = ["stat", "--file-system", "--format=%T", str(scratch)]
    found = subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    if found in NOT_DISKS:
        raise Failure(f"{scratch} is on {found}, where nothing is ever durable: give --scratch a folder on a disk")
    return found


def machine(scratch):
    """What the figures depend on."""
    def first(path, prefix):
        with contextlib.suppress(OSError):
            for line in open(path):
                if line.startswith(prefix):
                    return line.split(":", 1)[1].strip()
        return "unknown"

    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": first("/proc/cpuinfo", "model name"),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "file_system": file_system(scratch),
        "python": sys.version.split()[0],
    }
