"""`four`: four queries that share one pass over the files, beside four of DuckDB, which read them four times."""
import contenders
from bench import HERE, Task
from report import Found, contender, plain

from .flows import note

QUERIES = ["web", "bytes", "durations", "ports"]


def four(bench):
    task = Task(bench, HERE / "four.sql", QUERIES, bench.inputs.get("flows"))
    results = bench.rounds("four", {
        "duckdb": lambda: contenders.duckdb_tables(task),
        "duckdb_processes": lambda: contenders.duckdb_processes(task),
        "stream": lambda: contenders.highwater_run(task),
    })
    threads, reference = bench.options.threads, results["duckdb"]
    commits = f"{task.input.files} durable commits"
    rows = [
        contender(f"`highwater run`, one pass, {commits}", results["stream"], reference, {"wall": 0.3}),
        contender(f"DuckDB, one process, {threads} threads", reference, reference),
        contender(f"DuckDB, a process each, {threads} threads", results["duckdb_processes"], reference),
    ]
    return Found(rows, note(task), plain(results))
