"""What all workloads share: where things are, how something is run in turns, and what must come out."""
import json
import math
import pathlib
import random
import shutil
import subprocess

import measure
import tools
from inputs import Inputs

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-9


class Bench:
    """The scratch folder and the programs."""

    def __init__(self, options, scratch, highwater, python):
        self.options = options
        self.scratch = scratch
        self.highwater = highwater
        # one that can load the packages of the contenders
        self.python = python
        self.chance = random.Random(options.seed)
        self.inputs = Inputs(scratch, options, self.generate)
        self.folders = 0

    def generate(self, arguments):
        self.measured([self.highwater, "generate", "flows", *arguments], "generate")

    def measured(self, command, name, environment=None):
        """Runs the command from the project's root; what it writes is at `output(name)` and `errors(name)`."""
        command = [str(part) for part in command]
        return measure.run_measured(command, tools.ROOT, self.output(name), self.errors(name), environment)

    def output(self, name):
        return self.scratch / f"{name}.out"

    def errors(self, name):
        return self.scratch / f"{name}.err"

    def new_folder(self, name):
        """The path of a folder that is not there yet."""
        self.folders += 1
        return self.scratch / f"{name}{self.folders}"

    def run_command(self, job, folder, checkpoint, *more):
        given = ["--set", f"INPUT={folder}", "--checkpoint", checkpoint, "--available-now", *more]
        return [str(part) for part in (self.highwater, "run", job, *given)]

    def rounds(self, work, contenders, runs=None, warm_up=True):
        """Runs all contenders in turn, `runs` times; returns for each, by name, the list of what it returned.

        The first round warms up the page cache and is not counted. Each round begins with another contender.
        """
        runs = runs or self.options.runs
        names = list(contenders)
        results = {name: [] for name in names}
        for turn in range(0 if warm_up else 1, runs + 1):
            tools.say(f"{work}: round {turn} of {runs}" + (" (not counted)" if turn == 0 else ""))
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                result = contenders[name]()
                if turn > 0:
                    results[name].append(result)
        return results


class Task:
    """What is to be computed over which input, and, by DuckDB in a run of its own, what must come out."""

    def __init__(self, bench, job, queries, given, ordered=False):
        self.bench = bench
        self.job = job
        # the names of the job's memory sinks, which duckdb_batch.py knows too
        self.queries = queries
        self.input = given
        self.ordered = ordered
        self.expected = bench.new_folder("expected")
        self.expected.mkdir()
        self.run_tables(queries, self.expected)
        self.digests = json.loads(bench.output("tables").read_text())
        self.groups = {query: digest["rows"] for query, digest in self.digests.items()}

    def run_tables(self, queries, *more):
        program = [self.bench.python, HERE / "duckdb_batch.py", "tables", ",".join(queries)]
        return self.bench.measured([*program, self.input.folder, self.bench.options.threads, *more], "tables")

    def check_digests(self, who):
        """What `run_tables` told last is what was expected."""
        for query, digest in json.loads(self.bench.output("tables").read_text()).items():
            expected = self.digests[query]
            exact = [(one["rows"], one["hash"]) for one in (digest, expected)]
            close = (math.isclose(*pair, rel_tol=TOLERANCE) for pair in zip(digest["sums"], expected["sums"]))
            if exact[0] != exact[1] or not all(close):
                raise measure.Failure(f"{who}, {query}: {digest} for the same input as {expected}")

    def check_rows(self, path, who, query=None):
        """The rows at `path`, one JSON object a line, are what was expected."""
        query = query or self.queries[0]
        expected = self.expected / f"{query}.parquet"
        command = [self.bench.python, HERE / "same_rows.py", expected, path, *(["ordered"] if self.ordered else [])]
        checked = subprocess.run(command, capture_output=True, text=True)
        if checked.returncode != 0:
            raise measure.Failure(f"{who}, {query}: {checked.stderr.strip()}")

    def check_checkpoint(self, checkpoint, who):
        """The results that this checkpoint has are what was expected; it is removed then."""
        for query in self.queries:
            sink = [] if len(self.queries) == 1 else ["--query", query]
            self.bench.measured([self.bench.highwater, "show", checkpoint, *sink, "--output", "json"], "show")
            self.check_rows(self.bench.output("show"), who, query)
        shutil.rmtree(checkpoint)
