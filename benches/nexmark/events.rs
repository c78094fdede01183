//! The events of Nexmark as JSON files: a folder for each of the three streams, and one for the static table of q13.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use chrono::DateTime;
use nexmark::{
    EventGenerator,
    config::NexmarkConfig,
    event::{Auction, Bid, Event, Person},
};

/// 2015-07-15, midnight: the same events on every run.
const BASE_TIME_MS: u64 = 1_436_918_400_000;
/// What q13 joins with: a value for each remainder of an auction's id.
const SIDE_ROWS: u64 = 10_000;

pub const STREAMS: [&str; 3] = ["person", "auction", "bid"];

/// Rows of each of [`STREAMS`].
pub type Rows = [u64; 3];

/// Writes `events` events, a file of each stream for `events_per_file` of them (ten thousand are a second of event time),
/// and says how many rows each stream has.
///
/// # Errors
/// Of the file system.
pub fn write(folder: &Path, events: u64, events_per_file: u64) -> io::Result<Rows> {
    let config = NexmarkConfig { base_time: BASE_TIME_MS, ..NexmarkConfig::default() };
    let mut generator = EventGenerator::new(config);
    for stream in STREAMS.iter().chain(&["side_input"]) {
        fs::create_dir_all(folder.join(stream))?;
    }
    let mut rows = Rows::default();
    for (number, first) in (0..events).step_by(events_per_file as usize).enumerate() {
        let file =
            |stream: &str| File::create(folder.join(stream).join(format!("{number:06}.json"))).map(BufWriter::new);
        let mut files = [file("person")?, file("auction")?, file("bid")?];
        for event in generator.by_ref().take(events_per_file.min(events - first) as usize) {
            let stream = match &event {
                Event::Person(_) => 0,
                Event::Auction(_) => 1,
                Event::Bid(_) => 2,
            };
            rows[stream] += 1;
            write_event(&mut files[stream], &event)?;
        }
        files.iter_mut().try_for_each(BufWriter::flush)?;
    }
    let mut side = BufWriter::new(File::create(folder.join("side_input/0.json"))?);
    for key in 0..SIDE_ROWS {
        writeln!(side, r#"{{"key":{key},"value":"value {key}"}}"#)?;
    }
    side.flush()?;
    Ok(rows)
}

/// One object a line. The generator's texts are ASCII without control characters, which Rust quotes as JSON does.
fn write_event(file: &mut impl Write, event: &Event) -> io::Result<()> {
    match event {
        Event::Person(Person { id, name, email_address, credit_card, city, state, date_time, extra }) => writeln!(
            file,
            r#"{{"id":{id},"name":{name:?},"email_address":{email_address:?},"credit_card":{credit_card:?},"city":{city:?},"state":{state:?},"date_time":"{}","extra":{extra:?}}}"#,
            time(*date_time),
        ),
        Event::Auction(auction) => write_auction(file, auction),
        Event::Bid(Bid { auction, bidder, price, channel, url, date_time, extra }) => writeln!(
            file,
            r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"channel":{channel:?},"url":{url:?},"date_time":"{}","extra":{extra:?}}}"#,
            time(*date_time),
        ),
    }
}

fn write_auction(file: &mut impl Write, auction: &Auction) -> io::Result<()> {
    let Auction { id, item_name, description, initial_bid, reserve, seller, category, extra, .. } = auction;
    let (date_time, expires) = (time(auction.date_time), time(auction.expires));
    writeln!(
        file,
        r#"{{"id":{id},"item_name":{item_name:?},"description":{description:?},"initial_bid":{initial_bid},"reserve":{reserve},"date_time":"{date_time}","expires":"{expires}","seller":{seller},"category":{category},"extra":{extra:?}}}"#,
    )
}

/// ISO 8601 of milliseconds since the Unix epoch.
fn time(ms: u64) -> impl std::fmt::Display {
    let time = DateTime::from_timestamp_millis(ms as i64).expect("a time near the base time");
    time.format("%Y-%m-%dT%H:%M:%S%.3f")
}
