"""Rows of the table: figures, ratios, targets and whether they are met."""
import dataclasses
import statistics
from dataclasses import dataclass, field

import measure

HEADER = ["workload", "what", "wall time", "from .. to", "CPU", "peak memory"]
HEADER += ["wall ratio", "CPU ratio", "memory ratio", "target: met"]
# a ratio's name and what it is taken from
RATIOS = {"wall": "wall_s", "CPU": "cpu_s", "memory": "peak_mib"}


def number(value):
    """Three digits, or more before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass
class Target:
    """One figure that shall be at most, or at least, its limit."""

    what: str
    measured: float
    limit: float
    unit: str = " x"
    at_least: bool = False

    def met(self):
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def text(self):
        comparison = ">=" if self.at_least else "<="
        return f"{self.what} {comparison} {number(self.limit)}{self.unit}: {'yes' if self.met() else '**no**'}"


@dataclass
class Row:
    """One line of the table; what it has no figure for stays empty."""

    what: str
    values: list
    unit: str
    cpu_s: float = None
    peak_mib: float = None
    # by the names of RATIOS
    ratios: dict = field(default_factory=dict)
    targets: list = field(default_factory=list)

    def cells(self, work):
        def cell(text, value):
            return "" if value is None else text.format(value)

        ratios = (f"{number(self.ratios[name])} x" if name in self.ratios else "" for name in RATIOS)
        return [
            work,
            self.what,
            f"{number(statistics.median(self.values))} {self.unit}",
            f"{number(min(self.values))} .. {number(max(self.values))}",
            cell("{:.2f} s", self.cpu_s),
            cell("{:.0f} MiB", self.peak_mib),
            *ratios,
            "; ".join(target.text() for target in self.targets),
        ]

    def plain(self):
        return dataclasses.asdict(self) | {"met": [target.met() for target in self.targets]}


@dataclass
class Found:
    """What one workload found."""

    rows: list
    # what the input was
    note: str
    # everything that was measured, as plain data
    samples: dict


def contender(what, samples, reference, limits=None, at_least=False):
    """A row of whole processes, beside those of the reference."""
    medians = {name: measure.median(samples, figure) for name, figure in RATIOS.items()}
    ratios = {name: medians[name] / measure.median(reference, figure) for name, figure in RATIOS.items()}
    targets = [Target(name, ratios[name], limit, at_least=at_least) for name, limit in (limits or {}).items()]
    walls = [sample.wall_s for sample in samples]
    return Row(what, walls, "s", medians["CPU"], medians["memory"], ratios, targets)


def single(what, values, unit, reference=None, targets=()):
    """A row of times that are no whole processes; with `reference`, other times, the ratio of the medians."""
    ratios = {"wall": statistics.median(values) / statistics.median(reference)} if reference else {}
    return Row(what, values, unit, ratios=ratios, targets=list(targets))


def plain(results):
    """Lists of Samples, or of anything that is plain already, as plain data."""
    def one(result):
        return dataclasses.asdict(result) if dataclasses.is_dataclass(result) else result

    return {name: [one(result) for result in values] for name, values in results.items()}


def table(found):
    """The Markdown table of what was found, by workload."""
    lines = [HEADER, ["---", "---", *["---:"] * (len(HEADER) - 3), "---"]]
    for work, one in found.items():
        lines += [row.cells(work) for row in one.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def footer(found, facts):
    """What the figures are, what they depend on, and on which machine they came about."""
    machine, versions = facts["machine"], facts["versions"]
    programs = ", ".join([facts["highwater"], *(f"{name} {version}" for name, version in versions.items())])
    if facts["java"]:
        programs += f", Java {facts['java']}"
    return "\n".join([
        *(f"{work}: {one.note}  " for work, one in found.items()),
        f"Medians of {facts['runs']} runs (Spark: {facts['spark_runs']}), the contenders of a workload taking turns; "
        "all results equal. Ratios are of medians, to the row of the workload that has 1. Times, CPU and memory are "
        "those of whole processes, from start to exit, except where no CPU is given. Peak memory is what the kernel "
        f"says of the largest process; a bare `true` has {facts['floor_mib']:.0f} MiB here.  ",
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory']}, {machine['kernel']}, scratch on "
        f"{machine['file_system']}; {programs}, Python {machine['python']}.",
    ])
