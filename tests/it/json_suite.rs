//! The 318 documents of JSONTestSuite through the real product: what must be accepted is, what must be refused is a
//! bad record, and none of them stops the job.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::{binary::Folder, published::shared};

/// A document on a line of its own. A record is an object or an array of objects; every other document is put into a
/// field of one, and a blank one is no record.
fn record(document: &[u8]) -> Vec<u8> {
    // line ends inside a document would make several records of it
    let line: Vec<u8> = document.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect();
    let is_object = line.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|first| *first == b'{');
    if is_object { [&line[..], b"\n"].concat() } else { [b"{\"v\": ", &line[..], b"}\n"].concat() }
}

#[test]
fn every_document_is_accepted_or_a_bad_record() {
    let Some(suite) = shared("json-test-suite/test_parsing") else { return };
    let folder = Folder::new(
        "CREATE TABLE documents (v STRING, _corrupt_record STRING)
           WITH (connector = 'files', path = '${INPUT}', format = 'json', recursive = 'true', max_files_per_trigger = '400');
         CREATE TABLE seen WITH (connector = 'memory', output_mode = 'append');
         INSERT INTO seen SELECT v, _corrupt_record FROM documents;",
    );
    // by name: whether the document must be accepted, must be refused, or may be either
    let mut expected = BTreeMap::new();
    for entry in fs::read_dir(suite).expect("a folder") {
        let path = entry.expect("listed").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let bytes = record(&fs::read(&path).expect("it is readable"));
        folder.write(&format!("input/{name}"), &bytes);
        expected.insert(name, bytes);
    }
    assert!(expected.len() > 300, "only {} documents", expected.len());
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--available-now"];
    let ended = folder.call(&words).expect(0);
    assert!(ended.stderr.contains("1 batch, "), "{}", ended.stderr);
    let log = folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    let bad: Vec<&str> =
        log[0]["badFiles"].as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    for (name, bytes) in &expected {
        let refused = bad.contains(&name.as_str());
        if bytes.iter().all(u8::is_ascii_whitespace) {
            assert!(!refused, "{name} is blank, and no record");
        } else if name.starts_with("y_") {
            assert!(!refused, "{name} must be accepted");
        } else if name.starts_with("n_") {
            // as a field of an object, or without its line ends, a document may have become a right one
            assert!(refused || serde_json::from_slice::<Value>(bytes).is_ok(), "{name} must be a bad record");
        }
    }
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    let rows = folder.call(&["show", "checkpoint", "--output", "json"]).expect(0).json();
    assert_eq!(rows.len() as u64, log[0]["numInputRows"].as_u64().expect("a number"));
}
