"""`tiny`: from a trigger to its durable commit where there is hardly anything to do, beside what fsync itself takes."""
import statistics

import measure
import tools
from inputs import TINY_FILES
from report import Found, Target, plain, single

from .flows import web_servers


def triggers(task):
    """The median of each: a batch by its own account, from commit to commit, and 4 KiB written and synced beside it."""
    bench = task.bench
    checkpoint = bench.new_folder("checkpoint")
    command = bench.run_command(task.job, task.input.folder, checkpoint, "--progress", "json")
    with measure.WatchedRun(command, tools.ROOT) as run:
        batches, _ = run.finish()
    if len(batches) != TINY_FILES:
        raise measure.Failure(f"{TINY_FILES} files in {task.input.folder}, but {len(batches)} batches were reported")
    syncs_ms = measure.fsync_pairs_ms(checkpoint, TINY_FILES)
    task.check_checkpoint(checkpoint, "highwater run")
    gaps_ms = [(after.at_s - before.at_s) * 1000 for before, after in zip(batches, batches[1:])]
    return {
        "batch_duration_ms": statistics.median(batch.batch_duration_ms for batch in batches),
        "commit_to_commit_ms": statistics.median(gaps_ms),
        "write_and_fsync_ms": statistics.median(syncs_ms),
    }


def tiny(bench):
    one_row, no_row = (web_servers(bench, bench.inputs.get(name)) for name in ("tiny", "empty"))
    results = bench.rounds("tiny", {"one_row": lambda: triggers(one_row), "no_row": lambda: triggers(no_row)})

    def values(contender, name):
        return [one[name] for one in results[contender]]

    syncs_ms = values("one_row", "write_and_fsync_ms") + values("no_row", "write_and_fsync_ms")
    limit_ms = 2 * statistics.median(syncs_ms) + 1

    def row(what, contender):
        gaps_ms = values(contender, "commit_to_commit_ms")
        target = Target("2 pairs + 1 ms: p50", statistics.median(gaps_ms), limit_ms, " ms")
        return single(f"trigger of {what}, commit to commit, p50", gaps_ms, "ms", syncs_ms, [target])

    durations_ms = values("one_row", "batch_duration_ms")
    rows = [
        row("one row", "one_row"),
        single("trigger of one row, `batchDuration` (whole ms), p50", durations_ms, "ms", syncs_ms),
        row("no row", "no_row"),
        single("write and fsync of 4 KiB (a pair), p50", syncs_ms, "ms", syncs_ms),
    ]
    note = f"{TINY_FILES} files of one row, {TINY_FILES} of none; as many pairs, by a bare loop, after each run."
    return Found(rows, note, plain(results))
