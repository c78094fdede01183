"""`listing`: what a folder of very many files costs, at the start, in each batch, and when one more file comes."""
import os
import statistics
import time

import measure
import tools
from inputs import LISTED_BATCHES, TINY_ROW
from report import Found, plain, single

from .flows import web_servers


def first_batches(task, folder):
    """Seconds until the first commit, milliseconds from commit to commit, and the Sample of the whole run."""
    bench = task.bench
    checkpoint = bench.new_folder("checkpoint")
    more = ["--max-batches", LISTED_BATCHES, "--progress", "json"]
    with measure.WatchedRun(bench.run_command(task.job, folder, checkpoint, *more), tools.ROOT) as run:
        batches, sample = run.finish()
    if len(batches) != LISTED_BATCHES:
        raise measure.Failure(f"{LISTED_BATCHES} batches were asked for, {len(batches)} reported")
    # `task` is over the files that come first, which are the same in each folder
    task.check_checkpoint(checkpoint, f"highwater run over {folder.name}")
    gaps_ms = [(after.at_s - before.at_s) * 1000 for before, after in zip(batches, batches[1:])]
    return {
        "first_commit_s": batches[0].at_s,
        "commit_to_commit_ms": statistics.median(gaps_ms),
        "cpu_s": sample.cpu_s,
        "peak_mib": sample.peak_mib,
    }


# files that come one by one, and how long the job has nothing to do before the first
ARRIVALS, IDLE_S = 5, 3


def arrivals(bench, task, given):
    """Milliseconds from a file's arrival in the folder, all of whose other files were read, to its commit."""
    checkpoint = bench.new_folder("checkpoint")
    command = bench.run_command(task.job, given.folder, checkpoint)
    command.remove("--available-now")
    # one batch, whatever the limits
    bench.measured([*command, "--once", "--quiet"], "once")
    times_ms, files = [], []
    with measure.WatchedRun([*command, "--max-batches", str(ARRIVALS), "--progress", "json"], tools.ROOT) as run:
        batches = run.progress()
        time.sleep(IDLE_S)
        for number in range(ARRIVALS):
            file = given.folder / f"z_{number}.json"
            hidden = file.with_name(f".{file.name}")
            hidden.write_text(TINY_ROW.format(n=number))
            # what was written long ago is whole, and not waited for
            at = 1_600_000_000 + number
            os.utime(hidden, (at, at))
            came_s = time.monotonic() - run.started
            hidden.rename(file)
            files.append(file)
            times_ms.append((next(batches).at_s - came_s) * 1000)
        run.finish()
    for file in files:
        file.unlink()
    return statistics.median(times_ms)


def listing(bench):
    few, many = (bench.inputs.get(name) for name in ("few", "many"))
    task = web_servers(bench, bench.inputs.get("first"))
    results = bench.rounds("listing", {
        "few": lambda: first_batches(task, few.folder),
        "many": lambda: first_batches(task, many.folder),
        "few arrivals": lambda: arrivals(bench, task, few),
        "many arrivals": lambda: arrivals(bench, task, many),
    })

    def values(name, figure):
        return [one[figure] for one in results[name]]

    def first(name, given):
        what = f"{given.files:,} files: from start to the first commit"
        row = single(what, values(name, "first_commit_s"), "s", values("few", "first_commit_s"))
        row.cpu_s, row.peak_mib = (statistics.median(values(name, figure)) for figure in ("cpu_s", "peak_mib"))
        for ratio, figure in (("CPU", "cpu_s"), ("memory", "peak_mib")):
            row.ratios[ratio] = statistics.median(values(name, figure)) / statistics.median(values("few", figure))
        return row

    def later(name, given):
        what = f"{given.files:,} files: commit to commit"
        return single(what, values(name, "commit_to_commit_ms"), "ms", values("few", "commit_to_commit_ms"))

    def arriving(name, given):
        what = f"{given.files:,} files were read, one more comes: to its commit"
        return single(what, results[f"{name} arrivals"], "ms", results["few arrivals"])

    rows = [first("many", many), first("few", few), later("many", many), later("few", few)]
    rows += [arriving("many", many), arriving("few", few)]
    note = f"files of one row; {LISTED_BATCHES} batches, one file each; CPU and memory are those of the whole run."
    return Found(rows, note, plain(results))
