//! Whether the keys hold what the commits say.

use super::{RedisSink, entries::hash_of, hex};
use crate::model::{BatchId, Result, StagedOutput};

impl RedisSink {
    /// One finding for each thing that is wrong.
    pub(super) fn findings(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        let published: Vec<_> = published.iter().filter(|(_, staged)| !staged.name.is_empty()).collect();
        let place = format!("keys '{}' of {}", self.spec.key_prefix, self.spec.server.shown());
        let looked = self.look(|connection| {
            let Some(held) = self.store.held(connection)? else { return Ok(None) };
            let entries = held.batch.map(|batch| self.store.entries_of(connection, batch)).transpose()?;
            let count = self.store.all_keys(connection, None)?.len() as u64;
            Ok(Some((held, entries.unwrap_or_default(), count)))
        })?;
        let (Some((first, _)), Some((newest, staged))) = (published.first(), published.last()) else {
            return Ok(Vec::new());
        };
        let Some((held, entries, count)) = looked else {
            return Ok(vec![format!("{place}, which {} batches published to, are missing", published.len())]);
        };
        let (mut found, whole) = (Vec::new(), self.is_whole());
        match held.batch {
            Some(batch) if batch == *newest => {}
            Some(batch) => found.push(format!("the newest batch there is {batch}, and not {newest}")),
            None => found.push(format!("batch {newest} is not there")),
        }
        if held.batch == Some(*newest) {
            let is_other = held.hash.as_ref().is_some_and(|hash| *hash != hex(&staged.hash));
            if is_other {
                found.push(format!("there is another batch {newest} than was committed"));
            } else if entries.len() as u64 == staged.rows && hash_of(&entries).1 != staged.hash {
                found.push(format!("what is there of batch {newest} is not what was published"));
            } else if (entries.len() as u64) < staged.rows || whole && count != staged.rows {
                // a rewind may have put back more in update mode
                found.push(format!(
                    "{} keys are there of batch {newest}, which published {}",
                    entries.len(),
                    staged.rows
                ));
            }
        }
        if !whole && held.first.is_some_and(|there| there > *first) {
            found.push(format!("batches before {} are not there", held.first.unwrap_or(*first)));
        }
        Ok(found.into_iter().map(|finding| format!("{place}: {finding}")).collect())
    }
}
