//! The one integration-test binary: DataFusion links slowly, so all modules share one link.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)] // tests may look at the clock and say what they skip

/// Queries over a table `flows (device, port, bytes)` for each kind of state beside groups of all batches: first rows of keys,
/// both sides of a join of streams, a limit, the groups of the last batches.
macro_rules! operators {
    () => {
        "
CREATE TABLE first_seen WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE pairs WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE few WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE lately WITH (connector = 'memory', output_mode = 'append', window_batches = '3', slide_batches = '2');
INSERT INTO first_seen SELECT DISTINCT ON (device) left(device, 20) AS device, port FROM flows;
INSERT INTO pairs SELECT left(a.device, 20) AS device, a.bytes AS web, b.bytes AS shell
  FROM flows a JOIN flows b ON a.device = b.device AND a.port = '80' AND b.port = '22' AND a.bytes < b.bytes;
INSERT INTO few SELECT left(device, 20) AS device, bytes FROM flows WHERE port = '443' LIMIT 9 OFFSET 2;
INSERT INTO lately SELECT port, count(*) AS flows, sum(bytes) AS bytes FROM flows WHERE port <> '22' GROUP BY port ORDER BY bytes DESC LIMIT 2;
"
    };
}

/// Queries with each kind of state that a watermark bounds, over `flows (device, port, bytes, ts)`: open windows, closed ones
/// with their late rows, sessions, a join with what has no partner and windows over it, first rows of keys.
macro_rules! over_event_time {
    () => {
        "
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT, ts TIMESTAMP)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1', event_time = 'ts', watermark_delay = '10 seconds');
CREATE TABLE open WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
CREATE TABLE closed WITH (connector = 'memory', output_mode = 'append', late_rows = '${OUTPUT}');
CREATE TABLE visits WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE paths WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE busy WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE firsts WITH (connector = 'memory', output_mode = 'append');
INSERT INTO open SELECT window.start AS opens, port, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY window(ts, '20 seconds'), port;
INSERT INTO closed SELECT window.start AS opens, device, count(*) AS flows FROM flows GROUP BY window(ts, '10 seconds', '5 seconds'), device;
INSERT INTO visits SELECT session_window.start AS begins, session_window.end AS ends, device, count(*) AS flows
  FROM flows GROUP BY session_window(ts, '6 seconds'), device;
INSERT INTO paths SELECT left(a.device, 20) AS device, a.ts AS web, b.ts AS shell FROM flows a LEFT JOIN flows b
  ON a.device = b.device AND b.port = '22' AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '8 seconds';
INSERT INTO busy SELECT window.start AS opens, count(*) AS pairs FROM (SELECT a.ts AS t FROM flows a JOIN flows b
  ON a.device = b.device AND a.port = '80' AND b.port = '22' AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '8 seconds') GROUP BY window(t, '10 seconds');
INSERT INTO firsts SELECT DISTINCT ON (device, ts) left(device, 20) AS device, ts, port FROM flows;
"
    };
}

mod architecture;
mod avro;
mod binary;
mod cleaning;
mod cli;
mod crash_points;
mod damage;
mod endurance;
mod event_time;
mod faults;
mod fed;
mod folders;
mod golden;
mod golden_cases;
mod golden_jobs;
mod json_suite;
mod kills;
mod late_rows;
mod moving_input;
mod oracle;
mod parquet;
mod power_loss;
mod properties;
mod published;
mod read_ahead;
mod readme;
mod received;
mod repairs;
mod restarts;
mod rewinds;
mod servers;
mod sinks;
mod statics;
mod stream;
mod syscalls;
mod trace;
mod ui;
