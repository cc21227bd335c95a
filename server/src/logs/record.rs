//! What the logs say of one call: numbers, constants and random ids.
//!
//! The types hold the promise that nothing personal is logged: no field can take text from a request. The account and
//! its key are the operator's own names, checked before they got here.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use likeness_engine::{CallOrigin, Charge, Timestamp, day_of};
use likeness_proto::Message;
use serde::Serialize;

const DAY_SECONDS: u64 = 24 * 3600;

/// How large a request was, and what was in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Of the message; of a stream, of its items each.
    pub bytes: u64,
    /// Photographs in it.
    pub photographs: u32,
    /// Their bytes.
    pub photograph_bytes: u64,
    /// Collections and PersonIDs that it names.
    pub names: u32,
}

/// A request that can say how large it is.
pub trait Shaped {
    /// Sizes and counts, never a value.
    fn shape(&self) -> Shape;
}

impl Shape {
    /// Of a message with these photographs and so many names in it.
    pub fn of<'a>(message: &impl Message, photographs: impl Iterator<Item = &'a [u8]>, names: usize) -> Self {
        let mut shape = Self {
            bytes: message.encoded_len() as u64,
            names: u32::try_from(names).unwrap_or(u32::MAX),
            ..Self::default()
        };
        for photograph in photographs {
            shape.photographs += 1;
            shape.photograph_bytes += photograph.len() as u64;
        }
        shape
    }
}

/// What client_origin out, in counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Output {
    /// Of the reply.
    pub bytes: u64,
    /// Faces found, or kept.
    pub faces: u32,
    /// Faces and photographs that were refused.
    pub rejected: u32,
    /// People, pairs or rows that the reply names.
    pub named: u32,
    /// The best similarity, rounded to 0.02; of replies that tell it.
    pub similarity: Option<f32>,
}

impl Output {
    /// The same with the similarity of the reply, if it tells one, rounded.
    pub fn with_similarity(mut self, similarity: impl Into<Option<f32>>) -> Self {
        let rounded = |similarity: f32| (similarity * 50.0).round() / 50.0;
        self.similarity = similarity.into().map(rounded);
        self
    }
}

/// Where a call comes from, as far as a log without people in it may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientOrigin {
    /// This machine.
    Loopback,
    /// A network that is not routed.
    Private,
    /// Any other address.
    Elsewhere,
    /// The transport does not say.
    Unknown,
}

impl ClientOrigin {
    /// The class of an address.
    pub fn from(address: Option<IpAddr>) -> Self {
        match address {
            None => Self::Unknown,
            Some(address) if address.is_loopback() => Self::Loopback,
            Some(IpAddr::V4(v4)) if v4.is_private() || v4.is_link_local() => Self::Private,
            Some(IpAddr::V6(v6)) if v6.is_unique_local() || v6.is_unicast_link_local() => Self::Private,
            Some(_) => Self::Elsewhere,
        }
    }
}

/// What the error log says of a call that was refused before its caller was known: constants only, so there are few
/// kinds, however many calls come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RejectedCall {
    /// The kind of refusal by its name.
    pub code: &'static str,
    /// The reason of the refusal.
    pub reason: &'static str,
    /// The class of the client's address.
    pub client_origin: ClientOrigin,
}

/// What the server itself was like when the call ended.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Downstream {
    /// Calls that wait to compute.
    pub waiting_to_compute: u32,
    /// Calls that wait for the store.
    pub waiting_to_store: u32,
    /// Whether the store refused this call.
    pub store_failed: bool,
    /// Whether the models did.
    pub model_failed: bool,
}

/// A call that is over.
pub struct CallRecord {
    /// Names the call.
    pub call: String,
    /// Whose, from where, of which interface, and when it arrived.
    pub origin: CallOrigin,
    /// The class of the client's address.
    pub client_origin: ClientOrigin,
    /// When it was over.
    pub ended: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// One of a stream.
    pub is_item: bool,
    /// The gRPC code by its name.
    pub code: &'static str,
    /// "OK", or the reason of the refusal.
    pub result: &'static str,
    /// Whether it counts on a bill.
    pub charge: Charge,
    /// What was asked.
    pub request: Shape,
    /// What client_origin out.
    pub output: Output,
    /// What took how long, in microseconds.
    pub steps: Vec<(&'static str, u64)>,
    /// The server's state.
    pub downstream: Downstream,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    time: String,
    call: &'a str,
    item: bool,
    interface: &'static str,
    success: bool,
    code: &'static str,
    reason: &'static str,
    account: &'a str,
    sub_account: &'a str,
    region: &'a str,
    parameters: Shape,
    output: Output,
    upstream: ClientOrigin,
    downstream: Downstream,
}

#[derive(Serialize)]
struct OperationLine<'a> {
    time: String,
    call: &'a str,
    item: bool,
    interface: &'static str,
    account: &'a str,
    sub_account: &'a str,
    region: &'a str,
    micros: u64,
    steps: Vec<StepLine>,
    request: Shape,
    response: Output,
    code: &'static str,
}

#[derive(Serialize)]
struct StepLine {
    step: &'static str,
    micros: u64,
}

#[derive(Serialize)]
struct MonitoringLine<'a> {
    start: String,
    end: String,
    call: &'a str,
    item: bool,
    interface: &'static str,
    result: &'static str,
    account: &'a str,
    sub_account: &'a str,
    region: &'a str,
    fee_units: u32,
    volume: u32,
}

impl CallRecord {
    /// Whether the call was refused.
    pub fn is_refused(&self) -> bool {
        self.charge == Charge::Refused
    }

    /// Whether anything was refused: the call, or a part of it.
    pub fn is_of_interest(&self) -> bool {
        self.charge == Charge::Refused || self.output.rejected > 0
    }

    /// Its line in the error log.
    pub fn error_line(&self) -> Vec<u8> {
        line(&ErrorLine {
            time: time(self.ended),
            call: &self.call,
            item: self.is_item,
            interface: self.origin.interface,
            success: self.charge != Charge::Refused,
            code: self.code,
            reason: self.result,
            account: self.origin.account.as_str(),
            sub_account: &self.origin.sub_account,
            region: &self.origin.region,
            parameters: self.request,
            output: self.output,
            upstream: self.client_origin,
            downstream: self.downstream,
        })
    }

    /// Its line in the operation log.
    pub fn operation_line(&self) -> Vec<u8> {
        let steps = self.steps.iter();
        line(&OperationLine {
            time: time(self.origin.received),
            call: &self.call,
            item: self.is_item,
            interface: self.origin.interface,
            account: self.origin.account.as_str(),
            sub_account: &self.origin.sub_account,
            region: &self.origin.region,
            micros: u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            steps: steps
                .map(|(step, micros)| StepLine {
                    step,
                    micros: *micros,
                })
                .collect(),
            request: self.request,
            response: self.output,
            code: self.code,
        })
    }

    /// Its line among the monitoring data. The volume is the photographs of a call, and one where there are none; a
    /// billed call is one fee unit.
    pub fn monitoring_line(&self) -> Vec<u8> {
        line(&MonitoringLine {
            start: time(self.origin.received),
            end: time(self.ended),
            call: &self.call,
            item: self.is_item,
            interface: self.origin.interface,
            result: self.result,
            account: self.origin.account.as_str(),
            sub_account: &self.origin.sub_account,
            region: &self.origin.region,
            fee_units: u32::from(self.charge == Charge::Billed),
            volume: self.request.photographs.max(1),
        })
    }
}

#[derive(Serialize)]
struct LostLine {
    time: String,
    lost_calls: u64,
}

/// So many calls found no room.
pub fn lost_line(now: Timestamp, lost_calls: u64) -> Vec<u8> {
    line(&LostLine {
        time: time(now),
        lost_calls,
    })
}

#[derive(Serialize)]
struct RejectedLine<'a> {
    time: String,
    calls: u64,
    success: bool,
    code: &'static str,
    reason: &'static str,
    account: &'a str,
    sub_account: &'a str,
    region: &'a str,
    upstream: ClientOrigin,
}

/// So many calls of this kind were refused before anybody was known, and so no account is named.
pub fn rejected_line(now: Timestamp, kind: &RejectedCall, calls: u64, region: &str) -> Vec<u8> {
    line(&RejectedLine {
        time: time(now),
        calls,
        success: false,
        code: kind.code,
        reason: kind.reason,
        account: "",
        sub_account: "",
        region,
        upstream: kind.client_origin,
    })
}

#[derive(Serialize)]
struct TornLine {
    time: String,
    torn_bytes: u64,
}

/// A crash tore a line of so many bytes.
pub fn torn_line(now: Timestamp, torn_bytes: u64) -> Vec<u8> {
    line(&TornLine {
        time: time(now),
        torn_bytes,
    })
}

fn line(record: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("numbers and names become JSON");
    line.push(b'\n');
    line
}

fn time(time: Timestamp) -> String {
    prost_types::Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_millis(time.0)).to_string()
}

/// A day, as in 2026-11-28.
pub fn date(day: u32) -> String {
    let seconds = u64::from(day) * DAY_SECONDS;
    let mut text =
        prost_types::Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    // The year 11,761,191 is the last; no clock gets there.
    text.truncate(text.find('T').unwrap_or(text.len()));
    text
}

/// The day that [`date`] wrote.
pub fn day_of_date(date: &str) -> Option<u32> {
    let midnight: prost_types::Timestamp = format!("{date}T00:00:00Z").parse().ok()?;
    let day = u32::try_from(u64::try_from(midnight.seconds).ok()? / DAY_SECONDS).ok()?;
    (self::date(day) == date).then_some(day)
}

/// Today.
pub fn today() -> u32 {
    day_of(Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_and_read_the_same() {
        for (day, text) in [(0, "1970-01-01"), (20_785, "2026-11-28"), (11_016, "2000-02-29")] {
            assert_eq!(date(day), text);
            assert_eq!(day_of_date(text), Some(day));
        }
        for wrong in ["", "2026-02-30", "2026-1-1", "yesterday", "2026-11-28T00:00:00Z"] {
            assert_eq!(day_of_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn of_an_address_only_its_class_is_logged() {
        let class = |text: &str| ClientOrigin::from(text.parse().ok());
        assert_eq!(class("127.0.0.1"), ClientOrigin::Loopback);
        assert_eq!(class("::1"), ClientOrigin::Loopback);
        assert_eq!(class("10.1.2.3"), ClientOrigin::Private);
        assert_eq!(class("fd00::1"), ClientOrigin::Private);
        assert_eq!(class("203.0.113.9"), ClientOrigin::Elsewhere);
        assert_eq!(ClientOrigin::from(None), ClientOrigin::Unknown);
    }
}
