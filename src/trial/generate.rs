//! `generate flows`: network-flow files like those of the demo, the same bytes for the same seed.
//!
//! The shape follows the Los Alamos network data: eleven fields a line, numbers written as floats, well-known ports as
//! digits and the others as `Port94857`, a few devices that everybody asks and many that hardly anybody does. Chance
//! is drawn as integers only, so that the bytes are the same on every machine.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::model::{Error, Place, Result};

/// What to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowsOptions {
    /// How many files; at least one.
    pub files: u32,
    /// Rows in each file.
    pub rows: u32,
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// Nearly every `dstdevice` is different, so that state grows with the input.
    pub unique: bool,
}

impl Default for FlowsOptions {
    fn default() -> Self {
        FlowsOptions { files: 50, rows: 10_000, seed: 1, unique: false }
    }
}

/// What was generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub files: u32,
    /// Rows in all files together.
    pub rows: u64,
    /// Bytes in all files together.
    pub bytes: u64,
}

/// The first file's modification time, 2020-01-01T00:00:00Z; each file is a second later than the one before, so that
/// the order of modification times is that of the names whatever the clock says.
const MODIFIED_FIRST_S: u64 = 1_577_836_800;
/// The first flow's `time`, as in the Los Alamos data: seconds since an unnamed epoch.
const TIME_FIRST_S: u64 = 172_800;
/// How many flows share one second of `time`.
const FLOWS_PER_SECOND: u64 = 3_170;
/// The buffer is written out when it holds this many bytes; a row is far smaller.
const BUFFER_BYTES: usize = 1 << 20;
const ROW_BYTES_MAX: usize = 512;

/// Writes `flows_0001.json` and so on into `dir`, which is created if it is not there.
///
/// Each file appears whole: it is written under a name that begins with a dot, then renamed.
///
/// # Errors
/// Of kind `Usage` where `options` ask for no file, or where `dir` is a file or holds anything; `Failed` where it
/// cannot be written. Files that are already finished then stay.
pub fn flows(options: &FlowsOptions, dir: &Path) -> Result<Summary> {
    if options.files == 0 {
        return Err(Error::usage("there is nothing to generate").because("--files is 0").help("ask for at least 1"));
    }
    claim_empty(dir)?;
    let width = options.files.to_string().len().max(4);
    let mut summary = Summary { files: 0, rows: 0, bytes: 0 };
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + ROW_BYTES_MAX);
    for index in 0..options.files {
        let path = dir.join(format!("flows_{:0width$}.json", index + 1));
        summary.bytes += write_file(options, index, &path, dir, &mut buffer)
            .map_err(|cause| Error::io("cannot write the generated file", &path, &cause))?;
        summary.rows += u64::from(options.rows);
        summary.files += 1;
    }
    Ok(summary)
}

/// Makes `dir`, or makes sure that nothing is in it: nobody's files are overwritten or mixed with ours.
fn claim_empty(dir: &Path) -> Result<()> {
    if fs::symlink_metadata(dir).is_ok_and(|_| !dir.is_dir()) {
        return Err(Error::usage("cannot generate files here")
            .at(Place::Path(dir.into()))
            .because("it is not a folder")
            .help("name a new or an empty folder"));
    }
    fs::create_dir_all(dir).map_err(|cause| Error::io("cannot make the folder", dir, &cause))?;
    let mut entries = fs::read_dir(dir).map_err(|cause| Error::io("cannot list the folder", dir, &cause))?;
    match entries.next() {
        None => Ok(()),
        Some(Err(cause)) => Err(Error::io("cannot list the folder", dir, &cause)),
        Some(Ok(entry)) => Err(Error::usage("cannot generate files here")
            .at(Place::Path(dir.into()))
            .because(format!("the folder is not empty: it holds '{}'", entry.file_name().to_string_lossy()))
            .help("name a new or an empty folder")),
    }
}

/// Writes one file and returns its size in bytes. It is not synced: it can be generated again.
fn write_file(options: &FlowsOptions, index: u32, path: &Path, dir: &Path, buffer: &mut Vec<u8>) -> io::Result<u64> {
    let mut file = tempfile::Builder::new().prefix(".flows_").permissions(readable()).tempfile_in(dir)?;
    let mut flows = Flows::new(options, index);
    let mut bytes = 0;
    buffer.clear();
    for _ in 0..options.rows {
        flows.push_row(buffer);
        if buffer.len() >= BUFFER_BYTES {
            file.write_all(buffer)?;
            bytes += buffer.len() as u64;
            buffer.clear();
        }
    }
    file.write_all(buffer)?;
    bytes += buffer.len() as u64;
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_FIRST_S + u64::from(index));
    file.as_file().set_modified(modified)?;
    file.persist_noclobber(path).map_err(|failed| failed.error)?;
    Ok(bytes)
}

/// What other programs write by default; a temporary file would be for its owner only.
fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o666)
}

/// Devices that offer the same thing: a few are asked most of the time.
struct Pool {
    /// The number that the pool's devices begin at; pools do not overlap.
    first: u64,
    /// It has `2^octaves - 1` devices.
    octaves: u64,
    /// What the most popular one is called.
    head: Option<&'static str>,
}

/// What a flow asks for.
struct Service {
    /// How many of 1000 flows ask for it.
    per_mille: u64,
    protocol: u64,
    /// `None`: some high port.
    port: Option<&'static str>,
    pool: &'static Pool,
}

static CLIENTS: Pool = Pool { first: 0, octaves: 13, head: None };
static WEB: Pool = Pool { first: 10_000, octaves: 9, head: Some("EnterpriseAppServer") };
static NAMES: Pool = Pool { first: 11_000, octaves: 4, head: None };
static DIRECTORY: Pool = Pool { first: 12_000, octaves: 5, head: Some("ActiveDirectory") };
static OTHERS: Pool = Pool { first: 20_000, octaves: 12, head: None };

/// Shares as in the Los Alamos data; the last one takes what is left.
static SERVICES: [Service; 10] = [
    Service { per_mille: 141, protocol: 6, port: Some("443"), pool: &WEB },
    Service { per_mille: 124, protocol: 17, port: Some("53"), pool: &NAMES },
    Service { per_mille: 110, protocol: 6, port: Some("80"), pool: &WEB },
    Service { per_mille: 48, protocol: 17, port: Some("514"), pool: &NAMES },
    Service { per_mille: 41, protocol: 6, port: Some("389"), pool: &DIRECTORY },
    Service { per_mille: 37, protocol: 6, port: Some("88"), pool: &DIRECTORY },
    Service { per_mille: 19, protocol: 17, port: Some("161"), pool: &OTHERS },
    Service { per_mille: 15, protocol: 6, port: Some("8080"), pool: &WEB },
    Service { per_mille: 13, protocol: 6, port: Some("445"), pool: &OTHERS },
    Service { per_mille: 452, protocol: 6, port: None, pool: &OTHERS },
];

/// The flows of one file.
struct Flows {
    chance: ChaCha8Rng,
    /// The next row's number, counted over all files.
    row: u64,
    unique: bool,
}

impl Flows {
    /// Each file has a random stream of its own, so that its flows do not depend on how long the others are.
    fn new(options: &FlowsOptions, index: u32) -> Flows {
        let mut chance = ChaCha8Rng::seed_from_u64(options.seed);
        chance.set_stream(u64::from(index));
        Flows { chance, row: u64::from(index) * u64::from(options.rows), unique: options.unique }
    }

    /// Appends one line, its end included.
    fn push_row(&mut self, out: &mut Vec<u8>) {
        let service = self.service();
        out.extend_from_slice(b"{\"time\": ");
        push_number(out, TIME_FIRST_S + self.row / FLOWS_PER_SECOND);
        out.extend_from_slice(b", \"duration\": ");
        let duration_s = self.duration_s();
        push_number(out, duration_s);
        out.extend_from_slice(b", \"srcdevice\": \"");
        self.push_device(out, &CLIENTS);
        out.extend_from_slice(b"\", \"dstdevice\": \"");
        if self.unique {
            out.extend_from_slice(b"Comp");
            push_padded(out, self.below(10_000_000_000), 10);
        } else {
            self.push_device(out, service.pool);
        }
        out.extend_from_slice(b"\", \"protocol\": ");
        push_number(out, service.protocol);
        out.extend_from_slice(b", \"srcport\": \"");
        self.push_high_port(out);
        out.extend_from_slice(b"\", \"dstport\": \"");
        match service.port {
            Some(port) => out.extend_from_slice(port.as_bytes()),
            None => self.push_high_port(out),
        }
        let (sent, received) = (self.log_uniform(6) - 1, self.log_uniform(6) - 1);
        out.extend_from_slice(b"\", \"srcpackets\": ");
        push_number(out, sent);
        out.extend_from_slice(b", \"dstpackets\": ");
        push_number(out, received);
        out.extend_from_slice(b", \"srcbytes\": ");
        let sent_bytes = sent * (40 + self.below(400));
        push_number(out, sent_bytes);
        out.extend_from_slice(b", \"dstbytes\": ");
        let received_bytes = received * (40 + self.below(1_400));
        push_number(out, received_bytes);
        out.extend_from_slice(b"}\n");
        self.row += 1;
    }

    fn service(&mut self) -> &'static Service {
        let mut left = self.below(1_000);
        for service in &SERVICES {
            match left.checked_sub(service.per_mille) {
                None => return service,
                Some(rest) => left = rest,
            }
        }
        &SERVICES[SERVICES.len() - 1]
    }

    /// Two flows of five last no time, nearly two of five a second, the others longer.
    fn duration_s(&mut self) -> u64 {
        match self.below(10) {
            0..4 => 0,
            4..8 => 1,
            _ => self.log_uniform(10),
        }
    }

    fn push_device(&mut self, out: &mut Vec<u8>, pool: &Pool) {
        let rank = self.log_uniform(pool.octaves);
        match pool.head {
            Some(name) if rank == 1 => out.extend_from_slice(name.as_bytes()),
            _ => {
                out.extend_from_slice(b"Comp");
                // 618,033 and 1,000,000 share no factor: no two devices get the same number
                push_padded(out, (pool.first + rank) * 618_033 % 1_000_000, 6);
            }
        }
    }

    fn push_high_port(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Port");
        push_padded(out, self.below(100_000), 5);
    }

    /// A whole number from 0 up to, not including, `end`.
    fn below(&mut self, end: u64) -> u64 {
        // the high half of the product; the bias of at most end / 2^64 does not matter here
        ((u128::from(self.chance.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A whole number from 1 up to, not including, `2^octaves`, about as often as one over it: Zipf's law without
    /// floating point.
    fn log_uniform(&mut self, octaves: u64) -> u64 {
        let low = 1 << self.below(octaves);
        low + self.below(low)
    }
}

/// Appends `value` the way the data writes numbers: `6.0`.
fn push_number(out: &mut Vec<u8>, value: u64) {
    push_padded(out, value, 1);
    out.extend_from_slice(b".0");
}

/// Appends `value` in decimal, with zeros in front up to `width` digits (at most 20).
fn push_padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[start.min(digits.len() - width)..]);
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use serde_json::Value;

    use super::*;
    use crate::model::ErrorKind;

    fn small() -> FlowsOptions {
        FlowsOptions { files: 3, rows: 200, ..FlowsOptions::default() }
    }

    fn generated(options: &FlowsOptions) -> BTreeMap<String, Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let summary = flows(options, dir.path()).unwrap();
        let files: BTreeMap<_, _> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
            })
            .collect();
        assert_eq!(summary.files as usize, files.len());
        assert_eq!(summary.rows, u64::from(options.files) * u64::from(options.rows));
        assert_eq!(summary.bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
        files
    }

    fn rows(bytes: &[u8]) -> Vec<Value> {
        std::str::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_seed_alone_decides_the_bytes() {
        assert_eq!(generated(&small()), generated(&small()));
        let other = generated(&FlowsOptions { seed: 2, ..small() });
        for (name, bytes) in generated(&small()) {
            assert_ne!(bytes, other[&name], "{name}");
        }
    }

    #[test]
    fn files_of_one_seed_differ() {
        let distinct: HashSet<_> = generated(&small()).into_values().collect();
        assert_eq!(distinct.len(), 3);
    }

    #[test]
    fn the_first_row_never_changes() {
        // a change here changes every published figure that was measured on generated input
        let files = generated(&FlowsOptions { files: 1, rows: 1, ..FlowsOptions::default() });
        let row = [
            r#"{"time": 172800.0, "duration": 0.0, "srcdevice": "Comp413148", "#,
            r#""dstdevice": "Comp217099", "protocol": 17.0, "srcport": "Port46108", "dstport": "514", "#,
            r#""srcpackets": 0.0, "dstpackets": 22.0, "srcbytes": 0.0, "dstbytes": 3938.0}"#,
        ];
        assert_eq!(std::str::from_utf8(&files["flows_0001.json"]).unwrap(), row.concat() + "\n");
    }

    #[test]
    fn every_line_is_a_flow() {
        let files = generated(&small());
        assert_eq!(files.keys().collect::<Vec<_>>(), ["flows_0001.json", "flows_0002.json", "flows_0003.json"]);
        for bytes in files.values() {
            assert!(bytes.ends_with(b"}\n"));
            let rows = rows(bytes);
            assert_eq!(rows.len(), 200);
            for row in rows {
                let fields = row.as_object().unwrap();
                assert_eq!(fields.len(), 11);
                for name in ["time", "duration", "protocol", "srcpackets", "dstpackets", "srcbytes", "dstbytes"] {
                    assert!(fields[name].is_f64() && fields[name].as_f64() >= Some(0.0), "{name} in {row}");
                }
                for name in ["srcdevice", "dstdevice", "srcport", "dstport"] {
                    assert!(fields[name].is_string(), "{name} in {row}");
                }
            }
        }
    }

    #[test]
    fn a_quarter_asks_for_the_web_and_a_few_servers_answer_most() {
        let files = generated(&FlowsOptions { files: 1, rows: 20_000, ..FlowsOptions::default() });
        let mut servers: BTreeMap<String, u32> = BTreeMap::new();
        for row in rows(&files["flows_0001.json"]) {
            if row["dstport"] == "80" || row["dstport"] == "443" {
                *servers.entry(row["dstdevice"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        let asked: u32 = servers.values().sum();
        assert!((4_500..5_500).contains(&asked), "{asked}");
        assert!((200..512).contains(&servers.len()), "{}", servers.len());
        assert_eq!(servers.values().max(), Some(&servers["EnterpriseAppServer"]));
        assert!(servers["EnterpriseAppServer"] > asked / 20);
    }

    #[test]
    fn unique_makes_nearly_every_device_different() {
        let devices = |unique| {
            let files = generated(&FlowsOptions { files: 1, rows: 10_000, unique, ..FlowsOptions::default() });
            let rows = rows(&files["flows_0001.json"]);
            rows.iter().map(|row| row["dstdevice"].to_string()).collect::<HashSet<_>>().len()
        };
        assert!(devices(true) > 9_990);
        assert!(devices(false) < 4_000);
    }

    #[test]
    fn modification_times_follow_the_names() {
        let dir = tempfile::tempdir().unwrap();
        flows(&small(), dir.path()).unwrap();
        let modified = |name: &str| {
            let time = fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
            time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!(modified("flows_0001.json"), MODIFIED_FIRST_S);
        assert_eq!(modified("flows_0002.json"), MODIFIED_FIRST_S + 1);
        assert_eq!(modified("flows_0003.json"), MODIFIED_FIRST_S + 2);
    }

    #[test]
    fn names_sort_as_numbers_past_9999_files() {
        let files = generated(&FlowsOptions { files: 10_000, rows: 0, ..FlowsOptions::default() });
        assert_eq!(files.first_key_value().unwrap().0, "flows_00001.json");
        assert_eq!(files.last_key_value().unwrap().0, "flows_10000.json");
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mine.txt"), "mine").unwrap();
        let error = flows(&small(), dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("mine.txt") && error.to_string().contains("help: "), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_generated_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let none = FlowsOptions { files: 0, ..small() };
        assert_eq!(flows(&none, &dir.path().join("new")).unwrap_err().kind(), ErrorKind::Usage);
        assert!(!dir.path().join("new").exists());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(flows(&small(), &file).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for (value, width, text) in
            [(0, 1, "0"), (7, 1, "7"), (10, 1, "10"), (42, 5, "00042"), (u64::MAX, 1, "18446744073709551615")]
        {
            let mut out = Vec::new();
            push_padded(&mut out, value, width);
            assert_eq!(out, text.as_bytes());
        }
    }
}
