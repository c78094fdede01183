"""The Spark contender, one process per run: the stream of jobs/web_servers.sql in Spark Structured Streaming.

Usage: spark_stream.py FOLDER CHECKPOINT SCRATCH THREADS

One file a trigger, all files that are there, then the end; result in a memory sink in complete mode. Writes the final
table, one JSON object a line, to SCRATCH/rows.json, and what else is of interest to stdout, as one JSON object.

Settings that are not Spark's own: local[THREADS], as many shuffle partitions as threads (the default of 200 would take
many times as long), no web interface, no progress bar, no warnings; everything stays on this machine and in SCRATCH.
"""
import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col

SCHEMA = """
    time DOUBLE, duration DOUBLE, srcdevice STRING, dstdevice STRING, protocol DOUBLE, srcport STRING,
    dstport STRING, srcpackets DOUBLE, dstpackets DOUBLE, srcbytes DOUBLE, dstbytes DOUBLE
"""


def session(scratch, threads):
    settings = {
        "spark.sql.shuffle.partitions": threads,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.log.level": "ERROR",
        "spark.local.dir": f"{scratch}/local",
        "spark.sql.warehouse.dir": f"{scratch}/warehouse",
    }
    builder = SparkSession.builder.master(f"local[{threads}]").appName("web_servers")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def run(spark, folder, checkpoint):
    """Runs the stream to its end; returns the number of its last batch."""
    flows = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).json(folder)
    counts = flows.where(col("dstport").isin("80", "443")).groupBy("dstdevice").count()
    writer = counts.writeStream.outputMode("complete").format("memory").queryName("counts")
    query = writer.option("checkpointLocation", checkpoint).trigger(availableNow=True).start()
    query.awaitTermination()
    return query.lastProgress["batchId"]


def stop(spark):
    """Ends the JVM and waits for it, so that its time and memory are counted with ours; returns its peak memory."""
    gateway = spark.sparkContext._gateway
    process = gateway.proc
    with open(f"/proc/{process.pid}/status") as status:
        peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    spark.stop()
    gateway.shutdown()
    # the JVM leaves when this pipe is closed
    process.stdin.close()
    process.wait(timeout=60)
    return peak_kib


def main(folder, checkpoint, scratch, threads):
    spark = session(scratch, threads)
    last_batch = run(spark, folder, checkpoint)
    rows = spark.table("counts").orderBy(col("count").desc(), "dstdevice").collect()
    with open(f"{scratch}/rows.json", "w") as out:
        out.writelines(json.dumps(row.asDict()) + "\n" for row in rows)
    json.dump({"last_batch": last_batch, "jvm_peak_kib": stop(spark)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
