//! Orders, and payments that follow them.
//!
//! An order and a payment every two seconds, each up to half a minute out of order. A payment is for an order of the
//! fifty minutes before; one in twenty comes later than an hour after its order, and the first ones are for orders of
//! the day before. So an order is paid at once, in parts, too late, or never.

use std::io::Write;

use super::{FilesOptions, Lines, TIME_FIRST_S, push_time};
use crate::trial::chance::Chance;

const SECONDS_PER_ROW: u64 = 2;
/// How far a row may stand behind the newest before it.
const DISORDER_S: u64 = 30;
/// The number of the first order: payments may be for the ones before it, which are in no file.
const NUMBER_FIRST: u64 = 1_000_000;
/// Orders of fifty minutes.
const ORDERS_BACK_MAX: u64 = 1_500;
/// Orders of seventy minutes: a payment for one of the five hundred before those is too late.
const ORDERS_BACK_LATE: u64 = 2_100;
/// Payments draw from random streams of their own.
const PAYMENT_STREAMS: u64 = 1 << 32;

pub(super) struct Orders {
    chance: Chance,
    row: u64,
}

impl Orders {
    pub fn new(options: &FilesOptions, index: u32) -> Orders {
        Orders { chance: options.chance(index), row: options.first_row(index) }
    }
}

impl Lines for Orders {
    fn push(&mut self, out: &mut Vec<u8>) {
        let customer = self.chance.log_uniform(12);
        let cents = 100 + self.chance.below(20_000);
        push_head(out, &mut self.chance, self.row, NUMBER_FIRST + self.row);
        let written = writeln!(out, ", \"customer\": \"customer{customer}\", \"cents\": {cents}}}");
        debug_assert!(written.is_ok(), "a vector takes what is written");
        self.row += 1;
    }
}

pub(super) struct Payments {
    chance: Chance,
    row: u64,
}

impl Payments {
    pub fn new(options: &FilesOptions, index: u32) -> Payments {
        let chance = Chance::of_stream(options.seed, PAYMENT_STREAMS + u64::from(index));
        Payments { chance, row: options.first_row(index) }
    }
}

impl Lines for Payments {
    fn push(&mut self, out: &mut Vec<u8>) {
        let back = match self.chance.below(20) {
            0 => ORDERS_BACK_LATE + self.chance.below(500),
            _ => self.chance.below(ORDERS_BACK_MAX),
        };
        let cents = 100 + self.chance.below(20_000);
        push_head(out, &mut self.chance, self.row, NUMBER_FIRST + self.row - back);
        let written = writeln!(out, ", \"cents\": {cents}}}");
        debug_assert!(written.is_ok(), "a vector takes what is written");
        self.row += 1;
    }
}

/// What orders and payments begin with.
fn push_head(out: &mut Vec<u8>, chance: &mut Chance, row: u64, number: u64) {
    out.extend_from_slice(b"{\"time\": \"");
    push_time(out, TIME_FIRST_S + row * SECONDS_PER_ROW + chance.below(DISORDER_S));
    let written = write!(out, "\", \"order_id\": \"{number}\"");
    debug_assert!(written.is_ok(), "a vector takes what is written");
}
