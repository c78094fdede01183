"""The DuckDB contender, one process per run: the query of jobs/web_servers.sql over all files at once.

Usage: duckdb_batch.py import
       duckdb_batch.py query FOLDER THREADS two|all RESULT.json

`import` only loads DuckDB, so that Python's share is known. `query` writes {"version", "query_s", "rows"}.
"""
import json
import sys
import time

import duckdb

TWO = {"dstdevice": "VARCHAR", "dstport": "VARCHAR"}
ALL = {
    "time": "DOUBLE",
    "duration": "DOUBLE",
    "srcdevice": "VARCHAR",
    "dstdevice": "VARCHAR",
    "protocol": "DOUBLE",
    "srcport": "VARCHAR",
    "dstport": "VARCHAR",
    "srcpackets": "DOUBLE",
    "dstpackets": "DOUBLE",
    "srcbytes": "DOUBLE",
    "dstbytes": "DOUBLE",
}
QUERY = """
    SELECT dstdevice, count(*) AS count
    FROM read_json($files, format = 'newline_delimited', columns = {columns})
    WHERE dstport IN ('80', '443') GROUP BY ALL ORDER BY count DESC, dstdevice
"""


def query(folder, threads, columns, result_path):
    started = time.monotonic()
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}")
    text = QUERY.format(columns={"two": TWO, "all": ALL}[columns])
    rows = connection.execute(text, {"files": f"{folder}/*.json"}).fetchall()
    query_s = time.monotonic() - started
    with open(result_path, "w") as result:
        json.dump({"version": duckdb.__version__, "query_s": query_s, "rows": rows}, result)


if __name__ == "__main__":
    if sys.argv[1] == "query":
        query(*sys.argv[2:])
    elif sys.argv[1] != "import":
        sys.exit(__doc__)
