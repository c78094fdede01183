//! The page that shows what a job does: the real binary, asked over HTTP, by Prometheus' own checker, and in a real browser.

mod browser;
mod http;
mod served;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::{http::get, served::Served};
use crate::binary::{HANGS_AFTER, skip};

/// A request as it stands, and all that comes back until the connection is closed.
fn raw(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the page listens");
    stream.set_read_timeout(Some(HANGS_AFTER)).expect("a timeout can be set");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut answer = Vec::new();
    // what is cut off is an answer too
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn everything_the_api_says_is_what_progress_and_show_say() {
    let served = Served::start(&[]);
    served.wait_until_idle();
    let progress = served.progress();
    let newest = progress.last().expect("there are batches");
    assert_eq!(&served.json("/api/v1/progress"), newest);
    let job = served.json("/api/v1/job");
    let sum = |field: &str| progress.iter().map(|one| one[field].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((&job["state"], &job["highWaterMark"]), (&json!("idle"), &newest["batchId"]));
    assert_eq!(job["run"]["rows"], sum("numInputRows"));
    assert_eq!(
        (&job["run"]["badRows"], &job["run"]["lateRows"]),
        (&json!(sum("numBadRows")), &json!(sum("numLateRows")))
    );
    assert!(sum("numBadRows") > 0 && sum("numLateRows") > 0, "the input has both");
    assert_eq!(job["watermark"], newest["eventTime"]["watermark"]);
    // looked for since the newest batch: none waits
    assert_eq!(
        (&job["lag"]["files"], &job["lag"]["bytes"], &job["lag"]["batch"]),
        (&json!(0), &json!(0), &Value::Null)
    );
    assert!(job["lag"]["at"].is_string() && job["lag"]["ageSeconds"].is_u64(), "{}", job["lag"]);
    assert_eq!(
        (&job["queries"][0]["guarantee"], &job["queries"][1]["outputMode"]),
        (&json!("exactly once"), &json!("update"))
    );
    assert_eq!(job["stateOperators"], newest["stateOperators"]);
    let batches = served.json("/api/v1/batches?limit=3");
    let batches = batches["batches"].as_array().expect("a list");
    assert_eq!(batches.len(), 3);
    for (batch, progress) in batches.iter().zip(progress.iter().rev()) {
        let mut batch = batch.clone();
        assert!(batch.as_object_mut().expect("an object").remove("committedAt").is_some());
        assert_eq!(&batch, progress);
    }
    let logged = served.folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    for (batch, line) in logged.iter().enumerate() {
        assert_eq!(&served.json(&format!("/api/v1/batches/{batch}")), line);
    }
    assert_eq!(served.json("/api/v1/batches/1@1"), logged[1]);
    let at = |options: &[&str]| {
        served.folder.call(&[&["show", "checkpoint", "--output", "json"], options].concat()).expect(0).json()
    };
    let rows = served.json("/api/v1/results/counts");
    assert_eq!(rows["rows"], Value::from(at(&["--query", "counts"])));
    assert_eq!((&rows["truncated"], rows["rows"].to_string().contains("<script>")), (&json!(false), true));
    assert_eq!(
        served.json("/api/v1/results/counts?batch=1")["rows"],
        Value::from(at(&["--query", "counts", "--at", "1"]))
    );
    assert_eq!(served.json("/api/v1/results/counts?limit=1")["truncated"], true);
    assert_eq!(served.json("/api/v1/diff/counts?from=0&to=1")["rows"], Value::from(served.changes("counts", 0, 1)));
    let sql = "SELECT max(flows) AS most FROM counts";
    assert_eq!(
        served.json("/api/v1/query?sql=SELECT%20max(flows)+AS%20most+FROM%20counts")["rows"],
        Value::from(at(&["--sql", sql]))
    );
}

#[test]
fn what_cannot_be_answered_says_why() {
    let served = Served::start(&[]);
    served.wait_until_idle();
    for (path, status, why) in [
        ("/api/v1/results/nothing", 404, "no query 'nothing'"),
        ("/api/v1/results/counts?batch=999", 404, "999"),
        ("/api/v1/results/counts?batch=x", 400, "write 17, or 17@1"),
        ("/api/v1/batches/999", 404, "999"),
        ("/api/v1/batches?limit=0", 400, "no number from 1"),
        ("/api/v1/diff/counts", 400, "from=17"),
        ("/api/v1/query", 400, "sql="),
        ("/api/v1/results/counts?bacth=0", 400, "no 'bacth' here"),
        ("/api/v1/diff/counts?from=0&limit=2", 400, "known are from, to"),
        ("/api/v1/query?sql=SELECT%20nothing%20FROM%20counts", 400, "nothing"),
        ("/api/v1/query?sql=DROP%20TABLE%20counts", 400, ""),
        ("/nowhere", 404, "/metrics"),
    ] {
        let answer = get(served.port, path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(why), "{path}: {message}");
    }
    let many = "SELECT%201%20FROM%20counts%20a,%20counts%20b,%20counts%20c,%20counts%20d,%20counts%20e";
    let answer = served.json(&format!("/api/v1/query?sql={many}"));
    assert_eq!((&answer["truncated"], answer["rows"].as_array().map(Vec::len)), (&json!(true), Some(10_000)));
}

/// Questions that take more than there is: of memory, of stack, of time, of the answer's length.
#[test]
fn what_a_question_takes_is_not_the_jobs() {
    let served = Served::start(&[]);
    served.wait_until_idle();
    let ask = |sql: &str| get(served.port, &format!("/api/v1/query?sql={}", sql.replace(' ', "%20")));
    let deep = format!("SELECT 1{}", "-1".repeat(3900));
    for (sql, statuses) in [
        ("SELECT repeat('x',2000000000)", &[200, 400, 504][..]),
        ("SELECT repeat(repeat('x',1000000),1000000)", &[400, 504]),
        ("SELECT range(0,3000000000)", &[400, 504]),
        // some builds have the stack for it
        (&deep, &[200, 400, 504]),
        ("SELECT count(*) FROM range(0,1000000000) a, range(0,1000000000) b, range(0,1000000000) c", &[400, 504]),
    ] {
        let answer = ask(sql);
        let asked = &sql[..sql.len().min(60)];
        let head: String = answer.body.chars().take(300).collect();
        assert!(statuses.contains(&answer.status), "{asked}: {} {head}", answer.status);
        assert!(answer.body.len() < 20 << 20, "{asked}");
        assert_eq!(get(served.port, "/healthz").status, 200, "{asked}");
    }
    // what takes too long on a machine that is busy is asked again
    let answered =
        |sql: &str| (0..20).map(|_| ask(sql)).find(|answer| answer.status == 200).expect("there is an answer").json();
    let long = answered("SELECT repeat('x',200000) AS x FROM counts a, counts b, counts c");
    assert_eq!(long["truncated"], json!(true));
    assert!(answered("SELECT count(*) AS n FROM counts")["rows"][0]["n"].is_u64());
    served.stop();
}

#[test]
fn only_who_may_is_answered_and_only_what_changes_nothing() {
    let served = Served::start(&["--ui-host", "page.example"]);
    let port = served.port;
    let status = |request: &str| raw(port, request).lines().next().unwrap_or_default().to_owned();
    let ask = |method: &str, path: &str, host: &str| {
        status(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    assert!(ask("GET", "/healthz", "localhost").contains("200"));
    assert!(ask("HEAD", "/", "page.example:80").contains("200"));
    assert!(ask("GET", "/", "evil.example").contains("403"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        assert!(ask(method, "/", "localhost").contains("405"), "{method}");
    }
    assert!(ask("GET", &format!("/?{}", "x".repeat(9000)), "localhost").contains("414"));
    assert!(status("GET / HTTP/1.1\r\n\r\n").contains("40"), "a request without a host");
    let answer = get(port, "/");
    for (name, part) in [
        ("content-security-policy", "default-src 'none'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert!(answer.header(name).contains(part), "{name}: {}", answer.header(name));
    }
    let long_head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert!(!raw(port, &long_head).contains("200 OK"));
}

#[test]
fn with_a_token_it_must_be_shown() {
    const TOKEN: &str = "0123456789abcdef";
    let served = Served::with_token(&[], TOKEN);
    served.wait_until_ready();
    let ask = |path: &str, more: &str| {
        raw(served.port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n"))
    };
    assert!(ask("/", "").contains("401"));
    assert!(ask("/metrics", "Authorization: Bearer wrong\r\n").contains("401"));
    assert!(ask("/metrics", &format!("Authorization: Bearer {TOKEN}\r\n")).contains("200 OK"));
    let redirect = ask(&format!("/?batch=1&token={TOKEN}"), "");
    assert!(redirect.contains("303") && redirect.contains("location: /?batch=1\r\n"), "{redirect}");
    let cookie = redirect.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair");
    assert!(ask("/", &format!("Cookie: {cookie}\r\n")).contains("200 OK"));
    let stderr = served.stop();
    assert!(!stderr.contains(TOKEN), "{stderr}");
}

#[test]
fn an_address_that_cannot_be_had_is_refused_before_the_job_is_opened() {
    let folder = served::folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    for (listen, token, why, code) in [
        // a supervisor may try this one again
        (taken.as_str(), None, "or end what has it", 1),
        ("0.0.0.0:0", None, "there is no token", 2),
        ("127.0.0.1:0", Some("short"), "is no token", 2),
        ("nonsense", None, "--ui 127.0.0.1:4040", 2),
    ] {
        let mut command = folder.run_command(&["--available-now", "--ui", listen]);
        command.env_remove("HIGHWATER_UI_TOKEN");
        if let Some(token) = token {
            command.env("HIGHWATER_UI_TOKEN", token);
        }
        let ended = crate::binary::Running::start(&mut command).wait().expect(code);
        assert!(ended.stderr.contains(why) && ended.stderr.contains("help: "), "{}", ended.stderr);
        assert!(!folder.at("checkpoint").exists());
    }
}

#[test]
fn metrics_are_as_prometheus_wants_them_and_only_grow() {
    let served = Served::start(&[]);
    let rows = |text: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with("highwater_input_rows_total")).expect("the counter");
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("its value")
    };
    let (mut before, started) = (0.0, Instant::now());
    while before < 1.0 || get(served.port, "/api/v1/job").json()["state"] != "idle" {
        let now = rows(&get(served.port, "/metrics").body);
        assert!(now >= before, "{now} after {before}");
        before = now;
        assert!(started.elapsed() < HANGS_AFTER);
    }
    let text = get(served.port, "/metrics").body;
    let sum: u64 = served.progress().iter().filter_map(|one| one["numInputRows"].as_u64()).sum();
    assert_eq!(rows(&text), sum as f64);
    assert!(text.contains("query=\"counts\"") && text.contains("source=\"flows\""), "{text}");
    let checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checker) = checker else {
        skip("ui::metrics_are_as_prometheus_wants_them", "there is no promtool");
        return;
    };
    checker.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
    let checked = checker.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn events_bring_what_changed_and_how_it_ended() {
    let served = Served::start(&[]);
    served.wait_until_idle();
    let mut page = served.watch("/page/events?results=1");
    let (name, first) = page.next();
    assert_eq!(name, "parts");
    for part in ["head", "charts", "plan", "batches", "results"] {
        assert!(first[part].is_string(), "{part}");
    }
    let mut progress = served.watch("/api/v1/events");
    assert_eq!(progress.next(), ("progress".to_owned(), served.progress().last().expect("a batch").clone()));
    served.folder.write(
        "input/9000.json",
        b"{\"device\":\"late\",\"port\":\"80\",\"bytes\":1,\"ts\":\"2024-01-01T00:05:00Z\"}\n",
    );
    let (name, newer) = progress.next();
    assert!(name == "progress" && newer["batchId"].as_u64() > Some(3), "{newer}");
    let stderr = served.stop();
    let last = std::iter::repeat_with(|| page.next()).find(|(name, _)| name == "last").expect("it ends");
    assert!(last.1["head"].as_str().is_some_and(|head| head.contains("data-value=\"done\"")), "{}", last.1["head"]);
    let end = std::iter::repeat_with(|| progress.next_text()).find(|(name, _)| name == "end").expect("it ends");
    assert_eq!(end.1, "done");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_job_that_fails_says_so_to_who_watches() {
    let served = Served::start(&[]);
    served.wait_until_idle();
    let mut page = served.watch("/page/events");
    page.next();
    // what a number is cast from is text: the job stops with exit code 4
    served.folder.write(
        "input/9000.json",
        b"{\"device\":\"fails\",\"port\":\"x\",\"bytes\":1,\"ts\":\"2024-01-01T00:05:00Z\"}\n",
    );
    let last = std::iter::repeat_with(|| page.next()).find(|(name, _)| name == "last").expect("it ends");
    let head = last.1["head"].as_str().expect("the head").to_owned();
    assert!(head.contains("data-value=\"failed\"") && head.contains("class=\"error\""), "{head}");
    assert_eq!(served.wait().code(), Some(4));
}

#[test]
fn who_is_slow_or_says_nothing_keeps_nobody_waiting() {
    let served = Served::start(&[]);
    served.wait_until_ready();
    let silent: Vec<TcpStream> =
        (0..30).map(|_| TcpStream::connect(("127.0.0.1", served.port)).expect("it listens")).collect();
    let mut half = TcpStream::connect(("127.0.0.1", served.port)).expect("it listens");
    half.write_all(b"GET / HTTP/1.1\r\nHost: local").expect("it takes it");
    let mut watching: Vec<_> = (0..16).map(|_| served.watch("/page/events")).collect();
    assert_eq!(get(served.port, "/page/events").status, 429);
    assert_eq!(get(served.port, "/healthz").status, 200);
    watching.pop();
    // its place is free as soon as it is noticed that it is gone
    let started = Instant::now();
    while served.try_watch("/page/events").is_none() {
        assert!(started.elapsed() < HANGS_AFTER);
        std::thread::sleep(Duration::from_millis(100));
    }
    half.set_read_timeout(Some(HANGS_AFTER)).expect("a timeout can be set");
    let mut answer = Vec::new();
    drop(half.read_to_end(&mut answer));
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"), "half a request is none");
    drop(silent);
    served.stop();
}

#[test]
fn the_page_is_whole_without_a_script() {
    let served = Served::start(&[]);
    served.wait_until_idle();
    let load = || get(served.port, "/").body;
    let started = Instant::now();
    // results come with one of the first loads
    while !load().contains("data-id=\"results-batch\"") {
        assert!(started.elapsed() < HANGS_AFTER, "{}", load());
    }
    let page = load();
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\""), "{page}");
    for part in [
        "<b>counts</b> into <span title=\"memory[counts]\">memory[counts]</span>: exactly once</li>",
        "id=\"chart-phases\"",
        "class=\"plan\"",
        "as of batch",
        "<a class=\"see\" href=\"/travel?query=counts&amp;batch=1\" title=\"counts\">counts</a>",
        "<a class=\"see\" href=\"/travel?query=traffic&amp;batch=1\" title=\"traffic\">traffic</a>",
        // it loads itself again: what is filled in has a page of its own, and no form is seen here
        "<noscript><p class=\"empty\"><a href=\"/travel\">Time travel</a>",
        "<form id=\"travel-form\" class=\"choose\" action=\"/travel\" method=\"get\" hidden>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("<form").count(), 1);
    assert_eq!(page.matches("<script").count(), 1, "that of the page itself");
    assert!(!page.contains("<img") && page.contains("&lt;script&gt;") && page.contains("&lt;img"), "{page}");
    assert!(!page.contains(" style=") && !page.contains(" onclick="), "the policy allows none");
}

/// What a person without a script is filling in is not taken away: the page never loads itself, and its address has it all.
#[test]
fn time_travel_without_a_script_stays_as_it_is() {
    let served = Served::start(&[]);
    served.wait_until_idle();
    let newest = served.progress().last().expect("a batch")["batchId"].as_u64().expect("a number");
    let load = |address: &str| {
        let answer = get(served.port, address);
        assert_eq!(answer.status, 200, "{address}: {}", answer.body);
        assert!(!answer.body.contains("http-equiv") && !answer.body.contains("<script"), "{address}: {}", answer.body);
        answer.body
    };
    let field = |name: &str, value: u64| {
        format!("<input type=\"number\" name=\"{name}\" min=\"0\" max=\"{newest}\" value=\"{value}\" required>")
    };
    let first = load("/travel");
    for part in
        ["<option>counts</option>", "<option>traffic</option>", &field("batch", newest), "<div id=\"travelled\"></div>"]
    {
        assert!(first.contains(part), "{part}: {first}");
    }
    let changed = load("/travel?query=counts&batch=1&diff=1&from=0");
    for part in [
        "<option selected>counts</option>",
        &field("batch", 1),
        &field("from", 0),
        "name=\"diff\" value=\"1\" checked",
        "between batch 0 and batch 1",
        "flows at 1",
        "href=\"/travel?query=counts&amp;batch=0&amp;diff=1&amp;from=0\"",
        "href=\"/travel?query=counts&amp;batch=2&amp;diff=1&amp;from=0\"",
        "<a href=\"/\">the live page</a>",
    ] {
        assert!(changed.contains(part), "{part}: {changed}");
    }
    let rows = |page: &str| page.split("data-rows=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
    assert_eq!(rows(&changed), Some(served.changes("counts", 0, 1).len()));
    let other = load("/travel?query=traffic&batch=1&from=0");
    assert!(
        other.contains("<option selected>traffic</option>") && other.contains("<h3>traffic as of batch 1</h3>"),
        "{other}"
    );
    assert_eq!(rows(&other), served.json("/api/v1/results/traffic?batch=1")["rows"].as_array().map(Vec::len));
    let wrong = load("/travel?query=counts&batch=999");
    assert!(wrong.contains("class=\"error\"") && wrong.contains("999"), "{wrong}");
}

/// A program that is run for each batch is not given the key to the page.
#[test]
fn the_token_is_not_inherited_by_programs() {
    let folder = crate::binary::Folder::in_memory(
        "CREATE TABLE flows (device STRING) WITH (connector = 'files', path = '${INPUT}', format = 'json');
         CREATE TABLE told WITH (connector = 'command', output_mode = 'append', command = 'env > told.tmp; mv told.tmp told');
         INSERT INTO told SELECT device FROM flows;",
    );
    folder.input(0, b"{\"device\":\"a\"}\n");
    let served = Served::of(folder, &[], Some("0123456789abcdef"));
    let started = Instant::now();
    let told = loop {
        match std::fs::read_to_string(served.folder.at("told")) {
            Ok(told) => break told,
            Err(error) => assert!(started.elapsed() < HANGS_AFTER, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(told.contains("HIGHWATER_BATCH=0\n") && !told.contains("HIGHWATER_UI_TOKEN"), "{told}");
    assert!(!told.contains("0123456789abcdef"), "{told}");
    served.stop();
}

#[test]
fn charts_begin_with_what_the_log_knows() {
    let served = Served::resumed();
    served.wait_until_ready();
    let started = Instant::now();
    while !get(served.port, "/").body.contains("data-id=\"batch-rows-0\"") {
        assert!(started.elapsed() < HANGS_AFTER, "{}", get(served.port, "/").body);
        std::thread::sleep(Duration::from_millis(50));
    }
    // counters are of this run, and so is what was found to wait
    let job = served.json("/api/v1/job");
    assert_eq!(job["run"]["batches"], 0);
    assert_eq!((&job["lag"]["files"], &job["lag"]["bytes"]), (&json!(0), &json!(0)));
}
