"""The input folders: each is made in the scratch folder when a workload first asks for it."""
import os
import pathlib
import shutil
from dataclasses import dataclass

from measure import Failure

# name, default files, default rows in each, what `highwater generate flows` is given besides
GENERATED = {
    "flows": (50, 10_000, []),
    "large": (50, 100_000, []),
    "unique": (20, 250_000, ["--unique"]),
}
TINY_FILES = 200
FEW_FILES = 100
LISTED_BATCHES = 20
READ_BYTES = 1 << 20
# the shape of a flow; see `highwater generate flows`
TINY_ROW = (
    '{{"time": {n}.0, "duration": 0.0, "srcdevice": "Comp000001", "dstdevice": "Comp{n:06}", '
    '"protocol": 6.0, "srcport": "Port00001", "dstport": "80", '
    '"srcpackets": 1.0, "dstpackets": 1.0, "srcbytes": 40.0, "dstbytes": 40.0}}\n'
)


@dataclass
class Input:
    """One folder of JSON files, all of them in the page cache."""

    folder: pathlib.Path
    files: int
    bytes: int
    rows: int

    def text(self):
        return f"{self.files:,} files, {self.rows:,} rows, {self.bytes / 1e6:,.0f} MB"


class Inputs:
    """Makes folders by name, and forgets those that nobody needs any more."""

    def __init__(self, scratch, options, generate):
        self.scratch = scratch
        self.options = options
        # a function: runs `highwater generate flows` with these arguments
        self.generate = generate
        self.made = {}

    def get(self, name):
        if name not in self.made:
            folder = self.scratch / name
            self.make(name, folder)
            # what the disk still has to write would disturb what is measured
            os.sync()
            self.made[name] = Input(folder, *read_all(folder))
        return self.made[name]

    def make(self, name, folder):
        if name == "flows" and self.options.input:
            copy_input(self.options.input, folder)
        elif name in GENERATED:
            files, rows, more = GENERATED[name]
            sizes = ["--files", self.options.files or files, "--rows", self.options.rows or rows]
            self.generate([folder, *sizes, "--seed", self.options.seed, *more])
        elif name == "empty":
            tiny_input(folder, TINY_FILES, row="")
        else:
            counts = {"tiny": TINY_FILES, "few": FEW_FILES, "first": LISTED_BATCHES, "many": self.options.listing}
            tiny_input(folder, counts[name])

    def keep_only(self, names):
        for name in self.made.keys() - set(names):
            shutil.rmtree(self.made.pop(name).folder)


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
    paths = [f"{folder}/tiny_{number:06}.json" for number in range(count)]
    for number, path in enumerate(paths):
        with open(path, "w") as file:
            file.write(row.format(n=number))
    set_order(paths)


def read_all(folder):
    """Reads every file, so that all contenders find it in the page cache; returns files, bytes and lines.

    In small pieces: what this script ever held counts as memory of the children that it starts, see `measure.floor`.
    """
    files, size, lines = 0, 0, 0
    buffer = bytearray(READ_BYTES)
    for entry in os.scandir(folder):
        files += 1
        with open(entry.path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                size += count
                lines += buffer.count(b"\n", 0, count)
    return files, size, lines
