//! Options about consent and expiry of a person.

use std::time::{Duration, SystemTime};

use clap::Args;
use likeness_proto::v1;
use prost_types::Timestamp;

#[derive(Debug, Args)]
pub struct ConsentArguments {
    /// Assert that the person, being of age or with a parent, agreed to this purpose
    #[arg(long, value_name = "PURPOSE")]
    consent: Option<String>,
    /// When the person agreed, as in 2026-08-01 or 2026-08-01T10:00:00Z [default: now]
    #[arg(long, value_name = "DATE", requires = "consent", value_parser = date)]
    consent_given: Option<Timestamp>,
}

impl ConsentArguments {
    /// On the wire.
    pub fn wire(self) -> Option<v1::Consent> {
        self.consent.map(|purpose| v1::Consent {
            purpose,
            given: self.consent_given,
            of_age_or_parental: true,
        })
    }
}

fn date(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| "expected a date, as in 2026-08-01 or 2026-08-01T10:00:00Z".to_owned())
}

/// A date, or how far it is from now: 12h, 30d, 8w.
pub fn date_or_time_from_now(text: &str) -> Result<Timestamp, String> {
    let from_now = || {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let hours = match unit {
            "h" => 1,
            "d" => 24,
            "w" => 24 * 7,
            _ => return None,
        };
        let seconds = digits.parse::<u64>().ok()?.checked_mul(hours * 3600)?;
        let time = SystemTime::now().checked_add(Duration::from_secs(seconds))?;
        // A time that the protocol cannot represent is no valid expiry.
        let years = seconds / (365 * 24 * 3600);
        (years < 1000).then(|| Timestamp::from(time))
    };
    from_now().map_or_else(
        || date(text).map_err(|expected| format!("{expected}; or a time from now, as in 12h, 30d or 8w")),
        Ok,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_midnight_utc() {
        assert_eq!(date("1970-01-02").map(|time| time.seconds), Ok(86_400));
        assert_eq!(date("1970-01-01T00:01:00Z").map(|time| time.seconds), Ok(60));
        assert!(date("tomorrow").is_err());
    }

    #[test]
    fn hours_days_and_weeks_count_from_now() {
        let now = Timestamp::from(SystemTime::now()).seconds;
        for (text, seconds) in [("12h", 43_200), ("30d", 2_592_000), ("8w", 4_838_400)] {
            let time = date_or_time_from_now(text).expect("a time").seconds;
            assert!((time - now - seconds).abs() <= 1, "{text}");
        }
        assert_eq!(
            date_or_time_from_now("1970-01-02").map(|time| time.seconds),
            Ok(86_400)
        );
        for text in [
            "",
            "d",
            "30",
            "30m",
            "-1d",
            "99999999999999999999d",
            "9999999999999w",
            "ä",
        ] {
            assert!(date_or_time_from_now(text).is_err(), "{text}");
        }
    }
}
