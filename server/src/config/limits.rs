//! Limits on what callers may ask, and how fast: a few constants, and options with their defaults.

use std::time::Duration;

use clap::Args;
use likeness_engine::ScoreLimits;

/// Streams of imports at once: each may hold a few of the largest messages.
pub const IMPORTS_MAX: usize = 4;
/// Of them, one account's.
pub const IMPORTS_PER_ACCOUNT_MAX: usize = 3;
/// Streams of one account at once beside its imports: deletions by a list, exports of the running log, searches for
/// duplicates, measurements.
pub const STREAMS_PER_ACCOUNT_MAX: usize = 16;
/// Changes that may wait for the disk at once; they cost a thread each, not a core.
pub const CHANGES_MAX: usize = 64;
/// Largest message for keys, accounts, logs and receipts.
pub const SMALL_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// A question of reflection: the name of a symbol or a file.
pub const REFLECTION_BYTES_MAX: usize = 4 << 10;
/// Memory for a photograph in work, in MiB: one of 40 megapixels with transparency and 16 bits a channel needs 590.
pub const WORK_MEMORY_MB: u64 = 640;
/// The same for a call that stepped back in the middle of a photograph: it keeps the pixels of 40 megapixels,
/// room for a turned copy, and the inputs of the detector.
pub const PARKED_MEMORY_MB: u64 = 288;
/// Streams that one connection may have open at once.
pub const STREAMS_MAX: u32 = 256;
/// A request of health: the name of a service. It requires no key, and takes no place among the calls.
pub const HEALTH_BYTES_MAX: usize = 1 << 10;
/// Streams that a client has reset and no handler has taken yet; a client with more of them is told to calm down.
pub const RESET_STREAMS_MAX: usize = 64;
/// Streams that were reset for a fault of the client in the protocol; after as many its connection ends.
pub const FAULTY_STREAMS_MAX: usize = 64;
/// Metadata of a call: a deadline, a key, and what proxies add.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Environment variables of an earlier version, each with the option that reads it where the present variable is unset.
pub const RENAMED_VARIABLES: [(&str, &str); 6] = [
    ("LIKENESS_DOUBT_MARGIN", "borderline_margin"),
    ("LIKENESS_DOUBT_HOURS", "borderline_recovery_hours"),
    ("LIKENESS_CLEAR_PER_DOUBT", "clear_accepts_per_borderline"),
    ("LIKENESS_DOUBTS", "borderline_accepts"),
    (
        "LIKENESS_OWN_TURNS_PER_DAY_OF_ACCOUNT",
        "own_comparisons_per_day_of_account",
    ),
    ("LIKENESS_OWN_TURNS_PER_DAY", "own_comparisons_per_day"),
];

/// Limits on callers.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct LimitArgs {
    /// Longest time a call may wait for a worker, as estimated from recent calls; others are refused at once
    #[arg(long, env = "LIKENESS_QUEUE_MILLIS", value_name = "MS", default_value_t = Self::DEFAULT.queue_millis, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub queue_millis: u64,

    /// Concurrent connections; beyond it connections without a valid API key are closed for new ones, otherwise new ones
    /// are closed
    #[arg(long, env = "LIKENESS_CONNECTIONS", value_name = "N", default_value_t = Self::DEFAULT.connections, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Of them, connections without a valid API key so far; the oldest are closed first
    #[arg(long, env = "LIKENESS_KEYLESS_CONNECTIONS", value_name = "N", default_value_t = Self::DEFAULT.keyless_connections, value_parser = clap::value_parser!(u32).range(1..))]
    pub keyless_connections: u32,

    /// Of these, connections of one address (of an IPv6 network of 64 bits)
    #[arg(long, env = "LIKENESS_KEYLESS_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value_t = Self::DEFAULT.keyless_connections_per_address, value_parser = clap::value_parser!(u32).range(1..))]
    pub keyless_connections_per_address: u32,

    /// New connections of one address in a second; more wait
    #[arg(long, env = "LIKENESS_NEW_CONNECTIONS_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.new_connections_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub new_connections_per_second: u32,

    /// Longest idle time of a connection that made only calls for health, in seconds
    #[arg(long, env = "LIKENESS_KEYLESS_IDLE_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.keyless_idle_seconds, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub keyless_idle_seconds: u64,

    /// Age at which a connection ends, as soon as its calls are done, in seconds
    #[arg(long, env = "LIKENESS_CONNECTION_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.connection_seconds, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    pub connection_seconds: u64,

    /// Concurrent calls over all connections, counted from their first byte; more are refused
    #[arg(long, env = "LIKENESS_CALLS", value_name = "N", default_value_t = Self::DEFAULT.calls, value_parser = clap::value_parser!(u32).range(1..))]
    pub calls: u32,

    /// Longest time for the handshake, then until the first call, and in which a connection takes no bytes, before it
    /// is closed, in seconds
    #[arg(long, env = "LIKENESS_STALL_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.stall_seconds, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub stall_seconds: u64,

    /// Memory for messages that are incomplete or not yet answered, in MiB; more are refused
    #[arg(long, env = "LIKENESS_MESSAGE_MEMORY_MB", value_name = "MB", default_value_t = Self::DEFAULT.message_memory_mb, value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub message_memory_mb: u32,

    /// The same for one account
    #[arg(long, env = "LIKENESS_MESSAGE_MEMORY_ACCOUNT_MB", value_name = "MB", default_value_t = Self::DEFAULT.message_memory_account_mb, value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub message_memory_account_mb: u32,

    /// Memory for all photographs in work, in MiB; more are refused [default: 928 for each worker]
    #[arg(long, env = "LIKENESS_WORK_MEMORY_MB", value_name = "MB", value_parser = clap::value_parser!(u32).range(640..=1_048_576))]
    pub work_memory_mb: Option<u32>,

    /// Bytes that a message must bring in each further second if it is incomplete after --stall-seconds
    #[arg(long, env = "LIKENESS_MESSAGE_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = Self::DEFAULT.message_bytes_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub message_bytes_per_second: u32,

    /// Calls of one API key in a second, and of an account without a quota of its own
    #[arg(long, env = "LIKENESS_CALLS_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.calls_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub calls_per_second: u32,

    /// Megapixels of photographs of one account that are decoded in a second, on average; 0 for no limit
    #[arg(long, env = "LIKENESS_MEGAPIXELS_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.megapixels_per_second)]
    pub megapixels_per_second: u32,

    /// Milliseconds of workers for one account in a second, on average; 0 for no limit
    #[arg(long, env = "LIKENESS_WORK_MILLIS_PER_SECOND", value_name = "MS", default_value_t = Self::DEFAULT.work_millis_per_second)]
    pub work_millis_per_second: u32,

    /// Searches of one account in a second
    #[arg(long, env = "LIKENESS_SEARCHES_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.searches_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub searches_per_second: u32,

    /// Searches of one account in a day
    #[arg(long, env = "LIKENESS_SEARCHES_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.searches_per_day, value_parser = clap::value_parser!(u32).range(1..))]
    pub searches_per_day: u32,

    /// Floor of similarities to enrolled people, as a false accept rate: none below it is returned or used as a
    /// threshold; 1 for no floor
    #[arg(long, env = "LIKENESS_SCORE_FLOOR_FAR", value_name = "RATE", default_value_t = Self::DEFAULT.score_floor_far, value_parser = rate)]
    pub score_floor_far: f64,

    /// A second floor for searches: this part of the searches for a person that is not enrolled may reach it,
    /// independent of the number of faces; 1 for --score-floor-far alone
    #[arg(long, env = "LIKENESS_SCORE_FLOOR_FPIR", value_name = "RATE", default_value_t = Self::DEFAULT.score_floor_fpir, value_parser = rate)]
    pub score_floor_fpir: f64,

    /// Similarities are rounded to multiples of it, for readability only; 0 rounds nothing
    #[arg(long, env = "LIKENESS_SCORE_STEP", value_name = "STEP", default_value_t = Self::DEFAULT.score_step, value_parser = step)]
    pub score_step: f32,

    /// Similarities to one person that are returned to an account in a day, over all its keys; afterwards yes or no
    #[arg(long, env = "LIKENESS_SCORES_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.scores_per_day)]
    pub scores_per_day: u32,

    /// Failed comparisons with one person in a day, over all callers, before further ones are slowed down
    #[arg(long, env = "LIKENESS_REFUSED_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.refused_per_day)]
    pub refused_per_day: u32,

    /// The same since the person was last recognised clearly
    #[arg(long, env = "LIKENESS_REFUSED_IN_A_ROW", value_name = "N", default_value_t = Self::DEFAULT.refused_in_a_row)]
    pub refused_in_a_row: u32,

    /// Margin above the threshold in which a recognition is a borderline accept: it counts as a failed comparison too
    #[arg(long, alias = "doubt-margin", env = "LIKENESS_BORDERLINE_MARGIN", value_name = "SIMILARITY", default_value_t = Self::DEFAULT.borderline_margin, value_parser = step)]
    pub borderline_margin: f32,

    /// Borderline accepts of one person, over all callers, before the threshold for that person is higher by the
    /// margin
    #[arg(long, alias = "doubts", env = "LIKENESS_BORDERLINE_ACCEPTS", value_name = "N", default_value_t = Self::DEFAULT.borderline_accepts)]
    pub borderline_accepts: u32,

    /// Hours in which one borderline accept is regained
    #[arg(long, alias = "doubt-hours", env = "LIKENESS_BORDERLINE_RECOVERY_HOURS", value_name = "HOURS", default_value_t = Self::DEFAULT.borderline_recovery_hours)]
    pub borderline_recovery_hours: u32,

    /// Clear recognitions that regain one borderline accept as well; 0 for never
    #[arg(long, alias = "clear-per-doubt", env = "LIKENESS_CLEAR_ACCEPTS_PER_BORDERLINE", value_name = "N", default_value_t = Self::DEFAULT.clear_accepts_per_borderline)]
    pub clear_accepts_per_borderline: u32,

    /// First pause between comparisons with a person that are slowed down, in seconds
    #[arg(long, env = "LIKENESS_COMPARISON_PAUSE_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.comparison_pause_seconds)]
    pub comparison_pause_seconds: u64,

    /// Longest pause: it doubles with every ten further failed comparisons
    #[arg(long, env = "LIKENESS_COMPARISON_PAUSE_SECONDS_MAX", value_name = "SECONDS", default_value_t = Self::DEFAULT.comparison_pause_seconds_max)]
    pub comparison_pause_seconds_max: u64,

    /// Comparisons of one API key with a person in a day that are answered at once although others are slowed down, as
    /// long as none of the key's own failed
    #[arg(long, alias = "own-turns-per-day", env = "LIKENESS_OWN_COMPARISONS_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.own_comparisons_per_day)]
    pub own_comparisons_per_day: u32,

    /// The same for all keys of an account together
    #[arg(long, alias = "own-turns-per-day-of-account", env = "LIKENESS_OWN_COMPARISONS_PER_DAY_OF_ACCOUNT", value_name = "N", default_value_t = Self::DEFAULT.own_comparisons_per_day_of_account)]
    pub own_comparisons_per_day_of_account: u32,

    /// Times that one person is named as a duplicate in a day, over all keys: in pairs of searches for duplicates, and
    /// by checks at enrolment
    #[arg(long, env = "LIKENESS_DUPLICATES_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.duplicates_per_day)]
    pub duplicates_per_day: u32,

    /// Step in microseconds to which times in replies are rounded down
    #[arg(long, env = "LIKENESS_TIMING_MICROS", value_name = "N", default_value_t = Self::DEFAULT.timing_micros, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub timing_micros: u64,
}

impl LimitArgs {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        queue_millis: 2000,
        connections: 1024,
        keyless_connections: 256,
        keyless_connections_per_address: 64,
        new_connections_per_second: 200,
        keyless_idle_seconds: 60,
        connection_seconds: 3600,
        calls: 1024,
        stall_seconds: 20,
        message_memory_mb: 1024,
        message_memory_account_mb: 512,
        work_memory_mb: None,
        message_bytes_per_second: 4096,
        calls_per_second: 1000,
        megapixels_per_second: 0,
        work_millis_per_second: 0,
        searches_per_second: 100,
        searches_per_day: 100_000,
        score_floor_far: 1e-4,
        score_floor_fpir: 0.1,
        score_step: 0.02,
        scores_per_day: 10,
        refused_per_day: 20,
        refused_in_a_row: 100,
        borderline_margin: 0.15,
        borderline_accepts: 5,
        borderline_recovery_hours: 24,
        clear_accepts_per_borderline: 8,
        comparison_pause_seconds: 60,
        comparison_pause_seconds_max: 15 * 60,
        own_comparisons_per_day: 5,
        own_comparisons_per_day_of_account: 20,
        duplicates_per_day: 10,
        timing_micros: 100,
    };

    /// Only limits that protect the server itself: for tests of other things.
    pub const GENEROUS: Self = Self {
        queue_millis: 60_000,
        keyless_connections: 1024,
        keyless_connections_per_address: 1024,
        new_connections_per_second: 1_000_000,
        calls_per_second: 1_000_000,
        searches_per_second: 1_000_000,
        searches_per_day: u32::MAX,
        score_floor_far: 1.0,
        score_floor_fpir: 1.0,
        score_step: 0.0,
        scores_per_day: u32::MAX,
        refused_per_day: u32::MAX,
        refused_in_a_row: u32::MAX,
        borderline_accepts: u32::MAX,
        duplicates_per_day: u32::MAX,
        timing_micros: 1,
        ..Self::DEFAULT
    };

    /// What may be learnt of faces.
    pub fn scores(&self) -> ScoreLimits {
        ScoreLimits {
            floor_far: self.score_floor_far,
            floor_fpir: self.score_floor_fpir,
            step: self.score_step,
            refused_a_day: self.refused_per_day,
            refused_in_a_row: self.refused_in_a_row,
            doubt_margin: self.borderline_margin,
            doubts: self.borderline_accepts,
            doubt_regained: Duration::from_secs(3600 * u64::from(self.borderline_recovery_hours)),
            clear_a_doubt: self.clear_accepts_per_borderline,
            pause: Duration::from_secs(self.comparison_pause_seconds),
            pause_max: Duration::from_secs(self.comparison_pause_seconds_max),
            told_a_day: self.scores_per_day,
            own_turns_a_day: self.own_comparisons_per_day,
            own_turns_of_account_a_day: self.own_comparisons_per_day_of_account,
            duplicates_a_day: self.duplicates_per_day,
        }
    }

    /// Longest time a call may wait for a worker.
    pub fn queue_time_max(&self) -> Duration {
        Duration::from_millis(self.queue_millis)
    }

    /// How long a connection may stand still.
    pub fn stall_time_max(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    match (1e-9..=1.0).contains(&rate) {
        true => Ok(rate),
        false => Err(format!("expected 1e-9 to 1, received {rate}")),
    }
}

fn step(text: &str) -> Result<f32, String> {
    let step: f32 = text.parse().map_err(|_| "expected a number".to_owned())?;
    match (0.0..=0.5).contains(&step) {
        true => Ok(step),
        false => Err(format!("expected 0 to 0.5, received {step}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_engines() {
        assert_eq!(LimitArgs::DEFAULT.scores(), ScoreLimits::default());
        assert_eq!(
            LimitArgs::GENEROUS.scores(),
            ScoreLimits {
                pause: Duration::from_secs(60),
                ..ScoreLimits::none()
            }
        );
    }

    #[test]
    fn rates_and_steps_out_of_range_are_refused() {
        assert!(rate("0").is_err() && rate("1.1").is_err() && rate("x").is_err() && rate("1e-4").is_ok());
        assert!(step("-0.1").is_err() && step("0.6").is_err() && step("0").is_ok());
    }
}
