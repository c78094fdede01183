"""The Polars contender, one process per run: the query of jobs/web_servers.sql over all files at once.

Usage: polars_batch.py FOLDER

Reads lazily, only the columns needed, with the streaming engine, and writes one JSON object a line. The number of
threads is what POLARS_MAX_THREADS says.
"""
import sys

import polars as pl


def main(folder):
    flows = pl.scan_ndjson(f"{folder}/*.json", schema={"dstdevice": pl.String, "dstport": pl.String})
    counts = (
        flows.filter(pl.col("dstport").is_in(["80", "443"]))
        .group_by("dstdevice")
        .agg(pl.len().alias("count"))
        .sort(["count", "dstdevice"], descending=[True, False])
    )
    counts.collect(engine="streaming").write_ndjson(sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
