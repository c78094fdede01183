//! A job that runs with its page, over input with all that a page has to show: bad, late and hostile rows.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::http::{Events, get};
use crate::binary::{Folder, HANGS_AFTER, Running};

const JOB: &str = "
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT, ts TIMESTAMP)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1', event_time = 'ts', watermark_delay = '10 seconds');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
INSERT INTO counts SELECT device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY device ORDER BY flows DESC;
INSERT INTO traffic SELECT window.start AS opens, CAST(port AS INT) AS port, count(*) AS flows FROM flows GROUP BY window(ts, '20 seconds'), CAST(port AS INT);
";

/// The job and its input.
pub fn folder() -> Folder {
    let folder = Folder::in_memory(JOB);
    let row = |device: &str, second: u32| {
        format!(
            "{{\"device\":\"{device}\",\"port\":\"{}\",\"bytes\":{},\"ts\":\"2024-01-01T00:00:{second:02}Z\"}}\n",
            80 + second % 3,
            second * 100
        )
    };
    for file in 0..4_u32 {
        let rows: String = (0..20 * (file + 1))
            .map(|number| row(&format!("Comp{}", number % (file + 4)), file * 14 + number % 5))
            .collect();
        folder.input(file as usize, rows.as_bytes());
    }
    let hostile = row("<script>alert(1)</script>", 50) + "no record\n" + &row("late", 1);
    folder.write("input/9 <img src=x onerror=alert(2)>.json", hostile.as_bytes());
    crate::stream::stamp(&folder.at("input/9 <img src=x onerror=alert(2)>.json"), 8);
    folder
}

pub struct Served {
    pub folder: Folder,
    child: Child,
    pub port: u16,
    stderr: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

/// How it ended.
pub struct End {
    code: Option<i32>,
}

impl End {
    pub fn code(&self) -> Option<i32> {
        self.code
    }
}

impl Served {
    pub fn start(options: &[&str]) -> Served {
        Served::of(folder(), options, None)
    }

    /// A job that had read all its input before.
    pub fn resumed() -> Served {
        let folder = folder();
        Running::start(&mut folder.run_command(&["--available-now"])).wait().expect(0);
        Served::of(folder, &[], None)
    }

    pub fn with_token(options: &[&str], token: &str) -> Served {
        Served::of(folder(), options, Some(token))
    }

    pub fn of(folder: Folder, options: &[&str], token: Option<&str>) -> Served {
        let mut command = folder.run_command(&[&["--progress", "json", "--ui", "127.0.0.1:0"], options].concat());
        command.env_remove("HIGHWATER_UI_TOKEN");
        if let Some(token) = token {
            command.env("HIGHWATER_UI_TOKEN", token);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its stderr")).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let port = first.strip_prefix("page: http://127.0.0.1:").and_then(|rest| rest.strip_suffix('/')?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it says where the page is, not: {first}"));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&stderr);
        let reading = std::thread::spawn(move || lines.for_each(|line| kept.lock().expect("not poisoned").push(line)));
        Served { folder, child, port, stderr, reading: Some(reading) }
    }

    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let answer = get(self.port, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// What `diff` says that changed.
    #[track_caller]
    pub fn changes(&self, query: &str, from: u64, to: u64) -> Vec<Value> {
        let (from, to) = (from.to_string(), to.to_string());
        let words = ["diff", "checkpoint", "--from", &from, "--to", &to, "--query", query, "--output", "json"];
        self.folder.call(&words).expect(0).json()
    }

    /// The progress objects that it printed.
    pub fn progress(&self) -> Vec<Value> {
        let lines = self.stderr.lock().expect("not poisoned");
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            let said = self.stderr.lock().expect("not poisoned").join("\n");
            assert!(started.elapsed() < HANGS_AFTER, "it is not {what}: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        self.wait_for("ready", || get(self.port, "/readyz").status == 200);
    }

    /// All input is read, and every line of progress has come.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        self.wait_until_ready();
        self.wait_for("idle", || {
            let job = self.json("/api/v1/job");
            let newest = self.progress().last().map(|progress| progress["batchId"].clone());
            job["state"] == "idle" && newest.is_none_or(|newest| job["highWaterMark"] == newest)
        });
    }

    pub fn try_watch(&self, path: &str) -> Option<Events> {
        Events::open(self.port, path)
    }

    #[track_caller]
    pub fn watch(&self, path: &str) -> Events {
        self.try_watch(path).expect("a place to watch from")
    }

    pub fn interrupt(&self) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: kill(2) takes no pointers; the child was spawned here and is not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> End {
        let started = Instant::now();
        while self.child.try_wait().expect("it can be asked").is_none() {
            assert!(started.elapsed() < HANGS_AFTER, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        End { code: self.child.wait().expect("it has ended").code() }
    }

    /// Stops it in good order; what it said on stderr.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.interrupt();
        self.reading.take().expect("it is read once").join().expect("stderr can be read");
        let stderr = Arc::clone(&self.stderr);
        assert_eq!(self.wait().code(), Some(0));
        let lines = stderr.lock().expect("not poisoned");
        lines.join("\n")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
