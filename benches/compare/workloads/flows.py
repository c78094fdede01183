"""`flows` and `large`: the job of jobs/web_servers.sql beside batch engines that read the same files at once."""
import contenders
import tools
from bench import Task
from report import Found, contender, plain

JOB = tools.ROOT / "jobs" / "web_servers.sql"


def web_servers(bench, given):
    return Task(bench, JOB, ["web"], given, ordered=True)


def note(task):
    return f"{task.input.text()}, {', '.join(f'{groups:,}' for groups in task.groups.values())} groups."


def flows(bench):
    task = web_servers(bench, bench.inputs.get("flows"))
    results = bench.rounds("flows", {
        "duckdb": lambda: contenders.duckdb_print(task, "needed"),
        "duckdb_all": lambda: contenders.duckdb_print(task, "all"),
        "duckdb_import": lambda: contenders.duckdb_import(bench),
        "polars": lambda: contenders.polars(task),
        "batch": lambda: contenders.highwater_batch(task),
        "stream": lambda: contenders.highwater_run(task),
    })
    threads, reference = bench.options.threads, results["duckdb"]
    limits = {"wall": 0.5, "CPU": 0.7, "memory": 0.75}
    rows = [
        contender(f"`highwater run`, {task.input.files} durable commits", results["stream"], reference, limits),
        contender("`highwater batch`", results["batch"], reference),
        contender(f"DuckDB, the columns needed, {threads} threads", reference, reference),
        contender(f"DuckDB, all columns, {threads} threads", results["duckdb_all"], reference),
        contender("Python loading DuckDB, nothing else", results["duckdb_import"], reference),
        contender(f"Polars, the columns needed, {threads} threads", results["polars"], reference),
    ]
    return Found(rows, note(task), plain(results))


def large(bench):
    task = web_servers(bench, bench.inputs.get("large"))
    results = bench.rounds("large", {
        "duckdb": lambda: contenders.duckdb_print(task, "needed"),
        "polars": lambda: contenders.polars(task),
        "stream": lambda: contenders.highwater_run(task),
    })
    threads, reference = bench.options.threads, results["duckdb"]
    limits = {"wall": 0.6, "CPU": 0.6, "memory": 1.0}
    rows = [
        contender(f"`highwater run`, {task.input.files} durable commits", results["stream"], reference, limits),
        contender(f"DuckDB, the columns needed, {threads} threads", reference, reference),
        contender(f"Polars, the columns needed, {threads} threads", results["polars"], reference),
    ]
    return Found(rows, note(task), plain(results))
