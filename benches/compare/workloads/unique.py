"""`unique`: state that grows with the input, and whether a batch costs more because of it."""
import contenders
from bench import HERE, Task
from report import Found, Target, contender, plain, single

from .flows import note

# counted from 1; the batches before it also fill what is empty at first
FIFTH = 5
FILES_MIN = FIFTH + 1


def unique_task(bench):
    return Task(bench, HERE / "unique.sql", ["devices"], bench.inputs.get("unique"))


def unique(bench):
    task = unique_task(bench)
    results = bench.rounds("unique", {
        "duckdb": lambda: contenders.duckdb_tables(task),
        "stream": lambda: contenders.highwater_run_told(task),
    })
    samples, durations_ms = zip(*results["stream"])
    reference = results["duckdb"]
    fifth_ms, last_ms = ([one[index] for one in durations_ms] for index in (FIFTH - 1, -1))
    slowest_ms = [max(one[FIFTH:]) for one in durations_ms]
    last = single("the last batch, beside the fifth", last_ms, "ms", fifth_ms)
    last.targets.append(Target("wall", last.ratios["wall"], 1.5))
    limits = {"CPU": 1.2, "memory": 1.0}
    rows = [
        contender(f"`highwater run`, {task.input.files} durable commits", samples, reference, limits),
        contender(f"DuckDB, CREATE TABLE AS, {bench.options.threads} threads", reference, reference),
        last,
        single("the slowest batch after the fifth", slowest_ms, "ms", fifth_ms),
        single("the fifth batch", fifth_ms, "ms", fifth_ms),
    ]
    return Found(rows, note(task), plain({"duckdb": reference, "stream": samples, "batches_ms": durations_ms}))
