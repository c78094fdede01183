//! A look at a file's footer before the library takes it apart.
//!
//! The library builds the schema by recursion and makes room for as many children as are claimed, so that a few bytes
//! could overflow the stack or ask for more memory than there is; both end the process, and neither can be caught. What
//! is refused here nobody writes on purpose. All else that is wrong with a file the library finds.

/// What every file of this format begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";
/// What a file ends with whose footer is encrypted.
const MAGIC_ENCRYPTED: &[u8; 4] = b"PARE";
/// The length of the footer, and the magic behind it.
pub(super) const TAIL_BYTES: u64 = 8;

/// How deep groups may be in each other.
const DEPTH_MAX: usize = 64;
/// How many columns and groups there may be.
const ELEMENTS_MAX: u64 = 100_000;
/// The longest value of fixed length, in bytes.
const FIXED_BYTES_MAX: i64 = 1 << 20;
/// How deep the footer's own structs and lists may be in each other, as in the library.
const NESTING_MAX: usize = 64;

/// Where the footer of a file of `size_bytes` begins, by its last bytes.
///
/// # Errors
/// Why it has none.
pub(super) fn start(size_bytes: u64, tail: [u8; TAIL_BYTES as usize]) -> Result<u64, String> {
    let [a, b, c, d, magic @ ..] = tail;
    if magic == *MAGIC_ENCRYPTED {
        return Err("it is encrypted, which cannot be read".to_owned());
    }
    if magic != *MAGIC {
        return Err("it is no Parquet file, or is cut off: it does not end with PAR1".to_owned());
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let room = size_bytes.saturating_sub(TAIL_BYTES + MAGIC.len() as u64);
    if length > room {
        return Err(format!("it is cut off or damaged: its footer is said to have {length} bytes"));
    }
    Ok(size_bytes - TAIL_BYTES - length)
}

/// The longest value of fixed length that a footer tells of, in bytes.
///
/// # Errors
/// Why the footer cannot be given to the library.
pub(super) fn check(footer: &[u8]) -> Result<usize, String> {
    let mut thrift = Thrift { rest: footer };
    let mut fixed_bytes = 0;
    thrift.structure(0, &mut |thrift, id, kind| {
        // FileMetaData.schema
        if (id, kind) == (2, LIST) { schema(thrift, &mut fixed_bytes) } else { thrift.skip(kind, 1) }
    })?;
    Ok(fixed_bytes)
}

/// The flattened tree of columns: each group is followed by its children.
fn schema(thrift: &mut Thrift<'_>, fixed_bytes: &mut usize) -> Result<(), String> {
    let (count, kind) = thrift.list()?;
    if kind != STRUCT {
        return Err(damaged());
    }
    if count > ELEMENTS_MAX {
        return Err(format!("it has {count} columns and groups, more than {ELEMENTS_MAX}"));
    }
    // of each open group how many children are still to come
    let mut open: Vec<u64> = Vec::new();
    for index in 0..count {
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        let mut children = 0;
        thrift.structure(1, &mut |thrift, id, kind| match (id, kind) {
            // SchemaElement.type_length
            (2, I32) => {
                let length = thrift.integer()?;
                if length > FIXED_BYTES_MAX {
                    return Err(format!("a value of fixed length has {length} bytes, more than {FIXED_BYTES_MAX}"));
                }
                *fixed_bytes = (*fixed_bytes).max(usize::try_from(length).unwrap_or(0));
                Ok(())
            }
            // SchemaElement.num_children
            (5, I32) => {
                let claimed = thrift.integer()?;
                children =
                    u64::try_from(claimed).ok().filter(|claimed| *claimed < count - index).ok_or_else(damaged)?;
                Ok(())
            }
            _ => thrift.skip(kind, 2),
        })?;
        if children > 0 {
            if open.len() == DEPTH_MAX {
                return Err(format!("its groups are more than {DEPTH_MAX} deep"));
            }
            open.push(children);
        }
    }
    Ok(())
}

fn damaged() -> String {
    "its footer is damaged".to_owned()
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Thrift's compact protocol, as far as it takes to find something in it
/// (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>).
struct Thrift<'a> {
    rest: &'a [u8],
}

impl Thrift<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip_bytes(&mut self, count: u64) -> Result<(), String> {
        let count = usize::try_from(count).map_err(|_| damaged())?;
        self.rest = self.rest.get(count..).ok_or_else(damaged)?;
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    fn integer(&mut self) -> Result<i64, String> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The number of elements that follow, and their type.
    fn list(&mut self) -> Result<(u64, u8), String> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.unsigned()?,
            short => u64::from(short),
        };
        Ok((count, header & 0x0F))
    }

    /// Calls `field` with the id and the type of each field; it must read the value.
    fn structure(
        &mut self,
        depth: usize,
        field: &mut dyn FnMut(&mut Self, i64, u8) -> Result<(), String>,
    ) -> Result<(), String> {
        if depth > NESTING_MAX {
            return Err(damaged());
        }
        let mut id = 0_i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            id = match header >> 4 {
                0 => self.integer()?,
                delta => id.saturating_add(i64::from(delta)),
            };
            field(self, id, header & 0x0F)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        match kind {
            // in a field's header
            TRUE | FALSE => Ok(()),
            BYTE => self.skip_bytes(1),
            I16 | I32 | I64 => self.unsigned().map(drop),
            DOUBLE => self.skip_bytes(8),
            UUID => self.skip_bytes(16),
            BINARY => {
                let length = self.unsigned()?;
                self.skip_bytes(length)
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth + 1))
            }
            MAP => {
                let count = self.unsigned()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth + 1)?;
                    self.skip_element(kinds & 0x0F, depth + 1)
                })
            }
            STRUCT => self.structure(depth, &mut |thrift, _, kind| thrift.skip(kind, depth + 1)),
            _ => Err(damaged()),
        }
    }

    /// An element of a list takes a byte where a field takes none.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        match kind {
            _ if depth > NESTING_MAX => Err(damaged()),
            TRUE | FALSE => self.skip_bytes(1),
            _ => self.skip(kind, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer with a schema of these elements: a length, and a number of children.
    fn footer(elements: &[(Option<i32>, Option<i32>)]) -> Vec<u8> {
        let mut bytes = vec![0x15, 0x02, 0x19]; // version 1; field 2, a list
        let varint = |mut value: u64, bytes: &mut Vec<u8>| {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        };
        bytes.push(0xFC);
        varint(elements.len() as u64, &mut bytes);
        let zigzag = |value: i32| u64::from((value << 1 ^ value >> 31) as u32);
        for (length, children) in elements {
            if let Some(length) = length {
                bytes.extend([0x05, 0x04]);
                varint(zigzag(*length), &mut bytes);
            }
            bytes.extend([0x08, 0x08, 0x01, b'n']);
            if let Some(children) = children {
                bytes.push(0x15);
                varint(zigzag(*children), &mut bytes);
            }
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn groups_too_deep_and_children_that_are_not_there_are_refused() {
        let leaf = (None, None);
        let group = |children| (None, Some(children));
        assert_eq!(check(&footer(&[group(2), group(1), (Some(16), None), (Some(2), None)])), Ok(16));
        let deep = |groups: usize| {
            let mut elements = vec![group(1); groups];
            elements.push(leaf);
            check(&footer(&elements))
        };
        assert_eq!(deep(64), Ok(0));
        assert_eq!(deep(65), Err("its groups are more than 64 deep".to_owned()));
        for wrong in [group(2), group(-1), group(i32::MAX)] {
            assert_eq!(check(&footer(&[wrong, leaf])), Err(damaged()));
        }
        let long = check(&footer(&[group(1), (Some(i32::MAX), None)])).unwrap_err();
        assert!(long.contains("2147483647 bytes"), "{long}");
        // one after the other they may be many
        assert_eq!(check(&footer(&[vec![group(500)], vec![leaf; 500]].concat())), Ok(0));
    }

    #[test]
    fn what_is_skipped_may_hold_anything_but_not_go_on_for_ever() {
        let mut nested = vec![0x3C]; // field 3, a struct
        nested.extend([0x1C].repeat(100));
        assert_eq!(check(&nested), Err(damaged()));
        let mut lists = vec![0x39];
        lists.extend([0x19].repeat(1_000_000));
        assert_eq!(check(&lists), Err(damaged()));
        assert_eq!(check(&[0x39, 0xF5, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), Err(damaged()));
        // true, a list of booleans, a map of bytes to doubles, an empty map, a UUID, then the end
        let mut all = vec![0x31, 0x19, 0x21, 1, 2, 0x1B, 1, 0x37, 9];
        all.extend([0; 8]);
        all.extend([0x1B, 0, 0x1D]);
        all.extend([0; 17]);
        assert_eq!(check(&all), Ok(0));
    }

    #[test]
    fn a_footer_is_where_the_tail_says() {
        let tail = |length: u32, magic: &[u8; 4]| {
            let mut tail = [0; 8];
            tail[..4].copy_from_slice(&length.to_le_bytes());
            tail[4..].copy_from_slice(magic);
            tail
        };
        assert_eq!(start(100, tail(30, MAGIC)), Ok(62));
        assert_eq!(start(100, tail(88, MAGIC)), Ok(4));
        for (length, magic) in [(89, MAGIC), (u32::MAX, MAGIC), (3, b"PAR2"), (3, MAGIC_ENCRYPTED)] {
            assert!(start(100, tail(length, magic)).is_err(), "{length}");
        }
    }
}
