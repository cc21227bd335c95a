//! The running log, as the service asks for it: who is noted in it, and how it is read.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::access_log::entry::{CallOrigin, Entry};
use crate::access_log::export::{LogCursor, LogPart};
use crate::access_log::row::{LogRow, Part};
use crate::access_log::usage::Usage;
use crate::access_log::{RunningLogSize, row, usage};
use crate::call::Call;
use crate::engine::{CollectionRef, Engine, PAGE_ITEMS_MAX};
use crate::gallery::Gallery;
use crate::gallery::collection::Collection;
use crate::page::Page;
use crate::people::duplicates::DuplicatePair;
use crate::search::Match;
use likeness_store::codec;
use likeness_store::records::Scan;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::{Account, CollectionName, PersonId, RandomId};
use likeness_types::person::Person;
use likeness_types::span::Step;

impl Gallery {
    /// A person's rows in the order of time, after the cursor.
    pub fn rows_of(&self, person: &Person, cursor: Option<&str>, items_max: usize) -> Result<Page<LogRow>> {
        let log = &person.log;
        let after = match cursor {
            None => Vec::new(),
            Some(text) => {
                let place = RandomId::parse(text).ok_or_else(|| {
                    let received = format!("{} bytes", text.len());
                    RequestError::invalid("cursor", "a cursor from an earlier page", received)
                })?;
                [log.id.0, place.0].concat()
            }
        };
        let mut page = Page {
            items: Vec::new(),
            damaged: 0,
            next: None,
        };
        let (mut seen, mut unreadable, mut last, mut next) = (0, 0, None, None);
        page.damaged = self.vault.scan_rows(log.id, &after, &mut |key, row| {
            if seen == items_max {
                next = last.map(|place: RandomId| place.to_string());
                return Scan::Stop;
            }
            seen += 1;
            last = key
                .get(16..)
                .and_then(|place| place.try_into().ok())
                .map(RandomId);
            match row::open(log, self.vault.ring.deployment, key, row) {
                Ok(row) => page.items.push(row),
                Err(codec::Unreadable) => unreadable += 1,
            }
            Scan::Continue
        })?;
        page.damaged += unreadable;
        page.next = next;
        Ok(page)
    }

    /// What an account asked on these days, by day.
    pub fn usage(&self, account: &Account, days: &RangeInclusive<u32>) -> Result<Vec<Usage>> {
        usage::of_account(&self.vault, account, days)
    }
}

impl Engine {
    /// From here on the call has its place in the running log: a row for everybody it is about, and one more
    /// in the totals. It is written when the call is dropped.
    pub fn log_call(&self, call: &mut Call, origin: CallOrigin) {
        let sink = Arc::clone(self.gallery.running.sink());
        call.entry = Some(Entry::begin(sink, call.request(), origin));
    }

    /// The call was refused, and named somebody: who is there has a row of it, and who is not has none.
    pub fn log_refused(&self, account: &Account, name: &CollectionName, id: &PersonId, call: &mut Call) {
        if call.entry.as_ref().is_none_or(Entry::has_subject) {
            return;
        }
        // Whatever is wrong there now, the call was answered before.
        let Ok(collection) = self.gallery.collection(account, name) else {
            return;
        };
        call.reads(&collection.readers);
        if let Ok(person) = self.gallery.person(&collection, id) {
            self.note(call, &collection, &person, Part::Subject);
        }
    }

    /// The call is about this person.
    pub(crate) fn note(&self, call: &mut Call, collection: &Collection, person: &Person, part: Part) {
        if let Some(entry) = &mut call.entry {
            let place = self.gallery.record_key(collection, &person.id);
            entry.note(place, &person.log, &collection.name, &person.id, part);
        }
    }

    /// The call's answer names these people of one collection, best first, for one of the faces it looks for.
    pub(crate) fn note_found<'a>(
        &self,
        call: &mut Call,
        face: usize,
        found: impl Iterator<Item = (usize, &'a Collection, &'a Match)>,
    ) {
        for (at, collection, found) in found {
            let [face, rank] = [face, at + 1].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
            // As the caller is told, or whoever reads the log learns what the call withheld.
            let part = if found.is_told {
                let similarity = self.rounded(found.similarity);
                Part::Found {
                    face,
                    rank,
                    similarity,
                }
            } else {
                Part::Named { face, rank }
            };
            self.note(call, collection, &found.person, part);
        }
    }

    /// An answer of a stream names these pairs: everybody in them has a row now, for the stream may last for hours.
    pub(crate) fn note_pairs(&self, call: &mut Call, collection: &Collection, pairs: &[DuplicatePair]) {
        let mut noted = HashSet::new();
        for pair in pairs {
            let similarity = pair.is_told.then(|| self.rounded(pair.similarity));
            for person in &pair.people {
                if noted.insert(person.log.id) {
                    self.note(call, collection, person, Part::Paired { similarity });
                }
            }
        }
        if let Some(entry) = &mut call.entry {
            entry.leave_rows();
        }
    }

    /// A person's rows of the running log in the order of time, a page at a time.
    ///
    /// # Errors
    /// Nobody has that PersonID, the record is damaged, or a cursor that no page gave out.
    pub fn running_log(
        &self,
        collection: &CollectionRef,
        id: &PersonId,
        cursor: Option<&str>,
        items_max: usize,
        call: &mut Call,
    ) -> Result<Page<LogRow>> {
        call.reads(&collection.0.readers);
        call.step(Step::Store, || {
            let person = self.gallery.person(&collection.0, id)?;
            self.gallery.running.flush();
            self.gallery
                .rows_of(&person, cursor, items_max.clamp(1, PAGE_ITEMS_MAX))
        })
    }

    /// The same of everybody in a collection, person by person, a part at a time.
    ///
    /// # Errors
    /// The collection was deleted, or the store failed.
    pub fn export_running_log(
        &self,
        collection: &CollectionRef,
        from: &LogCursor,
        rows_max: usize,
        call: &mut Call,
    ) -> Result<LogPart> {
        call.reads(&collection.0.readers);
        call.step(Step::Store, || {
            self.gallery
                .export_rows(&collection.0, from, rows_max.clamp(1, PAGE_ITEMS_MAX))
        })
    }

    /// Waits until everything that calls left before is in the running log and the totals.
    pub fn flush_running_log(&self) {
        self.gallery.running.flush();
    }

    /// How large the running log is, and what it lost.
    ///
    /// # Errors
    /// The store failed.
    pub fn running_log_size(&self) -> Result<RunningLogSize> {
        self.gallery.running.size()
    }

    /// What an account asked on these days (counted from 1970, UTC), by day.
    ///
    /// # Errors
    /// The store failed.
    pub fn usage(
        &self,
        account: &Account,
        days: &RangeInclusive<u32>,
        call: &mut Call,
    ) -> Result<Vec<Usage>> {
        call.step(Step::Store, || {
            self.gallery.running.flush();
            self.gallery.usage(account, days)
        })
    }
}
