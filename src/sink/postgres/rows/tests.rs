//! Rows out, and in again.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

use super::*;

#[test]
fn what_is_copied_is_read_back() {
    let keys = Arc::new(StringArray::from(vec![Some("a"), None, Some("")])) as ArrayRef;
    let numbers = Arc::new(Int64Array::from(vec![None, None, Some(3)])) as ArrayRef;
    let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("n", numbers, true)]).unwrap();
    let rows = Rows::of(&[rows]).unwrap();
    let mut whole = Vec::new();
    let mut pieces = rows.copied(Some(BatchId(7)));
    loop {
        let mut chunk = Vec::new();
        pieces.fill(&mut chunk, 8);
        if chunk.is_empty() {
            break;
        }
        whole.extend(chunk);
    }
    assert_eq!(whole.len(), HEADER.len() + rows.bytes.len() + 3 * (2 + 12) + 2);
    // as a table gives them: the batch first
    let mut given = HEADER.to_vec();
    for row in rows.iter() {
        given.extend(3_u16.to_be_bytes());
        sized(&7_i64.to_be_bytes(), &mut given);
        given.extend(row);
    }
    given.extend(TRAILER);
    let found = by_batch(&given).unwrap();
    assert_eq!(found[&Some(7)], rows.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
    assert!(by_batch(&given[..given.len() - 1]).is_err() && by_batch(b"").is_err());
    let nulls: Vec<Vec<usize>> = rows.nulls_of(&[0, 1]).into_iter().map(|set| set.into_iter().collect()).collect();
    assert_eq!(nulls, [vec![], vec![0, 1], vec![1]]);
}
