//! When a call must have its answer: the client's deadline, or the server's own if that is sooner.
//!
//! tonic would end a late call by itself, but as CANCELLED and without details. It stays as a backstop for
//! requests that never arrive whole.

use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::call::deadline::Deadline;

/// Notes the deadline as the call arrives, before its message is read.
pub fn note(
    call_time_max: Duration,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |mut request| {
        let asked = of_client(request.metadata());
        request
            .extensions_mut()
            .insert(Deadline::within(call_time_max, asked));
        Ok(request)
    }
}

/// `grpc-timeout`: up to eight digits and a unit. What is not of that form is ignored, as tonic does.
fn of_client(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// The time that is left.
    fn noted(grpc_timeout: Option<&'static str>) -> Duration {
        let mut request = Request::new(());
        if let Some(text) = grpc_timeout {
            let value = tonic::metadata::MetadataValue::from_static(text);
            request.metadata_mut().insert("grpc-timeout", value);
        }
        let request = note(Duration::from_secs(60))(request).expect("never refused");
        let Deadline(at) = *request.extensions().get().expect("noted");
        // What is left by now, up to the next tenth of a second.
        let tenths = at.duration_since(Instant::now()).as_millis().div_ceil(100);
        Duration::from_millis(u64::try_from(tenths).expect("at most a minute") * 100)
    }

    #[test]
    fn the_sooner_of_the_clients_deadline_and_the_servers_counts() {
        assert_eq!(noted(None), Duration::from_secs(60));
        assert_eq!(noted(Some("5S")), Duration::from_secs(5));
        assert_eq!(noted(Some("500m")), Duration::from_millis(500));
        assert_eq!(noted(Some("99999999H")), Duration::from_secs(60));
    }

    #[test]
    fn a_deadline_of_no_known_form_is_the_servers() {
        for text in ["", "S", "5", "5x", "-1S", "123456789S"] {
            assert_eq!(noted(Some(text)), Duration::from_secs(60), "{text}");
        }
    }
}
