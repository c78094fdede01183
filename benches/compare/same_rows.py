"""Compares two tables row by row, outside of anything that is measured.

Usage: same_rows.py EXPECTED.parquet FOUND.json [ordered]

The first column is the key. Columns in floating point may differ by 1e-9 of their value, all others not at all; with
`ordered` the rows must come in the same order, too. Says what the first difference is and exits with 1, or nothing.
"""
import sys

import duckdb

TOLERANCE = 1e-9


def read(connection, expected, found, ordered):
    """Tables `expected` and `found`: both with the columns and types of the first, and `place`, the row's number."""
    connection.execute("SET preserve_insertion_order = true")
    place = "row_number() OVER ()" if ordered else "0"
    connection.execute(f"CREATE TABLE expected AS SELECT *, {place} AS place FROM read_parquet($1)", [expected])
    columns = [(name, kind) for name, kind, *_ in connection.execute("DESCRIBE expected").fetchall() if name != "place"]
    # the largest 5 million rows of one file are 250 MB; read without guessing types
    source = f"read_json($1, format = 'newline_delimited', columns = {dict(columns)})"
    connection.execute(f"CREATE TABLE found AS SELECT *, {place} AS place FROM {source}", [found])
    return columns


def differing(columns):
    """The condition under which two rows with the same key, `e` and `f`, differ."""
    def differs(name, kind):
        plainly = f'e."{name}" IS DISTINCT FROM f."{name}"'
        if kind not in ("DOUBLE", "FLOAT"):
            return plainly
        within = f'abs(e."{name}" - f."{name}") <= {TOLERANCE} * greatest(abs(e."{name}"), abs(f."{name}"))'
        return f"({plainly} AND NOT coalesce({within}, false))"

    return " OR ".join(differs(name, kind) for name, kind in [*columns, ("place", "BIGINT")])


def main(expected, found, ordered=""):
    connection = duckdb.connect()
    columns = read(connection, expected, found, ordered == "ordered")
    counts = connection.execute("SELECT (SELECT count(*) FROM expected), (SELECT count(*) FROM found)").fetchone()
    key = columns[0][0]
    # a row that is missing, or there twice, shows in the counts or here
    on = f'ON e."{key}" IS NOT DISTINCT FROM f."{key}"'
    query = f"FROM expected e FULL JOIN found f {on} WHERE e.place IS NULL OR f.place IS NULL OR {differing(columns)}"
    first = connection.execute(f"SELECT e, f {query} ORDER BY e.place, f.place LIMIT 1").fetchone()
    if first or counts[0] != counts[1]:
        sys.exit(f"{counts[0]} rows were expected, {counts[1]} found; first difference (expected, found): {first}")


if __name__ == "__main__":
    main(*sys.argv[1:])
