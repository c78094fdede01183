"""`spark`: the same stream in Spark Structured Streaming."""
import contenders
from report import Found, contender, plain

from .flows import note, web_servers


def spark(bench):
    task = web_servers(bench, bench.inputs.get("flows"))
    runs = bench.options.spark_runs
    results = bench.rounds("spark", {
        "stream": lambda: contenders.highwater_run(task),
        "spark": lambda: contenders.spark(task),
    }, runs)
    threads, reference = bench.options.threads, results["stream"]
    settings = f"local[{threads}], spark.sql.shuffle.partitions={threads}"
    limits = {"wall": 50, "CPU": 50, "memory": 10}
    rows = [
        contender(f"`highwater run`, {task.input.files} durable commits", reference, reference),
        contender(f"Spark, {task.input.files} batches, {settings}", results["spark"], reference, limits, at_least=True),
    ]
    return Found(rows, f"{note(task)} Medians of {runs} runs here.", plain(results))
