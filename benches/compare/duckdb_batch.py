"""The DuckDB contender, one process per run: queries over all files at once.

Usage: duckdb_batch.py import
       duckdb_batch.py print QUERY FOLDER THREADS needed|all
       duckdb_batch.py tables QUERY[,QUERY] FOLDER THREADS [ROWS]

`import` only loads DuckDB, so that Python's share is known. `print` writes the query's rows, one JSON object a line, as
`highwater batch --output json` does. `tables` keeps each result in memory, as a table, and writes one digest for each,
a JSON object: its number of rows, a hash of them that does not depend on their order, and the sums of the columns in
floating point, which would not hash the same. With ROWS, a folder, each table is also written to ROWS/QUERY.parquet.
"""
import json
import sys

import duckdb

COLUMNS = {
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
# the columns that each query needs, and its text; the first column that comes out is the key of the group
QUERIES = {
    # jobs/web_servers.sql
    "web": (
        ["dstdevice", "dstport"],
        """SELECT dstdevice, count(*) AS count FROM {flows} WHERE dstport IN ('80', '443')
           GROUP BY ALL ORDER BY count DESC, dstdevice""",
    ),
    # the others of four.sql
    "bytes": (["srcdevice", "dstbytes"], "SELECT srcdevice, sum(dstbytes) AS bytes FROM {flows} GROUP BY ALL"),
    "durations": (
        ["protocol", "duration"],
        """SELECT protocol, min(duration) AS shortest, max(duration) AS longest, avg(duration) AS mean,
           count(*) AS count FROM {flows} GROUP BY ALL""",
    ),
    "ports": (["dstport"], "SELECT dstport, count(*) AS count FROM {flows} GROUP BY ALL"),
    # unique.sql
    "devices": (["dstdevice"], "SELECT dstdevice, count(*) AS count FROM {flows} GROUP BY ALL"),
}
# `records`: with one column only, DuckDB would look whether the lines are objects, and take ten times as long
FLOWS = "read_json('{folder}/*.json', format = 'newline_delimited', records = true, columns = {columns})"


def connected(threads):
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}")
    return connection


def text_of(query, folder, columns):
    needed, text = QUERIES[query]
    declared = COLUMNS if columns == "all" else {name: COLUMNS[name] for name in needed}
    return text.format(flows=FLOWS.format(folder=folder.replace("'", "''"), columns=declared))


def print_rows(query, folder, threads, columns):
    result = connected(threads).execute(text_of(query, folder, columns))
    names = [column[0] for column in result.description]
    sys.stdout.writelines(json.dumps(dict(zip(names, row))) + "\n" for row in result.fetchall())


def tables(queries, folder, threads, rows_folder=None):
    connection = connected(threads)
    digests = {}
    for query in queries.split(","):
        connection.execute(f"CREATE TABLE {query} AS {text_of(query, folder, 'needed')}")
        digests[query] = digest(connection, query)
        if rows_folder:
            path = f"{rows_folder}/{query}.parquet".replace("'", "''")
            connection.execute(f"COPY {query} TO '{path}' (FORMAT parquet)")
    json.dump(digests, sys.stdout)


def digest(connection, table):
    columns = connection.execute(f"DESCRIBE {table}").fetchall()
    exact = [column[0] for column in columns if column[1] != "DOUBLE"]
    floats = [column[0] for column in columns if column[1] == "DOUBLE"]
    wanted = ["count(*)", f"bit_xor(hash({', '.join(exact)}))", *(f"sum({name})" for name in floats)]
    rows, hashed, *sums = connection.execute(f"SELECT {', '.join(wanted)} FROM {table}").fetchone()
    return {"rows": rows, "hash": hashed, "sums": sums}


if __name__ == "__main__":
    if sys.argv[1] == "print":
        print_rows(*sys.argv[2:])
    elif sys.argv[1] == "tables":
        tables(*sys.argv[2:])
    elif sys.argv[1] != "import":
        sys.exit(__doc__)
