//! What one call gathers for the running log on its way, and leaves when it is over, however it ends.

use std::sync::Arc;

use crate::access_log::row;
use crate::access_log::row::{Contents, Part};
use crate::access_log::sink::{Left, Sink};
use crate::access_log::usage::{Asked, Charge, day_of};
use likeness_store::vault::Row;
use likeness_types::names::{Account, CollectionName, PersonId, RandomId};
use likeness_types::person::{LogKey, Timestamp, since_1970};

/// Most people one call has rows of: a search of ten faces names at most a thousand.
const NOTED_MAX: usize = 1024;

/// Whose call it is, and where it came from.
#[derive(Debug, Clone)]
pub struct CallOrigin {
    /// Whose.
    pub account: Account,
    /// Under which of the account's keys; may be empty.
    pub sub_account: String,
    /// The client's address; may be empty.
    pub client: String,
    /// Of the deployment.
    pub region: Arc<str>,
    /// Which call.
    pub interface: &'static str,
    /// When it arrived.
    pub received: Timestamp,
}

/// Somebody a call was about.
struct Noted {
    /// The key of the record.
    person: Vec<u8>,
    log: LogKey,
    collection: CollectionName,
    id: PersonId,
    part: Part,
}

/// A call's place in the log. Whoever drops it leaves it there.
pub(crate) struct Entry {
    sink: Arc<Sink>,
    request: RandomId,
    origin: CallOrigin,
    noted: Vec<Noted>,
    result: &'static str,
    charge: Charge,
}

impl Entry {
    /// Until it is said how the call ended, nobody waited for it.
    pub fn begin(sink: Arc<Sink>, request: RandomId, origin: CallOrigin) -> Self {
        Self {
            sink,
            request,
            origin,
            noted: Vec::new(),
            result: "CANCELLED",
            charge: Charge::Refused,
        }
    }

    /// The call is about this person; the same person as its subject twice is one row.
    pub fn note(
        &mut self,
        person: Vec<u8>,
        log: &LogKey,
        collection: &CollectionName,
        id: &PersonId,
        part: Part,
    ) {
        let noted = Noted {
            person,
            log: log.clone(),
            collection: collection.clone(),
            id: id.clone(),
            part,
        };
        let has_room = self.noted.len() < NOTED_MAX;
        let before = self
            .noted
            .iter_mut()
            .find(|other| !part.is_found() && other.log.id == log.id && !other.part.is_found());
        match before {
            Some(before) => *before = noted,
            None if has_room => self.noted.push(noted),
            None => {}
        }
    }

    /// Whether somebody whom the call names is noted.
    pub fn has_subject(&self) -> bool {
        self.noted.iter().any(|noted| !noted.part.is_found())
    }

    pub fn end(&mut self, result: &'static str, charge: Charge) {
        (self.result, self.charge) = (result, charge);
    }
}

impl Entry {
    /// Leaves the rows of an answer of a stream that goes on; what the call comes to is counted at its end.
    pub fn leave_rows(&mut self) {
        let rows = self.rows("OK", Charge::Free);
        if !rows.is_empty() {
            self.sink.leave(Left { asked: None, rows });
        }
    }

    fn rows(&mut self, result: &'static str, charge: Charge) -> Vec<Row> {
        let now = since_1970();
        let rows = std::mem::take(&mut self.noted).into_iter().map(|noted| {
            let key = row::key(noted.log.id, now);
            let contents = Contents {
                request: self.request.0,
                requested_ms: self.origin.received.0,
                account: self.origin.account.as_str(),
                sub_account: &self.origin.sub_account,
                client: &self.origin.client,
                region: &self.origin.region,
                interface: self.origin.interface,
                billed: charge == Charge::Billed,
                result,
                collection: noted.collection.as_str(),
                person_id: noted.id.as_str(),
                part: noted.part,
            };
            Row {
                sealed: row::seal(&noted.log, self.sink.deployment(), &key, &contents),
                person: noted.person,
                log: noted.log.id,
                key,
            }
        });
        rows.collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let rows = self.rows(self.result, self.charge);
        self.sink.leave(Left {
            asked: Some(Asked {
                account: self.origin.account.clone(),
                interface: self.origin.interface,
                day: day_of(self.origin.received),
                charge: self.charge,
            }),
            rows,
        });
    }
}
