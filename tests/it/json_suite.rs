//! The 318 documents of JSONTestSuite through the real product: what must be accepted is, what must be refused is a
//! bad record, and none of them stops the job.

use std::{collections::BTreeMap, fs};

use crate::{binary::Folder, published::shared};

/// A record is an object or an array of objects; every other document is put into a field of one.
fn record(document: &[u8]) -> (Vec<u8>, bool) {
    let first = document.iter().find(|byte| !byte.is_ascii_whitespace());
    // line ends inside a document would make several records of it
    let line: Vec<u8> = document.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect();
    if first == Some(&b'{') { (line, false) } else { ([b"{\"v\": ", &line[..], b"}"].concat(), true) }
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
        let document = fs::read(&path).expect("it is readable");
        let (mut bytes, wrapped) = record(&document);
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        let wrapped_blank = wrapped && document.iter().all(u8::is_ascii_whitespace);
        bytes.push(b'\n');
        folder.write(&format!("input/{name}"), &bytes);
        assert!(!blank || wrapped);
        if !wrapped_blank {
            expected.insert(name, bytes);
        }
    }
    assert!(expected.len() > 300, "only {} documents", expected.len());
    let ended = folder.run().expect(0);
    assert!(ended.stderr.contains("1 batch, "), "{}", ended.stderr);
    let log = folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    let bad: Vec<&str> =
        log[0]["badFiles"].as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    for name in expected.keys() {
        match name.split('_').next() {
            Some("y") => assert!(!bad.contains(&name.as_str()), "{name} must be accepted"),
            Some("n") => {
                // what stands in the way of the next record is refused by itself; extra text behind a wrapped document
                // can make a valid object of it
                let valid = serde_json::from_slice::<serde_json::Value>(&expected[name]).is_ok();
                assert!(valid || bad.contains(&name.as_str()), "{name} must be a bad record");
            }
            _ => {}
        }
    }
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    let rows = folder.call(&["show", "checkpoint", "--output", "json"]).expect(0).json();
    assert_eq!(rows.len() as u64, log[0]["numInputRows"].as_u64().expect("a number"));
}
