//! A connection that is cut at the worst moment: when COMMIT was asked for, and its answer is on the way. One that is taken, and
//! on which nobody answers.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    Place,
    redis::{self, Keys},
    run, run_command, schema, tables,
    tables::TABLES,
};
use crate::binary::{Folder, Running};

/// The statements as they go over the wire.
const COMMIT: &[u8] = b"COMMIT\0";
const EXEC: &[u8] = b"\r\nEXEC\r\n";

/// What is done where a transaction is to be committed, by its number.
type Intrude = Arc<dyn Fn(u32) + Send + Sync>;

/// Passes everything on to a server; every third COMMIT is the last that its connection brings there, or brings no answer.
fn proxy(server: String, commit: &'static [u8], intrude: &Intrude) -> (u16, Arc<AtomicU32>) {
    let intrude = Arc::clone(intrude);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has an address").port();
    let cuts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&cuts);
    thread::spawn(move || {
        let commits = Arc::new(AtomicU32::new(0));
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { return };
            let (commits, cuts, intrude) = (Arc::clone(&commits), Arc::clone(&counted), Arc::clone(&intrude));
            let (to_client, from_server) =
                (client.try_clone().expect("a stream"), server.try_clone().expect("a stream"));
            thread::spawn(move || pass_answers(from_server, to_client));
            thread::spawn(move || pass_questions((client, server), commit, (&commits, &cuts), &intrude));
        }
    });
    (port, cuts)
}

fn pass_answers(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

fn pass_questions(
    (mut from, mut to): (TcpStream, TcpStream),
    commit: &[u8],
    (commits, cuts): (&AtomicU32, &AtomicU32),
    intrude: &Intrude,
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let is_commit = buffer[..read].windows(commit.len()).any(|window| window == commit);
        let nth = if is_commit { commits.fetch_add(1, Ordering::Relaxed) } else { 0 };
        if is_commit {
            intrude(nth);
        }
        if nth % 3 == 2 {
            cuts.fetch_add(1, Ordering::Relaxed);
            drop(from.shutdown(Shutdown::Both));
            if nth % 2 == 0 {
                // the server commits, and nobody hears of it
                drop(to.write_all(&buffer[..read]));
                thread::sleep(Duration::from_millis(20));
            }
            break;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

#[test]
fn a_commit_whose_answer_is_lost_is_asked_for_again() {
    let Some(place) = schema("servers::cut::a_commit_whose_answer_is_lost") else { return };
    let (_, address) = place.url.split_once('@').expect("a user");
    let (server, database) = address.split_once('/').expect("a database");
    let nothing: Intrude = Arc::new(|_| {});
    let (port, cuts) = proxy(server.to_owned(), COMMIT, &nothing);
    let through =
        Place { url: format!("postgres://postgres@127.0.0.1:{port}/{database}"), schema: place.schema.clone() };
    let folder = Folder::new(&tables::job(&through.options()));
    (0..12).for_each(|number| folder.input(number, tables::file(number).as_bytes()));
    run(&folder, &[]).expect(0);
    assert!(cuts.load(Ordering::Relaxed) > 6, "{cuts:?}");
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    let held = place.contents(&TABLES.map(|(_, table)| table));
    crate::kills::start_over(&folder);
    place.clear();
    folder.write("job.sql", tables::job(&place.options()).as_bytes());
    run(&folder, &[]).expect(0);
    assert_eq!(place.contents(&TABLES.map(|(_, table)| table)), held);
}

/// Every other transaction finds that something was written since it looked, by a writer that changes nothing of it.
#[test]
fn an_exec_whose_answer_is_lost_is_asked_for_again_and_another_writer_is_let_by() {
    let Some(keys) = Keys::shared("servers::cut::an_exec_whose_answer_is_lost") else { return };
    let (server, _) = keys.url.trim_start_matches("redis://").split_once('/').expect("a database");
    let (url, book) = (keys.url.clone(), format!("highwater:{}-changes", keys.prefix));
    let writes: Intrude = Arc::new(move |nth| {
        if nth % 2 == 1 {
            let mut other =
                ::redis::Client::open(url.as_str()).and_then(|client| client.get_connection()).expect("it answers");
            ::redis::cmd("HSET").arg(&book).arg("other").arg(nth).exec(&mut other).expect("it is written");
        }
    });
    let (port, cuts) = proxy(server.to_owned(), EXEC, &writes);
    let through = Keys { url: format!("redis://127.0.0.1:{port}/0"), prefix: keys.prefix.clone() };
    let folder = redis::folder(&through, 12);
    run(&folder, &[]).expect(0);
    assert!(cuts.load(Ordering::Relaxed) > 6, "{cuts:?}");
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    let held = keys.contents();
    crate::kills::start_over(&folder);
    keys.clear();
    folder.write("job.sql", keys.job().as_bytes());
    run(&folder, &[]).expect(0);
    assert_eq!(keys.contents(), held);
    // one that takes the keys is not let by
    let book = format!("highwater:{}-changes", keys.prefix);
    keys.ask::<()>(&["HSET", &book, "checkpoint", "another"]);
    folder.input(12, tables::file(12).as_bytes());
    let told = run(&folder, &[]).expect(3).stderr;
    assert!(told.contains("belong to another checkpoint"), "{told}");
    keys.clear();
}

/// Something listens, and says nothing: it is not waited for without end, and told.
#[test]
fn a_server_that_takes_the_connection_and_is_silent_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("it is bound").port();
    let taken = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&taken);
    thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((client, _)) = silent.accept() {
            counted.fetch_add(1, Ordering::Relaxed);
            open.push(client);
        }
    });
    let limits = "connect_timeout = '300 milliseconds', retry_timeout = '1500 milliseconds'";
    for sink in [
        "connector = 'postgres', url = 'postgres://a@127.0.0.1:PORT/x'",
        "connector = 'redis', url = 'redis://127.0.0.1:PORT/0'",
    ] {
        let before = taken.load(Ordering::Relaxed);
        let folder = Folder::new(&format!(
            "CREATE TABLE t (k STRING) WITH (connector = 'files', path = '${{INPUT}}', format = 'json');
CREATE TABLE s WITH ({}, {limits}, output_mode = 'update');
INSERT INTO s SELECT k, count(*) AS c FROM t GROUP BY k;",
            sink.replace("PORT", &port.to_string())
        ));
        folder.input(0, b"{\"k\":\"a\"}\n");
        let ended = Running::start(&mut run_command(&folder, &[])).wait_within(Duration::from_secs(30)).expect(1);
        let told = ended.stderr;
        assert!(told.contains("no server has answered within") && told.contains("tried again in"), "{told}");
        assert!(told.contains("start the server"), "{told}");
        let attempts = taken.load(Ordering::Relaxed) - before;
        assert!((2..=5).contains(&attempts), "attempts take of the time too: {attempts}");
    }
}

/// What another writer holds is waited for, and told.
#[test]
fn a_table_that_is_held_is_waited_for() {
    let Some(place) = schema("servers::cut::a_table_that_is_held") else { return };
    let sink = format!("{}, statement_timeout = '1 second'", place.options());
    let folder = Folder::new(&tables::job(&sink));
    (0..3).for_each(|number| folder.input(number, tables::file(number).as_bytes()));
    run(&folder, &["--max-batches", "1"]).expect(0);
    let holder = place.clone();
    let held = thread::spawn(move || {
        holder.execute("BEGIN; SELECT 1 FROM highwater_tables FOR UPDATE; SELECT pg_sleep(4); COMMIT");
    });
    thread::sleep(Duration::from_millis(500));
    let told = run(&folder, &[]).expect(1).stderr;
    assert!(told.contains("statement timeout") && told.contains("pg_stat_activity"), "{told}");
    held.join().expect("it lets go");
    run(&folder, &[]).expect(0);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}
