//! The job is killed, and the server is; no row is there twice, and none is missing.

use std::time::Duration;

use super::{
    Place, Server, run, run_command, schema,
    tables::{self, FILES, TABLES, file},
};
use crate::binary::{Chance, Folder, Running, from_environment};

fn folder(place: &Place, files: usize) -> Folder {
    let folder = Folder::new(&tables::job(&place.options()));
    (0..files).for_each(|number| folder.input(number, file(number).as_bytes()));
    folder
}

fn contents(place: &Place) -> Vec<String> {
    place.contents(&TABLES.map(|(_, table)| table))
}

fn start_over(folder: &Folder, place: &Place) {
    crate::kills::start_over(folder);
    place.clear();
}

#[test]
fn killed_at_every_point_each_row_is_there_once() {
    let Some(place) = schema("servers::kills::killed_at_every_point") else { return };
    let folder = folder(&place, FILES);
    run(&folder, &[]).expect(0);
    let expected = contents(&place);
    for (point, nth) in
        [("planned", 3), ("staged", 5), ("committed", 2), ("published-first", 3), ("published", 1), ("sealed", 1)]
    {
        start_over(&folder, &place);
        let mut command = run_command(&folder, &[]);
        let killed = Running::start(command.env("HIGHWATER_CRASH_AT", format!("{point}:{nth}")));
        assert!(killed.wait().was_killed(), "{point}");
        // half published is what the next start completes: no damage
        folder.call(&["verify", "checkpoint"]).expect(0);
        run(&folder, &[]).expect(0);
        assert_eq!(contents(&place), expected, "{point}");
    }
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    for point in ["rewound", "retracted-first", "retracted"] {
        let mut command = folder.command(&["rewind", "checkpoint", "--to", "4"]);
        assert!(Running::start(command.env("HIGHWATER_CRASH_AT", point)).wait().was_killed(), "{point}");
        run(&folder, &[]).expect(0);
        assert_eq!(contents(&place), expected, "{point}");
    }
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

#[test]
fn killed_at_random_each_row_is_there_once() {
    let Some(place) = schema("servers::kills::killed_at_random") else { return };
    let folder = folder(&place, 30);
    run(&folder, &[]).expect(0);
    let expected = contents(&place);
    start_over(&folder, &place);
    let kills = from_environment("HIGHWATER_KILLS").unwrap_or(15);
    let mut chance = Chance::new(7);
    for _ in 0..kills {
        let mut command = run_command(&folder, &[]);
        Running::start(&mut command).kill_after(chance.moment(Duration::from_millis(700)));
    }
    run(&folder, &[]).expect(0);
    assert_eq!(contents(&place), expected);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    // a crash test leaves the server alone
    let words = ["crash-test", "job.sql", "--set", "INPUT=input", "--kills", "3"];
    let tested = folder.call(&words).expect(0);
    assert!(tested.stdout.contains("the same after 3 kills"), "{}", tested.stdout);
    assert_eq!(contents(&place), expected);
}

/// The server is killed and comes back, again and again, while the job runs: the job waits, and asks what became of a batch.
#[test]
fn a_server_that_is_killed_in_the_middle_is_waited_for() {
    let Some(mut server) = Server::postgres("servers::kills::a_server_that_is_killed") else { return };
    let place = server.place();
    let patient = Place { url: place.url.clone(), schema: place.schema.clone() };
    let folder = folder(&patient, 60);
    let job = std::fs::read_to_string(folder.at("job.sql")).expect("a job").replace("'3 seconds'", "'30 seconds'");
    folder.write("job.sql", job.as_bytes());
    let mut running = Running::start(&mut run_command(&folder, &[]));
    let mut kills = 0;
    while running.is_running() && kills < 4 {
        std::thread::sleep(Duration::from_millis(400));
        if kills % 2 == 0 {
            server.kill()
        } else {
            server.stop()
        }
        std::thread::sleep(Duration::from_millis(150));
        server.start_again();
        kills += 1;
    }
    let ended = running.wait_within(Duration::from_secs(120)).expect(0);
    assert!(kills > 1 && ended.stderr.contains("tried again in"), "{kills} kills: {}", ended.stderr);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    let held = contents(&place);
    // the same without kills
    start_over(&folder, &place);
    run(&folder, &[]).expect(0);
    assert_eq!(contents(&place), held);
}

#[test]
fn a_server_that_is_down_stops_the_batch_and_loses_nothing() {
    let Some(mut server) = Server::postgres("servers::kills::a_server_that_is_down") else { return };
    let place = server.place();
    let folder = folder(&place, 4);
    let job =
        std::fs::read_to_string(folder.at("job.sql")).expect("a job").replace("'3 seconds'", "'300 milliseconds'");
    folder.write("job.sql", job.as_bytes());
    server.stop();
    // before anything is there
    let told = run(&folder, &[]).expect(1).stderr;
    assert!(told.contains("start the server") && told.contains("127.0.0.1"), "{told}");
    assert!(!folder.at("checkpoint").exists(), "nothing is made");
    server.start_again();
    place.await_answer();
    run(&folder, &["--max-batches", "2"]).expect(0);
    server.kill();
    let told = run(&folder, &[]).expect(1).stderr;
    assert!(told.contains("start the server"), "{told}");
    // what is in the checkpoint can be read without it
    assert!(folder.shown().lines().count() > 3);
    folder.call(&["verify", "checkpoint"]).expect(1);
    server.start_again();
    place.await_answer();
    run(&folder, &[]).expect(0);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    assert_eq!(place.ask("SELECT count(*) FROM highwater_batches"), ["12"]);
    assert!(server.folder().exists());
}
