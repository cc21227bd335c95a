//! The rows of everybody in a collection, a part at a time.
//!
//! From one part to the next nothing is kept that an erasure would have to reach: each part looks again at who is
//! there.

use crate::access_log::row::LogRow;
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use likeness_types::error::Result;
use likeness_types::names::RandomId;

/// How far an export got. It names nobody: a keyed digest, a random id and a time.
#[derive(Debug, Clone, Default)]
pub struct LogCursor {
    /// Where the listing of the people goes on.
    after: Option<String>,
    /// Of somebody with more rows than a part has: whose log it is, and where it goes on.
    within: Option<(RandomId, String)>,
}

/// A part of an export: rows of one person.
pub struct LogPart {
    /// In the order of time.
    pub rows: Vec<LogRow>,
    /// Rows that cannot be read and are therefore missing above.
    pub damaged: usize,
    /// Where the next part begins; none after the last.
    pub next: Option<LogCursor>,
}

impl Gallery {
    /// The rows of whoever comes next in the order of the listing; none of somebody who was erased meanwhile.
    pub fn export_rows(
        &self,
        collection: &Collection,
        from: &LogCursor,
        items_max: usize,
    ) -> Result<LogPart> {
        let people = self.list(collection, from.after.as_deref(), 1)?;
        let later = people.next.map(|after| LogCursor {
            after: Some(after),
            // Somebody new may come before the person whose rows go on.
            within: from.within.clone(),
        });
        let Some(person) = people.items.first() else {
            return Ok(LogPart {
                rows: Vec::new(),
                damaged: 0,
                next: later,
            });
        };
        let within = from.within.as_ref().filter(|(log, _)| *log == person.log.id);
        let page = self.rows_of(person, within.map(|(_, place)| place.as_str()), items_max)?;
        let further = page.next.map(|place| LogCursor {
            after: from.after.clone(),
            within: Some((person.log.id, place)),
        });
        Ok(LogPart {
            rows: page.items,
            damaged: page.damaged,
            next: further.or(later),
        })
    }
}
