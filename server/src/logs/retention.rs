//! What the operator may set of the table of retention.

use clap::Args;
use likeness_engine::retention::Periods;

use crate::controller::ControllerArgs;

const MB: u64 = 1_000_000;
const DAYS_MAX: i64 = Periods::DAYS_MAX as i64;

/// What the operator may set of the table.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct Retention {
    /// Most megabytes of the error log on disk; the oldest lines go first
    #[arg(long, env = "LIKENESS_ERROR_LOG_MB", value_name = "MB", default_value_t = Periods::ERROR_LOG_MB_MAX, value_parser = clap::value_parser!(u64).range(1..=Periods::ERROR_LOG_MB_MAX))]
    pub error_log_mb: u64,

    /// Days that the operation log is kept
    #[arg(long, env = "LIKENESS_OPERATION_LOG_DAYS", value_name = "DAYS", default_value_t = Periods::DAYS_MAX, value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    pub operation_log_days: u32,

    /// Days that monitoring data are kept
    #[arg(long, env = "LIKENESS_MONITORING_DAYS", value_name = "DAYS", default_value_t = Periods::DAYS_MAX, value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    pub monitoring_days: u32,

    /// Megabytes of running log above which the server's log warns every hour
    #[arg(
        long,
        env = "LIKENESS_RUNNING_LOG_WARNING_MB",
        value_name = "MB",
        default_value_t = 4000
    )]
    pub running_log_warning_mb: u64,

    /// Whose data these are
    #[command(flatten)]
    pub controller: ControllerArgs,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            error_log_mb: Periods::ERROR_LOG_MB_MAX,
            operation_log_days: Periods::DAYS_MAX,
            monitoring_days: Periods::DAYS_MAX,
            running_log_warning_mb: 4000,
            controller: ControllerArgs::default(),
        }
    }
}

impl Retention {
    /// Most bytes of the error log on disk.
    pub fn error_log_bytes(&self) -> u64 {
        self.error_log_mb * MB
    }

    /// Bytes of the running log from which on the operator is warned.
    pub fn running_log_bytes_warning(&self) -> u64 {
        self.running_log_warning_mb.saturating_mul(MB)
    }

    /// The periods of the table.
    pub fn periods(&self) -> Periods {
        Periods {
            error_log_bytes: self.error_log_bytes(),
            operation_log_days: self.operation_log_days,
            monitoring_days: self.monitoring_days,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        retention: Retention,
    }

    fn of(arguments: &[&str]) -> Result<Retention, clap::Error> {
        let all = ["test"].iter().chain(arguments);
        Arguments::try_parse_from(all).map(|parsed| parsed.retention)
    }

    #[test]
    fn the_operator_may_shorten_and_never_lengthen() {
        let retention = of(&["--operation-log-days", "90", "--error-log-mb", "10"]).expect("shorter");
        let expected = Periods {
            operation_log_days: 90,
            error_log_bytes: 10 * MB,
            monitoring_days: 730,
        };
        assert_eq!(retention.periods(), expected);
        for longer in [
            ["--operation-log-days", "731"],
            ["--monitoring-days", "731"],
            ["--error-log-mb", "2001"],
            ["--error-log-mb", "0"],
        ] {
            assert!(of(&longer).is_err(), "{longer:?}");
        }
    }
}
