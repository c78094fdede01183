//! Everything that reads what others wrote, as functions from any bytes to a panic or none.
//!
//! Here for fuzzing only (feature `fuzz`, `tests/fuzz/driver.rs`) and for the tests, which run the committed corpus.
//! Beyond "no panic" each target says what must hold: two readers agree, what is read can be written again, an error
//! names its place.

use std::{collections::BTreeMap, ffi::OsStr, io::Write, os::unix::ffi::OsStrExt, sync::Arc};

use clap::Parser;
use datafusion::arrow::{
    array::Array,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};

use crate::{
    checkpoint, cli,
    format::{Compression, Constant, columnar::hostile, compress::decompressed, fields, json},
    job::{self, At, JobSpec, Variables, fingerprint},
    model::{BatchAddress, ErrorKind, Faults, Place, error::printable},
    query::JobQueries,
    state,
};

/// Does with the bytes what a reader does, and panics where a promise is broken.
type Target = fn(&[u8]);

/// What can be fuzzed, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("json", json::fuzzing::readers_agree),
    ("job", job_file),
    ("plan", plan),
    ("record", checkpoint::fuzzing::record),
    ("log", checkpoint::fuzzing::log),
    ("state", state_payload),
    ("values", values),
    ("compressed", compressed),
    ("fields", fields::fuzzing::cuts_change_nothing),
    ("parquet", hostile::parquet),
    ("avro", hostile::avro),
];

/// What `${env:SECRET}` stands for; no job text holds it by itself.
const SECRET: &str = "s3cr3t-'value";

fn variables() -> Variables {
    let given = [("INPUT", "input/folder"), ("N", "17"), ("Q", "it's \"quoted\" -- and /* more")];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Variables::with_environment(given.into(), |name| (name == "SECRET").then(|| SECRET.into()))
}

fn parsed(text: &str) -> Option<JobSpec> {
    // by its own name the same variable is no secret, and neither is what the text spells out: both may be shown
    if text.contains("${SECRET") || text.contains(SECRET) {
        return None;
    }
    match job::parse("job.sql", "job", text, &variables()) {
        Ok(job) => Some(job),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            assert!(error.place().is_some(), "an error has a place: {error}");
            if let Some(Place::Job { line, column, text: shown, .. }) = error.place() {
                assert!(*line >= 1 && *column >= 1 && !shown.contains('\n'), "{error}");
            }
            assert!(!error.to_string().contains(SECRET), "an error keeps secrets: {error}");
            None
        }
    }
}

/// A job file: an error with a place, or a job that keeps no secret and that a checkpoint can bring back.
fn job_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(job) = parsed(text) else { return };
    let ats = job
        .sources
        .iter()
        .flat_map(|source| source.columns.iter().map(|column| column.at).chain([source.at, source.files.path_at]));
    let ats = ats.chain(job.views.iter().map(|view| view.at)).chain(job.sinks.iter().map(|sink| sink.at));
    for At(at) in ats {
        assert!(job.text.is_char_boundary(at) && at <= job.text.len(), "a place is in the text");
    }
    let sqls = job.views.iter().map(|view| (&view.sql, view.sql_at));
    for (sql, At(at)) in sqls.chain(job.queries.iter().map(|query| (&query.sql, query.sql_at))) {
        assert!(job.text[at..].starts_with(sql.as_str()), "a query is where it says");
        assert!(!sql.contains(SECRET), "a query holds no secret");
    }
    assert!(!job.text.contains(SECRET) && !job.variables.values().any(|value| value.contains(SECRET)));

    // What a checkpoint keeps, the template and its variables, is the same job again.
    let kept: BTreeMap<String, String> = job.variables.clone();
    let kept = Variables::with_environment(kept, |name| (name == "SECRET").then(|| SECRET.into()));
    let again = job::parse("job.sql", "job", &job.template, &kept).expect("a checkpoint's job can be read");
    assert_eq!(format!("{again:?}"), format!("{job:?}"), "a checkpoint's job is the same job");
}

/// A job that can be planned is the same to its checkpoint each time, and whatever comments stand in it.
fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(job) = parsed(text) else { return };
    let planned = match JobQueries::plan(&job) {
        Ok(planned) => planned,
        Err(error) => {
            assert!(error.place().is_some(), "an error has a place: {error}");
            return;
        }
    };
    let Some(commented) = parsed(&format!("-- a comment\n\n /* and */ {text}")) else {
        panic!("a comment in front is no change")
    };
    let commented = JobQueries::plan(&commented).expect("a comment in front is no change");
    let differences = fingerprint::differences(&planned.identities(), &commented.identities());
    assert!(differences.is_empty(), "a comment in front changes nothing: {differences:?}");
}

/// The first byte chooses: the rest is a payload, or what is inside its compressed frame.
fn state_payload(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let payload = match choice % 2 {
        0 => rest.to_vec(),
        _ => zstd::bulk::compress(rest, 1).expect("anything can be compressed"),
    };
    let schema = state_schema();
    // what Arrow panics over is caught there; the fuzzer's hook would end it before
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let decoded = state::decode(&schema, &payload);
    std::panic::set_hook(hook);
    let Ok(batches) = decoded else { return };
    let again = state::encode(&schema, &batches).expect("what was read can be written");
    assert_eq!(state::decode(&schema, &again).expect("what was written can be read").len(), batches.len());
}

/// Group keys and states as queries have them.
fn state_schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let list = DataType::List(Arc::new(field("item", DataType::Float64)));
    Arc::new(Schema::new(vec![field("k", DataType::Utf8), field("n", DataType::Int64), field("list", list)]))
}

/// Words of the command line and values of options; what is understood reads back as it is printed.
fn values(bytes: &[u8]) {
    let words = bytes.split(|&byte| byte == 0).take(8).map(OsStr::from_bytes);
    if let Err(error) = cli::args::Args::try_parse_from([OsStr::new("highwater")].into_iter().chain(words)) {
        assert!(!error.to_string().is_empty());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<BatchAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address), "{text:?}");
    }
    if let Some(duration) = job::parse_duration(text) {
        assert_eq!(job::parse_duration(&format!("{} ms", duration.as_millis())), Some(duration), "{text:?}");
    }
    if let Some(size) = job::parse_size(text) {
        assert_eq!(job::parse_size(&size.to_string()), Some(size), "{text:?}");
    }
    if let Err(why) = Faults::from_text(text) {
        assert!(!why.is_empty());
    }
    assert!(printable(text).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'), "{text:?}");
    let times = DataType::Timestamp(TimeUnit::Microsecond, None);
    let numbers = [DataType::Int8, DataType::Int64, DataType::Float32, DataType::Float64, DataType::Decimal128(6, 2)];
    for data_type in [DataType::Utf8, DataType::Boolean, DataType::Date32, times].into_iter().chain(numbers) {
        if let Ok(constant) = Constant::parse(&data_type, text) {
            let array = constant.array(2).expect("a value fills a column");
            assert_eq!((array.data_type(), array.len(), array.null_count()), (&data_type, 2, 0), "{text:?}");
        }
    }
}

/// The first byte chooses the format, and whether the rest is a stream or becomes one.
fn compressed(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let gz = choice & 1 == 0;
    let compression = if gz { Compression::Gz } else { Compression::Zst };
    let steps = 1 + usize::from(choice >> 2) * 1000;
    if choice & 2 == 0 {
        // 64 MiB, whatever the ratio: the limits' own test has smaller ones.
        assert!(decompressed(compression, rest, steps).0.len() <= (64 << 20).max(rest.len() * 1000));
        return;
    }
    let undone = decompressed(compression, &stream(gz, rest), steps);
    assert_eq!((undone.0.as_slice(), undone.1), (rest, None));
}

fn stream(gz: bool, bytes: &[u8]) -> Vec<u8> {
    if gz {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes what is written")
    } else {
        zstd::bulk::compress(bytes, 1).expect("anything can be compressed")
    }
}

#[cfg(test)]
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus");

/// Adds a first input to the committed corpus.
#[cfg(test)]
pub(crate) fn keep_seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = std::path::Path::new(CORPUS).join(target);
    std::fs::create_dir_all(&folder).expect("the corpus can be written");
    std::fs::write(folder.join(name), bytes).expect("the corpus can be written");
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{Float64Builder, Int64Array, ListBuilder, StringArray},
        record_batch::RecordBatch,
    };

    use super::*;

    /// What campaigns reached, run once: it must hold in every build.
    #[test]
    fn the_corpus_holds() {
        for (name, target) in TARGETS {
            let folder = std::path::Path::new(CORPUS).join(name);
            let mut count = 0;
            for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "{} is empty", folder.display());
        }
    }

    #[test]
    #[ignore = "writes the first inputs of the corpus"]
    fn seeds_are_kept() {
        let mut lists = ListBuilder::new(Float64Builder::new());
        lists.append_value([Some(1.5), None]);
        lists.append_null();
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(StringArray::from(vec![Some("a"), None])),
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(lists.finish()),
        ];
        let rows = RecordBatch::try_new(state_schema(), columns).unwrap();
        for count in 0..3 {
            let payload = state::encode(&state_schema(), &vec![rows.clone(); count]).unwrap();
            let plain = zstd::stream::decode_all(&payload[..]).unwrap();
            keep_seed("state", &format!("frame{count}"), &[&[0][..], &payload].concat());
            keep_seed("state", &format!("plain{count}"), &[&[1][..], &plain].concat());
        }
        for (choice, name) in [(0, "gz"), (1, "zst")] {
            let text = "{\"a\": 1}\n".repeat(20);
            keep_seed(
                "compressed",
                &format!("{name}-stream"),
                &[&[choice][..], &stream(choice == 0, text.as_bytes())].concat(),
            );
            keep_seed("compressed", &format!("{name}-text"), &[&[choice | 2][..], text.as_bytes()].concat());
        }
        let commands = [
            "run a.sql --set A=1 --set B=x=y --interval 10s --max-batches 3 --output json --quiet -v",
            "show c --at 17@1 --sql x",
            "diff c --from 1 --to 2@1",
            "rewind c --to start --dry-run",
            "run a.sql --once --crash-at committed:3",
        ];
        for (number, command) in commands.iter().enumerate() {
            keep_seed("values", &format!("command{number}"), command.replace(' ', "\0").as_bytes());
        }
        let values =
            ["17@1", "10 seconds", "1 h 30 min", "16 MB", "2024-02-29", "1.5", "2024-02-29T12:00:00Z", "planned:2"];
        for (number, value) in values.iter().enumerate() {
            keep_seed("values", &format!("value{number}"), value.as_bytes());
        }
        let file =
            b"{\"a\":\"\\ud834\\udd1e\",\"b\":1.5,\"Ab\":[{}]}\r\n\n[{\"AB\":null},{\"ts\":1}]\n{\"\xC3\xA9\":tru";
        for choice in 0..8 {
            let choices = [0xFF, 20 + choice, choice * 5, 3, choice * 9, choice, 1 + choice, 2 + choice, 4, 5];
            keep_seed("json", &format!("file{choice}"), &[&choices[..], file].concat());
        }
    }
}
