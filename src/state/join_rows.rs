//! What a join of two streams keeps: the rows of both sides, by key, until no partner can come any more.

use datafusion::arrow::{
    array::ArrayRef,
    datatypes::{FieldRef, SchemaRef},
    record_batch::RecordBatch,
};

use super::{
    key_table::KeyTable,
    side::{OfKey, Side, Taken},
};
use crate::model::Result;

/// The rows of both sides: 0 is the left one, 1 the right one. A row is known by its side and a number, which is its own as
/// long as it is kept.
pub struct JoinRows {
    keys: KeyTable,
    /// By number of the key: its rows on each side.
    of_key: Vec<[OfKey; 2]>,
    sides: [Side; 2],
}

impl JoinRows {
    /// No rows yet; of each side's `fields` the last `keys` are the key.
    ///
    /// # Errors
    /// Of kind `Usage` where a key's type cannot be compared.
    pub fn new(fields: [&[FieldRef]; 2], keys: usize) -> Result<JoinRows> {
        let sides = [Side::new(fields[0], keys)?, Side::new(fields[1], keys)?];
        Ok(JoinRows { keys: KeyTable::default(), of_key: Vec::new(), sides })
    }

    /// The schema of a side's deltas and snapshots.
    pub fn schema(&self, side: usize) -> &SchemaRef {
        self.sides[side].schema()
    }

    /// Number of rows of both sides.
    pub fn len(&self) -> usize {
        self.sides.iter().map(Side::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        let keys = self.keys.memory_bytes() + size_of_val(self.of_key.as_slice());
        keys + self.sides.iter().map(Side::memory_bytes).sum::<usize>()
    }

    /// What a batch's rows are in a side's delta; keys behind their columns, and when each is let go (microseconds;
    /// `i64::MAX`: never).
    ///
    /// # Errors
    /// Of kind `Failed` where the columns are not those of the side.
    pub fn delta(&self, side: usize, columns: &[ArrayRef], until: Vec<i64>) -> Result<RecordBatch> {
        self.sides[side].delta(columns, until)
    }

    /// Takes over the rows of a side's delta or snapshot, and says which they are from then on.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot compare or gather a type.
    pub fn add(&mut self, side: usize, rows: &RecordBatch) -> Result<Taken> {
        let (encoded, known) = self.sides[side].keys(rows)?;
        let taken = self.sides[side].take_over(rows)?;
        let keys = self.keys.intern(known.len(), |at| encoded.row(known[at] as usize).data());
        let end = keys.iter().map(|(key, _)| *key as usize + 1).max().unwrap_or(0);
        if end > self.of_key.len() {
            self.of_key.resize(end, [OfKey::EMPTY; 2]);
        }
        for (row, (key, _)) in known.iter().zip(keys) {
            self.sides[side].link(taken.rows[*row as usize], key, &mut self.of_key[key as usize][side]);
        }
        Ok(taken)
    }

    /// The rows of the other side with a row's key, in the order in which they came.
    pub fn partners(&self, side: usize, row: u32) -> impl Iterator<Item = u32> {
        let other = 1 - side;
        let of_key = self.sides[side].key(row).map_or(&OfKey::EMPTY, |key| &self.of_key[key as usize][other]);
        self.sides[other].of_key(of_key)
    }

    /// Whether a row's key is null, so that it meets nothing.
    pub fn is_without_key(&self, side: usize, row: u32) -> bool {
        self.sides[side].key(row).is_none()
    }

    /// Whether a row was there when its side took over `taken`.
    pub fn came_before(&self, side: usize, row: u32, taken: &Taken) -> bool {
        self.sides[side].came_before(row, taken)
    }

    /// Notes that a row met a partner; true: for the first time.
    pub fn meet(&mut self, side: usize, row: u32) -> bool {
        self.sides[side].meet(row)
    }

    /// The first `columns` columns of rows.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn gather(&self, side: usize, rows: &[u32], columns: usize) -> Result<Vec<ArrayRef>> {
        self.sides[side].gather(rows, columns)
    }

    /// A side's rows that are over at `watermark_us` and, of these, the ones that met no partner; both in the order in
    /// which they came. It gives each once: they must be removed.
    pub fn over(&mut self, side: usize, watermark_us: i64) -> (Vec<u32>, Vec<u32>) {
        self.sides[side].over(watermark_us)
    }

    /// Lets go of rows, each of which must be there.
    pub fn remove(&mut self, side: usize, rows: &[u32]) {
        let mut gone = Vec::new();
        for row in rows {
            let Some(key) = self.sides[side].key(*row) else { continue };
            let of_key = &mut self.of_key[key as usize];
            self.sides[side].unlink(*row, &mut of_key[side]);
            if of_key.iter().all(OfKey::is_empty) {
                gone.push(key);
            }
        }
        self.sides[side].let_go(rows);
        self.keys.remove(&gone);
        if self.keys.len() == 0 {
            self.of_key = Vec::new();
        }
    }

    /// Gives memory back where far more rows were kept than are now: the others are numbered anew.
    ///
    /// # Errors
    /// As [`JoinRows::add`].
    pub fn give_back(&mut self) -> Result<()> {
        if !self.sides.iter().any(Side::is_sparse) {
            return Ok(());
        }
        let rows = [self.whole(0)?, self.whole(1)?];
        self.sides = [self.sides[0].emptied()?, self.sides[1].emptied()?];
        (self.keys, self.of_key) = Default::default();
        for (side, rows) in rows.iter().enumerate() {
            self.add(side, rows)?;
        }
        Ok(())
    }

    /// A side's rows whole, in the order in which they came.
    ///
    /// # Errors
    /// As [`JoinRows::gather`].
    pub fn whole(&self, side: usize) -> Result<RecordBatch> {
        self.sides[side].whole()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use datafusion::arrow::{
        array::{Array, AsArray, Int64Array, StringArray},
        datatypes::{DataType, Field, Int64Type},
    };
    use proptest::prelude::*;

    use super::*;

    /// A row of the model, by the order in which it came.
    #[derive(Debug, Clone, PartialEq)]
    struct Row {
        /// What the engine knows it by.
        number: u32,
        value: i64,
        key: Option<String>,
        until: i64,
        matched: bool,
    }

    fn empty() -> JoinRows {
        let field = |data_type| -> FieldRef { Arc::new(Field::new("column", data_type, true)) };
        let fields = [field(DataType::Int64), field(DataType::Utf8)];
        JoinRows::new([&fields, &fields], 1).unwrap()
    }

    fn columns(rows: &[(i64, Option<String>, i64)]) -> (Vec<ArrayRef>, Vec<i64>) {
        let values = Int64Array::from_iter_values(rows.iter().map(|(value, ..)| *value));
        let keys = StringArray::from_iter(rows.iter().map(|(_, key, _)| key.as_deref()));
        (vec![Arc::new(values), Arc::new(keys)], rows.iter().map(|(.., until)| *until).collect())
    }

    fn same(kept: &JoinRows, side: usize, model: &BTreeMap<u64, Row>) -> std::result::Result<(), TestCaseError> {
        let whole = kept.whole(side).unwrap();
        let found: Vec<_> = (0..whole.num_rows())
            .map(|row| {
                let key = whole.column(1).as_string::<i32>();
                (
                    whole.column(0).as_primitive::<Int64Type>().value(row),
                    key.is_valid(row).then(|| key.value(row).to_owned()),
                    whole.column(2).as_primitive::<Int64Type>().value(row),
                    whole.column(3).as_boolean().value(row),
                )
            })
            .collect();
        let rows = model.values().map(|row| (row.value, row.key.clone(), row.until, row.matched));
        prop_assert_eq!(found, rows.collect::<Vec<_>>());
        for row in model.values() {
            let values = kept.gather(side, &[row.number], 1).unwrap();
            prop_assert_eq!(values[0].as_primitive::<Int64Type>().value(0), row.value);
            prop_assert_eq!(kept.is_without_key(side, row.number), row.key.is_none());
        }
        Ok(())
    }

    type Step = (Vec<(Option<u8>, i64)>, bool, Vec<prop::sample::Index>, Vec<prop::sample::Index>, i64, bool);

    fn step() -> impl Strategy<Value = Step> {
        let until = prop_oneof![6 => 0..40_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
        let rows = prop::collection::vec((prop::option::weighted(0.9, 0..9_u8), until), 0..25);
        let some = || prop::collection::vec(any::<prop::sample::Index>(), 0..6);
        (
            rows,
            any::<bool>(),
            some(),
            some(),
            prop_oneof![8 => 0..40_i64, 1 => Just(i64::MAX)],
            prop::bool::weighted(0.2),
        )
    }

    proptest! {
        /// Rows come, meet, are let go before their time or at it, and are loaded again from what is whole.
        #[test]
        fn rows_are_kept_until_they_are_over(steps in prop::collection::vec(step(), 1..24)) {
            let (mut kept, mut models, mut next) = (empty(), [BTreeMap::new(), BTreeMap::new()], 0);
            for (rows, right, met, removed, watermark_us, reload) in steps {
                let side = usize::from(right);
                let key = |key: u8| "long".repeat(usize::from(key % 4) * 11) + &key.to_string();
                let rows: Vec<_> = rows.into_iter().zip(next..).map(|((id, until), at)| (at as i64, id.map(key), until)).collect();
                let (columns, until) = columns(&rows);
                let taken = kept.add(side, &kept.delta(side, &columns, until).unwrap()).unwrap();
                for ((value, key, until), number) in rows.into_iter().zip(&taken.rows) {
                    models[side].insert(next, Row { number: *number, value, key, until, matched: false });
                    next += 1;
                }
                for row in models[side].values() {
                    prop_assert_eq!(kept.came_before(side, row.number, &taken), !taken.rows.contains(&row.number));
                    let of_key = |other: &&Row| row.key.is_some() && other.key == row.key;
                    let expected: Vec<u32> = models[1 - side].values().filter(of_key).map(|other| other.number).collect();
                    prop_assert_eq!(kept.partners(side, row.number).collect::<Vec<_>>(), expected);
                }
                let model = &mut models[side];
                for at in met {
                    let len = model.len();
                    let Some(row) = (len > 0).then(|| model.values_mut().nth(at.index(len))).flatten() else { break };
                    prop_assert_eq!(kept.meet(side, row.number), !std::mem::replace(&mut row.matched, true));
                }
                for at in removed {
                    let len = model.len();
                    let Some(id) = (len > 0).then(|| model.keys().nth(at.index(len)).copied()).flatten() else { break };
                    kept.remove(side, &[model[&id].number]);
                    model.remove(&id);
                }
                for (side, model) in models.iter_mut().enumerate() {
                    let (over, alone) = kept.over(side, watermark_us);
                    // never means never
                    let is_over = |row: &&Row| row.until <= watermark_us && row.until < i64::MAX;
                    let expected: Vec<Row> = model.values().filter(is_over).cloned().collect();
                    prop_assert_eq!(&over, &expected.iter().map(|row| row.number).collect::<Vec<_>>());
                    prop_assert_eq!(alone, expected.iter().filter(|row| !row.matched).map(|row| row.number).collect::<Vec<_>>());
                    kept.remove(side, &over);
                    model.retain(|_, row| !is_over(&&*row));
                    same(&kept, side, model)?;
                }
                if reload {
                    kept.give_back().unwrap();
                }
                prop_assert_eq!(kept.len(), models[0].len() + models[1].len());
                prop_assert_eq!(kept.memory_bytes() == 0, kept.is_empty());
                if reload {
                    let mut again = empty();
                    for (side, model) in models.iter_mut().enumerate() {
                        let taken = again.add(side, &kept.whole(side).unwrap()).unwrap();
                        model.values_mut().zip(taken.rows).for_each(|(row, number)| row.number = number);
                    }
                    kept = again;
                }
            }
        }
    }

    #[test]
    fn a_join_that_was_large_gives_memory_back() {
        let mut kept = empty();
        let rows = |from: i64, count: i64, until: i64| -> Vec<_> {
            (from..from + count).map(|row| (row, Some(format!("key {row}")), until)).collect()
        };
        for (from, count, until) in [(0, 5, 9), (10, 20_000, 5), (50_000, 5, i64::MAX)] {
            for side in 0..2 {
                let (columns, until) = columns(&rows(from, count, until));
                kept.add(side, &kept.delta(side, &columns, until).unwrap()).unwrap();
            }
        }
        let full = kept.memory_bytes();
        for side in 0..2 {
            let (over, _) = kept.over(side, 8);
            assert_eq!(over.len(), 20_000);
            kept.remove(side, &over);
        }
        let before = kept.whole(0).unwrap();
        kept.give_back().unwrap();
        assert_eq!((kept.whole(0).unwrap(), kept.len()), (before, 20));
        assert!(kept.memory_bytes() < full / 100, "{} of {full} bytes", kept.memory_bytes());
        for row in 0..10 {
            assert_eq!(kept.partners(0, row).collect::<Vec<_>>(), [row]);
        }
        assert_eq!(kept.over(0, 9).0, [0, 1, 2, 3, 4]);
    }

    /// Rows of a semi join are let go when they meet, long before their time.
    #[test]
    fn rows_that_go_before_their_time_leave_nothing() {
        let mut kept = empty();
        let (mut most, mut last) = (0, 0);
        for batch in 0..200 {
            let rows: Vec<_> = (0..100).map(|row| (row, Some(format!("{batch} {row}")), i64::MAX - 1)).collect();
            let (columns, until) = columns(&rows);
            let taken = kept.add(0, &kept.delta(0, &columns, until).unwrap()).unwrap();
            kept.remove(0, &taken.rows[1..]);
            last = kept.memory_bytes();
            most = if batch < 20 { last } else { most.max(last) };
        }
        assert_eq!(kept.len(), 200);
        assert!(most < 1 << 18, "{most} bytes at most, {last} at last");
        let (over, alone) = kept.over(0, i64::MAX - 1);
        assert_eq!((over.len(), alone.len()), (200, 200));
        kept.remove(0, &over);
        assert_eq!(kept.memory_bytes(), 0);
    }
}
