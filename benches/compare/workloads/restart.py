"""`restart`: killed with SIGKILL at a random moment; how long from the restart to the next commit's progress line."""
import shutil
import statistics
import time

import measure
import tools
from report import Found, Target, plain, single

from .flows import web_servers
from .unique import unique_task

TRIES = 20


def restarted(task, last_batch):
    """Kills the job in the batch after `last_batch`, runs it again to its end, and checks the result.

    Returns None where the kill came after the last commit: nothing was left to do.
    """
    bench = task.bench
    checkpoint = bench.new_folder("checkpoint")
    command = bench.run_command(task.job, task.input.folder, checkpoint, "--progress", "json")
    if not killed_after_batch(bench, command, last_batch):
        shutil.rmtree(checkpoint)
        return None
    with measure.WatchedRun(command, tools.ROOT) as run:
        first = next(run.progress(), None)
        run.finish()
    task.check_checkpoint(checkpoint, "highwater run after kill -9")
    return first and {"killed_after_batch": last_batch, "restart_s": first.at_s}


def killed_after_batch(bench, command, last_batch):
    """Kills the job at a random moment of the batch after `last_batch`; false where it ended before."""
    with measure.WatchedRun(command, tools.ROOT) as run:
        for batch in run.progress():
            if batch.batch_id >= last_batch:
                # the next batch takes about as long as this one
                time.sleep(bench.chance.random() * batch.batch_duration_ms / 1000)
                return run.kill()
    return False


def until_killed(task, last_batch):
    """As `restarted`, tried until the job did not end before it could be killed; `last_batch` is a function."""
    for _ in range(TRIES):
        if found := restarted(task, last_batch()):
            return found
    raise measure.Failure(f"the job ended before it could be killed, {TRIES} times: give it more files or rows")


def restart(bench):
    flows, unique = web_servers(bench, bench.inputs.get("flows")), unique_task(bench)
    any_batch = max(flows.input.files - 1, 1)
    late_batch = unique.input.files - 3
    results = bench.rounds("restart", {
        "flows": lambda: until_killed(flows, lambda: bench.chance.randrange(any_batch)),
        "unique": lambda: until_killed(unique, lambda: late_batch),
    }, warm_up=False)
    times_ms = [one["restart_s"] * 1000 for one in results["flows"]]
    times_s = [one["restart_s"] for one in results["unique"]]
    target_ms = Target("wall", statistics.median(times_ms), 50, " ms")
    target_s = Target("wall", statistics.median(times_s), 2, " s")
    rows = [
        single("`flows`, killed in any batch: to the next commit", times_ms, "ms", targets=[target_ms]),
        single(f"`unique`, killed after batch {late_batch + 1}: to the next commit", times_s, "s", targets=[target_s]),
    ]
    each = unique.input.rows // unique.input.files
    note = f"flows: {flows.input.text()}; unique: {unique.input.text()}, each commit reads {each:,} of them."
    return Found(rows, note, plain(results))
