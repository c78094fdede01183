"""The workloads by name, in the order in which they run."""
from dataclasses import dataclass
from typing import Callable

from . import flows, four, listing, restart, spark, tiny, unique


@dataclass
class Workload:
    """What it measures, which inputs it reads, and which packages it needs besides DuckDB."""

    about: str
    measure: Callable
    inputs: tuple
    packages: tuple = ()


WORKLOADS = {
    "flows": Workload("the README's job beside DuckDB, Polars and the batch", flows.flows, ("flows",), ("polars",)),
    "large": Workload("the same over ten times as much", flows.large, ("large",), ("polars",)),
    "four": Workload("four queries in one pass beside four of DuckDB", four.four, ("flows",)),
    "spark": Workload("the same stream as flows in Spark Structured Streaming", spark.spark, ("flows",), ("pyspark",)),
    "unique": Workload("5 million groups beside DuckDB", unique.unique, ("unique",)),
    "restart": Workload("kill -9, then from restart to the next commit", restart.restart, ("flows", "unique")),
    "tiny": Workload("triggers of one row and of none beside write and fsync", tiny.tiny, ("tiny", "empty")),
    "listing": Workload("a folder of 100,000 files beside one of 100", listing.listing, ("many", "few", "first")),
}
