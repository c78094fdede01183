//! The page in Chromium, driven over a pipe by its own protocol: every number that is seen is the one of the API.
//!
//! `HIGHWATER_SHOTS=DIR` keeps pictures of the page: light and dark, wide and narrow.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::served::Served;
use crate::binary::{HANGS_AFTER, skip};

/// A browser with one page. It ends when it is dropped.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None`: there is none here.
    fn start() -> Option<Browser> {
        let there = |name: &&str| {
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        let name = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there)?;
        let profile = tempfile::tempdir().expect("a folder for its profile");
        // its protocol is spoken on descriptors 3 and 4: a shell puts them where pipes are at hand
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script, name, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--disable-extensions", "--no-proxy-server", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("its input");
        let mut answers = BufReader::new(child.stdout.take().expect("its output"));
        let (told, from) = channel();
        // ends with the pipe
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while matches!(answers.read_until(0, &mut bytes), Ok(1..)) {
                bytes.pop();
                let Ok(answer) = serde_json::from_slice(&bytes) else { break };
                if told.send(answer).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        let mut browser = Browser { child, to, from, calls: 0, session: None, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({}));
        Some(browser)
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        loop {
            let answer = self.from.recv_timeout(HANGS_AFTER * 2).unwrap_or_else(|why| panic!("{method}: {why}"));
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    #[track_caller]
    fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// The value of an expression in the page.
    #[track_caller]
    fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    #[track_caller]
    fn wait(&mut self, expression: &str) {
        let started = Instant::now();
        while self.value(expression) != true {
            let body = self.value("document.body.innerText");
            assert!(started.elapsed() < HANGS_AFTER * 2, "{expression}: {body}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Keeps a picture of the whole page.
    fn shoot(&mut self, folder: &Path, name: &str, width: u32, scheme: &str) {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        std::thread::sleep(Duration::from_millis(300));
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let bytes = decoded(shot["data"].as_str().expect("a picture"));
        fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), bytes).expect("it can be written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // the shell became the browser, which ends its own processes when the pipe is closed
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Base64, as the protocol has it.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(digit).collect();
    let group = |group: &[u8]| {
        let bits =
            group.iter().enumerate().fold(0_u32, |bits, (place, digit)| bits | u32::from(*digit) << (18 - 6 * place));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}

/// `1234567` as `1,234,567`.
fn grouped(number: &Value) -> String {
    let digits: Vec<char> = number.to_string().chars().rev().collect();
    let text: Vec<String> = digits.chunks(3).map(|part| part.iter().collect()).collect();
    text.join(",").chars().rev().collect()
}

fn of(progress: &Value, list: &str, field: &str) -> u64 {
    progress[list].as_array().expect("a list").iter().map(|one| one[field].as_u64().expect("a number")).sum()
}

fn ms(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What an element with this id must say: the plain value, and the beginning of what is seen where that is exact.
fn expected(id: &str, progress: &[Value]) -> Option<(Value, Option<String>)> {
    let newest = progress.last()?;
    let sum = |field: &str| Value::from(progress.iter().filter_map(|one| one[field].as_u64()).sum::<u64>());
    let exact = |value: Value| (value.clone(), Some(grouped(&value)));
    let took = &newest["durationMs"];
    let phases = [
        ("phases-plan", ms(&took["latestOffset"]) + ms(&took["queryPlanning"])),
        ("phases-read", ms(&took["getBatch"])),
        ("phases-step", ms(&took["addBatch"]) - ms(&took["stage"])),
        ("phases-stage", ms(&took["stage"])),
        ("phases-commit", ms(&took["walCommit"]) + ms(&took["commitOffsets"]) - ms(&took["publish"])),
        ("phases-publish", ms(&took["publish"])),
    ];
    if let Some((_, value)) = phases.iter().find(|(name, _)| *name == id) {
        return Some((Value::from(*value), Some(format!("{value} ms"))));
    }
    if let Some((field, batch)) = id.strip_prefix("batch-").and_then(|rest| rest.rsplit_once('-')) {
        let of_batch = progress.iter().find(|one| one["batchId"].as_u64() == batch.parse().ok())?;
        return Some(exact(match field {
            "rows" => of_batch["numInputRows"].clone(),
            "bad" => of_batch["numBadRows"].clone(),
            "late" => of_batch["numLateRows"].clone(),
            "ms" => of_batch["batchDuration"].clone(),
            "state" => of(of_batch, "stateOperators", "numRowsTotal").into(),
            _ => return None,
        }));
    }
    // of the newest batch with data that has one
    let read_some = |one: &&Value| one["sources"][0]["files"].as_array().is_some_and(|files| !files.is_empty());
    let rate =
        |field: &str| progress.iter().filter(read_some).map(|one| one[field].clone()).rfind(|rate| !rate.is_null());
    Some(match id {
        "state" => (json!("idle"), Some("idle".to_owned())),
        "high-water-mark" => (newest["batchId"].clone(), Some(format!("batch {}", newest["batchId"]))),
        "results-batch" => exact(newest["batchId"].clone()),
        "lag-files" => (of(newest, "sources", "filesLeft").into(), Some("0 files".to_owned())),
        "lag-bytes" => (of(newest, "sources", "bytesLeft").into(), Some("0 B".to_owned())),
        "lag-batch" => (newest["batchId"].clone(), Some(format!("batch {}", newest["batchId"]))),
        "watermark" => {
            (newest["eventTime"]["watermark"].clone(), newest["eventTime"]["watermark"].as_str().map(str::to_owned))
        }
        "rows" => exact(sum("numInputRows")),
        "bad-rows" => exact(sum("numBadRows")),
        "late-rows" => exact(sum("numLateRows")),
        "input-rate" => (rate("inputRowsPerSecond")?, None),
        "processed-rate" => (rate("processedRowsPerSecond")?, None),
        "state-rows" => (of(newest, "stateOperators", "numRowsTotal").into(), None),
        "state-bytes" => (of(newest, "stateOperators", "memoryUsedBytes").into(), None),
        "bad-late-bad" => (newest["numBadRows"].clone(), None),
        "bad-late-late" => (newest["numLateRows"].clone(), None),
        "offset-flows" => {
            let offset = &newest["sources"][0]["endOffset"]["logOffset"];
            (offset.clone(), Some(format!("offset {}", grouped(offset))))
        }
        "operator-counts-0" | "operator-traffic-0" => {
            let query = id.split('-').nth(1)?;
            let operator = newest["stateOperators"].as_array()?.iter().find(|one| one["query"] == query)?;
            (operator["numRowsTotal"].clone(), Some(format!("{} rows", grouped(&operator["numRowsTotal"]))))
        }
        "output-traffic" => {
            let sink = newest["sinks"].as_array()?.iter().find(|one| one["query"] == "traffic")?;
            (sink["numOutputRows"].clone(), Some(format!("{} rows", grouped(&sink["numOutputRows"]))))
        }
        _ => return None,
    })
}

/// Ids of what is of the moment, or is what is left of others.
const OF_THE_MOMENT: [&str; 4] = ["uptime", "commit-age", "phases-upkeep", "watermark-gap"];

#[test]
fn every_number_on_the_page_is_that_of_progress() {
    let Some(mut browser) = Browser::start() else {
        skip("ui::browser", "there is no chromium");
        return;
    };
    let served = Served::start(&[]);
    served.wait_until_idle();
    browser.open(&format!("http://127.0.0.1:{}/", served.port));
    let progress = served.progress();
    let newest = progress.last().expect("a batch")["batchId"].clone();
    browser.wait(&format!("document.querySelector('[data-id=results-batch]')?.dataset.value === '{newest}'"));
    browser.wait("document.querySelector('[data-id=state]').dataset.value === 'idle'");
    let found = browser.value(
        "[...document.querySelectorAll('[data-id]')].map((e) => [e.dataset.id, e.dataset.value, e.textContent])",
    );
    let found = found.as_array().expect("a list");
    assert!(found.len() > 30, "{found:?}");
    for element in found {
        let [id, plain, seen] = [0, 1, 2].map(|part| element[part].as_str().expect("text"));
        if OF_THE_MOMENT.contains(&id) {
            continue;
        }
        let (value, text) = expected(id, &progress).unwrap_or_else(|| panic!("nobody knows what {id} is"));
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // a whole number of a floating-point field is written without its .0
        assert_eq!(plain, value.strip_suffix(".0").unwrap_or(&value), "{id}");
        if let Some(text) = text {
            assert!(seen.starts_with(&text), "{id}: '{seen}' is seen, not '{text}'");
        }
    }
    time_travel(&mut browser, &served);
    hostile_data_is_text(&mut browser);
    without_a_script(&mut browser, &served);
    browser.open(&format!("http://127.0.0.1:{}/", served.port));
    if let Some(folder) = std::env::var_os("HIGHWATER_SHOTS") {
        for (width, scheme) in [(1400, "light"), (1400, "dark"), (360, "light"), (360, "dark")] {
            browser.shoot(Path::new(&folder), "test", width, scheme);
        }
    }
    let narrow = json!({ "width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": false });
    browser.call("Emulation.setDeviceMetricsOverride", narrow);
    let width = browser.value("document.documentElement.scrollWidth");
    assert!(width.as_u64() <= Some(360), "nothing is wider than a small telephone: {width}");
    served.stop();
    browser.wait("document.querySelector('[data-id=state]').dataset.value === 'done'");
    a_job_that_is_killed(&mut browser);
}

/// Whoever is gone says nothing any more: what stands there must not look as if it were so now.
fn a_job_that_is_killed(browser: &mut Browser) {
    let served = Served::start(&[]);
    served.wait_until_idle();
    browser.open(&format!("http://127.0.0.1:{}/", served.port));
    browser.wait("document.querySelector('[data-id=state]').dataset.value === 'idle'");
    drop(served);
    browser.wait("document.querySelector('[data-id=state]').textContent.startsWith('no answer since')");
}

/// The sliders show what `show` and `diff` do.
fn time_travel(browser: &mut Browser, served: &Served) {
    let slide = |name: &str, value: u64| {
        format!(
            "{{ const s = document.querySelector('#travel-form [name={name}]'); s.value = {value}; s.dispatchEvent(new Event('input', {{ bubbles: true }})); }}"
        )
    };
    browser.value(&slide("batch", 1));
    browser.wait("document.querySelector('#travelled h3')?.textContent === 'counts as of batch 1'");
    let cells = browser.value("[...document.querySelectorAll('#travelled tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))");
    let shown = served
        .folder
        .call(&["show", "checkpoint", "--query", "counts", "--at", "1", "--output", "json"])
        .expect(0)
        .json();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows: Vec<Value> =
        shown.iter().map(|row| json!([text(&row["device"]), text(&row["flows"]), text(&row["bytes"])])).collect();
    assert_eq!(cells, Value::from(rows));
    browser.value("document.querySelector('#travel-form [name=diff]').click()");
    browser.value(&slide("from", 0));
    browser.wait(
        "document.querySelector('#travelled h3')?.textContent.endsWith('changes between batch 0 and batch 1') === true",
    );
    let changes = browser.value("document.querySelectorAll('#travelled tbody tr').length");
    assert_eq!(changes, served.changes("counts", 0, 1).len());
    // a batch leads to each query's result
    browser.value("document.querySelector('#travel-form [name=diff]').click()");
    browser.value("document.querySelector('a.see[href$=\"query=traffic&batch=2\"]').click()");
    browser.wait("document.querySelector('#travelled h3')?.textContent === 'traffic as of batch 2'");
    assert_eq!(browser.value("document.querySelector('#travel-form [name=query]').value"), "traffic");
}

/// The page says where time travel is, which is a page that stays as it is; both are no wider than a telephone.
fn without_a_script(browser: &mut Browser, served: &Served) {
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    let folder = std::env::var_os("HIGHWATER_SHOTS");
    for (name, address) in [("plain", "/"), ("travel", "/travel?query=counts&batch=2&diff=1&from=0")] {
        browser.open(&format!("http://127.0.0.1:{}{address}", served.port));
        let narrow = json!({ "width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", narrow);
        let width = browser.value("document.documentElement.scrollWidth");
        assert!(width.as_u64() <= Some(360), "{address} is wider than a small telephone: {width}");
        for (width, scheme) in [(1400, "light"), (360, "dark")] {
            if let Some(folder) = &folder {
                browser.shoot(Path::new(folder), name, width, scheme);
            }
        }
        browser.call("Emulation.clearDeviceMetricsOverride", json!({}));
        let seen = |selector: &str| format!("document.querySelector('{selector}')?.offsetParent != null");
        if name == "plain" {
            assert_eq!(browser.value("document.querySelector('#travel noscript a').getAttribute('href')"), "/travel");
            assert_eq!(browser.value(&seen("#travel noscript a")), true);
            assert_eq!(browser.value(&seen("#travel-form")), false);
        } else {
            assert_eq!(browser.value(&seen("#travel-fields button")), true);
            let changes = browser.value("document.querySelectorAll('#travelled tbody tr').length");
            assert_eq!(changes, served.changes("counts", 0, 2).len());
        }
    }
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": false }));
}

/// What data brings is shown, and does nothing.
fn hostile_data_is_text(browser: &mut Browser) {
    assert_eq!(browser.value("document.scripts.length"), 1);
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    let text = browser.value("document.body.innerText").to_string();
    assert!(text.contains("<script>alert(1)</script>") && text.contains("<img src=x"), "{text}");
}
