//! A connection that is cut at the worst moment: when COMMIT was asked for, and its answer is on the way.

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

use super::{Place, run, schema, tables, tables::TABLES};
use crate::binary::Folder;

/// The statement as it goes over the wire.
const COMMIT: &[u8] = b"COMMIT\0";

/// Passes everything on to a server; every third COMMIT is the last that its connection brings there, or brings no answer.
fn proxy(server: String) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has an address").port();
    let cuts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&cuts);
    thread::spawn(move || {
        let commits = Arc::new(AtomicU32::new(0));
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { return };
            let (commits, cuts) = (Arc::clone(&commits), Arc::clone(&counted));
            let (to_client, from_server) =
                (client.try_clone().expect("a stream"), server.try_clone().expect("a stream"));
            thread::spawn(move || pass_answers(from_server, to_client));
            thread::spawn(move || pass_questions(client, server, &commits, &cuts));
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

fn pass_questions(mut from: TcpStream, mut to: TcpStream, commits: &AtomicU32, cuts: &AtomicU32) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let is_commit = buffer[..read].windows(COMMIT.len()).any(|window| window == COMMIT);
        let nth = if is_commit { commits.fetch_add(1, Ordering::Relaxed) } else { 0 };
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
    let (port, cuts) = proxy(server.to_owned());
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
