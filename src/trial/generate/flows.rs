//! Network flows like those of the demo.
//!
//! The shape follows the Los Alamos network data: eleven fields a line, numbers written as floats, well-known ports as
//! digits and the others as `Port94857`, a few devices that everybody asks and many that hardly anybody does.

use super::{FilesOptions, Lines, push_padded};
use crate::trial::chance::Chance;

/// The first flow's `time`, as in the Los Alamos data: seconds since an unnamed epoch.
const TIME_FIRST_S: u64 = 172_800;
/// How many flows share one second of `time`.
const FLOWS_PER_SECOND: u64 = 3_170;

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
pub(super) struct Flows {
    chance: Chance,
    /// The next row's number, counted over all files.
    row: u64,
    unique: bool,
}

impl Flows {
    pub fn new(options: &FilesOptions, unique: bool, index: u32) -> Flows {
        Flows { chance: options.chance(index), row: options.first_row(index), unique }
    }
}

impl Lines for Flows {
    /// Appends one line, its end included.
    fn push(&mut self, out: &mut Vec<u8>) {
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
            push_padded(out, self.chance.below(10_000_000_000), 10);
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
        let (sent, received) = (self.chance.log_uniform(6) - 1, self.chance.log_uniform(6) - 1);
        out.extend_from_slice(b"\", \"srcpackets\": ");
        push_number(out, sent);
        out.extend_from_slice(b", \"dstpackets\": ");
        push_number(out, received);
        out.extend_from_slice(b", \"srcbytes\": ");
        let sent_bytes = sent * (40 + self.chance.below(400));
        push_number(out, sent_bytes);
        out.extend_from_slice(b", \"dstbytes\": ");
        let received_bytes = received * (40 + self.chance.below(1_400));
        push_number(out, received_bytes);
        out.extend_from_slice(b"}\n");
        self.row += 1;
    }
}

impl Flows {
    fn service(&mut self) -> &'static Service {
        let mut left = self.chance.below(1_000);
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
        match self.chance.below(10) {
            0..4 => 0,
            4..8 => 1,
            _ => self.chance.log_uniform(10),
        }
    }

    fn push_device(&mut self, out: &mut Vec<u8>, pool: &Pool) {
        let rank = self.chance.log_uniform(pool.octaves);
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
        push_padded(out, self.chance.below(100_000), 5);
    }
}

/// Appends `value` the way the data writes numbers: `6.0`.
fn push_number(out: &mut Vec<u8>, value: u64) {
    push_padded(out, value, 1);
    out.extend_from_slice(b".0");
}
