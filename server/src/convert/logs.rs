//! Logs, and the language of the policy, on the wire.

use std::ops::RangeInclusive;

use likeness_engine::{LogRow, Part, RequestError, Result, RunningLogSize, Usage};
use likeness_proto::v1;

use super::replies::time;
use crate::logs::{date, day_of_date, today};
use crate::policy::Language;

/// The language of a text.
pub fn language(language: &str) -> Result<Language> {
    match language {
        "" => Ok(Language::default()),
        code => Language::of_code(code).ok_or_else(|| {
            let received = format!("{} bytes", code.len());
            RequestError::invalid("language", "en, zh or id", received).into()
        }),
    }
}

/// The first and the last day of a question; empty is today.
pub fn days(first: &str, last: &str) -> Result<RangeInclusive<u32>> {
    let day = |field, text: &str| match text {
        "" => Ok(today()),
        text => day_of_date(text).ok_or_else(|| {
            let received = format!("{} bytes of another form", text.len());
            RequestError::invalid(field, "a day as in 2026-11-28", received)
        }),
    };
    Ok(day("first_day", first)?..=day("last_day", last)?)
}

/// A row of the running log.
pub fn log_row(row: LogRow) -> v1::RunningLogRow {
    let (part, face, rank, similarity) = match row.part {
        Part::Subject => (v1::PersonPart::Subject, 0, 0, None),
        Part::Compared { same: true } => (v1::PersonPart::Same, 0, 0, None),
        Part::Compared { same: false } => (v1::PersonPart::NotSame, 0, 0, None),
        Part::Found {
            face,
            rank,
            similarity,
        } => (v1::PersonPart::Found, face, rank, Some(similarity)),
        Part::Named { face, rank } => (v1::PersonPart::Found, face, rank, None),
        Part::Paired { similarity } => (v1::PersonPart::Paired, 0, 0, similarity),
    };
    v1::RunningLogRow {
        request_id: row.request.to_string(),
        requested: time(row.requested),
        accessed: time(row.accessed),
        account: row.account,
        sub_account: row.sub_account,
        client: row.client,
        region: row.region,
        interface: row.interface,
        billed: row.billed,
        result: row.result,
        collection: row.collection,
        person_id: row.person_id,
        part: part.into(),
        face,
        rank,
        similarity,
    }
}

/// A total.
pub fn usage(usage: Usage) -> v1::Usage {
    v1::Usage {
        account: usage.account,
        interface: usage.interface,
        day: date(usage.day),
        calls: usage.calls,
        billed: usage.billed,
        errors: usage.errors,
    }
}

/// How large the running log is.
pub fn running_log_size(size: RunningLogSize) -> v1::RunningLogSize {
    v1::RunningLogSize {
        rows: size.rows,
        bytes: size.bytes,
        bytes_warning: size.bytes_warning,
        lost_calls: size.lost_calls,
        lost_rows: size.lost_rows,
    }
}
