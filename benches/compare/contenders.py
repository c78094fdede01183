"""The contenders: each function runs one once, from its start to its exit, checks its result, and returns a Sample."""
import json
import shutil

import measure
from bench import HERE


def highwater_run(task, *more):
    """The stream with a fresh checkpoint, to its end: one durable commit a file."""
    checkpoint = task.bench.new_folder("checkpoint")
    command = task.bench.run_command(task.job, task.input.folder, checkpoint, *(more or ["--quiet"]))
    sample = task.bench.measured(command, "stream")
    task.check_checkpoint(checkpoint, "highwater run")
    return sample


def highwater_run_told(task):
    """As `highwater_run`, but tells its progress; returns the Sample and each batch's duration in milliseconds."""
    sample = highwater_run(task, "--progress", "json")
    with open(task.bench.errors("stream")) as lines:
        batches = [batch for line in lines if (batch := measure.progress_of(line))]
    if len(batches) != task.input.files:
        raise measure.Failure(f"{task.input.files} files, but {len(batches)} batches were reported")
    return sample, [batch.batch_duration_ms for batch in batches]


def highwater_batch(task):
    """The job's query over all files at once, without state."""
    command = [task.bench.highwater, "batch", task.job, "--set", f"INPUT={task.input.folder}", "--output", "json"]
    sample = task.bench.measured(command, "batch")
    task.check_rows(task.bench.output("batch"), "highwater batch")
    return sample


def duckdb_print(task, columns):
    """DuckDB, the same query over all files at once; `columns` is `needed` or `all`."""
    program = [task.bench.python, HERE / "duckdb_batch.py", "print", task.queries[0], task.input.folder]
    sample = task.bench.measured([*program, task.bench.options.threads, columns], "duckdb")
    task.check_rows(task.bench.output("duckdb"), f"DuckDB, {columns} columns")
    return sample


def duckdb_tables(task):
    """DuckDB, all queries one after the other in one process, each result a table in memory."""
    sample = task.run_tables(task.queries)
    task.check_digests("DuckDB")
    return sample


def duckdb_processes(task):
    """DuckDB, a process for each query, one after the other."""
    total = measure.Sample(0, 0, 0)
    for query in task.queries:
        total = total.then(task.run_tables([query]))
        task.check_digests("DuckDB")
    return total


def duckdb_import(bench):
    """Python, which loads DuckDB and does nothing with it."""
    return bench.measured([bench.python, HERE / "duckdb_batch.py", "import"], "import")


def polars(task):
    """Polars, lazily, the same query over all files at once."""
    environment = {"POLARS_MAX_THREADS": str(task.bench.options.threads)}
    command = [task.bench.python, HERE / "polars_batch.py", task.input.folder]
    sample = task.bench.measured(command, "polars", environment)
    task.check_rows(task.bench.output("polars"), "Polars")
    return sample


def spark(task):
    """Spark Structured Streaming, the same stream: one file a trigger, with a checkpoint."""
    folder = task.bench.new_folder("spark")
    folder.mkdir()
    arguments = [task.input.folder, folder / "checkpoint", folder, task.bench.options.threads]
    # nothing but the JVM on this machine is asked for an address
    environment = {"SPARK_LOCAL_IP": "127.0.0.1", "TMPDIR": str(folder)}
    command = [task.bench.python, HERE / "spark_stream.py", *arguments]
    sample = task.bench.measured(command, "spark", environment)
    told = json.loads(task.bench.output("spark").read_text())
    if told["last_batch"] != task.input.files - 1:
        raise measure.Failure(f"{task.input.files} files, but Spark's last batch is {told['last_batch']}")
    # the two accounts of the same peak differ by some hundred KiB
    if sample.peak_mib < 0.9 * told["jvm_peak_kib"] / 1024:
        raise measure.Failure("Spark's JVM was not counted: Python did not wait for it")
    task.check_rows(folder / "rows.json", "Spark")
    shutil.rmtree(folder)
    return sample
