//! Limits on what callers may ask, and how fast: a few constants, and options with their defaults.

use std::time::Duration;

use clap::Args;
use likeness_engine::ScoreLimits;

use crate::bodies::Budget;
use crate::connections::{Most, Times};

/// How long a connection stays after its last call: with the time that its end takes, less than a second.
const REST_MAX: Duration = Duration::from_millis(500);
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
/// A question for health: the name of a service. Whoever asks shows no key, and has no place among the calls.
pub const HEALTH_BYTES_MAX: usize = 1 << 10;
/// Streams that a client has reset and no handler has taken yet; a client with more of them is told to calm down.
pub const RESET_STREAMS_MAX: usize = 64;
/// Streams that were reset for a fault of the client in the protocol; after as many its connection ends.
pub const FAULTY_STREAMS_MAX: usize = 64;
/// Metadata of a call: a deadline, a key, and what proxies add.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;

/// What callers may ask, and how fast.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct LimitArgs {
    /// Longest time a call may wait for a worker, by what calls took of late; others are refused at once
    #[arg(long, env = "LIKENESS_QUEUE_MILLIS", value_name = "MS", default_value_t = Self::DEFAULT.queue_millis, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub queue_millis: u64,

    /// Connections at once; of more, those without a valid API key give way, and otherwise they are closed as they come
    #[arg(long, env = "LIKENESS_CONNECTIONS", value_name = "N", default_value_t = Self::DEFAULT.connections, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Of them, connections on which no valid API key was shown; the oldest give way
    #[arg(long, env = "LIKENESS_KEYLESS_CONNECTIONS", value_name = "N", default_value_t = Self::DEFAULT.keyless_connections, value_parser = clap::value_parser!(u32).range(1..))]
    pub keyless_connections: u32,

    /// Of these, connections of one address (of an IPv6 network of 64 bits)
    #[arg(long, env = "LIKENESS_KEYLESS_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value_t = Self::DEFAULT.keyless_connections_per_address, value_parser = clap::value_parser!(u32).range(1..))]
    pub keyless_connections_per_address: u32,

    /// New connections of one address that begin in a second; more wait
    #[arg(long, env = "LIKENESS_NEW_CONNECTIONS_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.new_connections_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub new_connections_per_second: u32,

    /// How long a connection may go without a call that made none but for health, in seconds
    #[arg(long, env = "LIKENESS_KEYLESS_IDLE_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.keyless_idle_seconds, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub keyless_idle_seconds: u64,

    /// How old a connection may be before it ends, once its calls are over, in seconds
    #[arg(long, env = "LIKENESS_CONNECTION_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.connection_seconds, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    pub connection_seconds: u64,

    /// Calls at once, over all connections, from their first byte on; more are refused
    #[arg(long, env = "LIKENESS_CALLS", value_name = "N", default_value_t = Self::DEFAULT.calls, value_parser = clap::value_parser!(u32).range(1..))]
    pub calls: u32,

    /// How long a client may take to begin, and then to its first call, or a connection take no bytes, before it is
    /// closed, in seconds
    #[arg(long, env = "LIKENESS_STALL_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.stall_seconds, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub stall_seconds: u64,

    /// Memory that messages may take which are not yet whole, or not yet answered, in MiB; more are refused
    #[arg(long, env = "LIKENESS_MESSAGE_MEMORY_MB", value_name = "MB", default_value_t = Self::DEFAULT.message_memory_mb, value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub message_memory_mb: u32,

    /// The same of one account
    #[arg(long, env = "LIKENESS_MESSAGE_MEMORY_ACCOUNT_MB", value_name = "MB", default_value_t = Self::DEFAULT.message_memory_account_mb, value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub message_memory_account_mb: u32,

    /// Memory that photographs in work may take together, in MiB; more are refused [default: 928 for each worker]
    #[arg(long, env = "LIKENESS_WORK_MEMORY_MB", value_name = "MB", value_parser = clap::value_parser!(u32).range(640..=1_048_576))]
    pub work_memory_mb: Option<u32>,

    /// A message that is not whole after --stall-seconds must have brought as many bytes for each second more
    #[arg(long, env = "LIKENESS_MESSAGE_BYTES_PER_SECOND", value_name = "BYTES", default_value_t = Self::DEFAULT.message_bytes_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub message_bytes_per_second: u32,

    /// Calls of one API key in a second, and of an account that has no limit of its own
    #[arg(long, env = "LIKENESS_CALLS_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.calls_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub calls_per_second: u32,

    /// Megapixels of photographs that one account may have decoded in a second, in the mean; 0 for no limit
    #[arg(long, env = "LIKENESS_MEGAPIXELS_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.megapixels_per_second)]
    pub megapixels_per_second: u32,

    /// Milliseconds of workers that one account may have in a second, in the mean; 0 for no limit
    #[arg(long, env = "LIKENESS_WORK_MILLIS_PER_SECOND", value_name = "MS", default_value_t = Self::DEFAULT.work_millis_per_second)]
    pub work_millis_per_second: u32,

    /// Searches of one account in a second
    #[arg(long, env = "LIKENESS_SEARCHES_PER_SECOND", value_name = "N", default_value_t = Self::DEFAULT.searches_per_second, value_parser = clap::value_parser!(u32).range(1..))]
    pub searches_per_second: u32,

    /// Searches of one account in a day
    #[arg(long, env = "LIKENESS_SEARCHES_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.searches_per_day, value_parser = clap::value_parser!(u32).range(1..))]
    pub searches_per_day: u32,

    /// No similarity to anybody enrolled is told below the one of this false accept rate, and none taken for a
    /// threshold; 1 tells all
    #[arg(long, env = "LIKENESS_SCORE_FLOOR_FAR", value_name = "RATE", default_value_t = Self::DEFAULT.score_floor_far, value_parser = rate)]
    pub score_floor_far: f64,

    /// The same for searches beside it: of searches for somebody who is not enrolled, this part may reach the
    /// floor, however many are enrolled; 1 leaves searches at --score-floor-far
    #[arg(long, env = "LIKENESS_SCORE_FLOOR_FPIR", value_name = "RATE", default_value_t = Self::DEFAULT.score_floor_fpir, value_parser = rate)]
    pub score_floor_fpir: f64,

    /// Similarities are rounded to multiples of this, for looks only; 0 rounds nothing
    #[arg(long, env = "LIKENESS_SCORE_STEP", value_name = "STEP", default_value_t = Self::DEFAULT.score_step, value_parser = step)]
    pub score_step: f32,

    /// Similarities to one person that an account is told in a day, over all its keys; afterwards yes or no
    #[arg(long, env = "LIKENESS_SCORES_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.scores_per_day)]
    pub scores_per_day: u32,

    /// Refused comparisons with one person in a day, over all callers, before they are slowed down
    #[arg(long, env = "LIKENESS_REFUSED_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.refused_per_day)]
    pub refused_per_day: u32,

    /// The same since the person was last recognised beyond doubt
    #[arg(long, env = "LIKENESS_REFUSED_IN_A_ROW", value_name = "N", default_value_t = Self::DEFAULT.refused_in_a_row)]
    pub refused_in_a_row: u32,

    /// So much above the threshold a recognition is in doubt: it counts as a refused comparison too
    #[arg(long, env = "LIKENESS_DOUBT_MARGIN", value_name = "SIMILARITY", default_value_t = Self::DEFAULT.doubt_margin, value_parser = step)]
    pub doubt_margin: f32,

    /// Recognitions of one person in doubt, over all callers, before the threshold for that person is higher by
    /// the margin
    #[arg(long, env = "LIKENESS_DOUBTS", value_name = "N", default_value_t = Self::DEFAULT.doubts)]
    pub doubts: u32,

    /// In so many hours one of them is regained
    #[arg(long, env = "LIKENESS_DOUBT_HOURS", value_name = "HOURS", default_value_t = Self::DEFAULT.doubt_hours)]
    pub doubt_hours: u32,

    /// So many recognitions beyond doubt regain one as well; 0 for never
    #[arg(long, env = "LIKENESS_CLEAR_PER_DOUBT", value_name = "N", default_value_t = Self::DEFAULT.clear_per_doubt)]
    pub clear_per_doubt: u32,

    /// From one comparison to the next of a person who is slowed down, at first, in seconds
    #[arg(long, env = "LIKENESS_COMPARISON_PAUSE_SECONDS", value_name = "SECONDS", default_value_t = Self::DEFAULT.comparison_pause_seconds)]
    pub comparison_pause_seconds: u64,

    /// The same at most: it doubles with every ten refused comparisons more
    #[arg(long, env = "LIKENESS_COMPARISON_PAUSE_SECONDS_MAX", value_name = "SECONDS", default_value_t = Self::DEFAULT.comparison_pause_seconds_max)]
    pub comparison_pause_seconds_max: u64,

    /// Comparisons in a day of one API key with a person who is slowed down that are answered at once, as long as none of
    /// the key's own was refused
    #[arg(long, env = "LIKENESS_OWN_TURNS_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.own_turns_per_day)]
    pub own_turns_per_day: u32,

    /// The same of all keys of an account together
    #[arg(long, env = "LIKENESS_OWN_TURNS_PER_DAY_OF_ACCOUNT", value_name = "N", default_value_t = Self::DEFAULT.own_turns_per_day_of_account)]
    pub own_turns_per_day_of_account: u32,

    /// How often one person is named as a duplicate in a day, over all keys: in pairs of searches for duplicates, and by
    /// checks at enrolment
    #[arg(long, env = "LIKENESS_DUPLICATES_PER_DAY", value_name = "N", default_value_t = Self::DEFAULT.duplicates_per_day)]
    pub duplicates_per_day: u32,

    /// Times in replies are rounded down to so many microseconds
    #[arg(long, env = "LIKENESS_TIMING_MICROS", value_name = "N", default_value_t = Self::DEFAULT.timing_micros, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub timing_micros: u64,
}

impl LimitArgs {
    /// What holds where nobody says otherwise.
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
        doubt_margin: 0.15,
        doubts: 5,
        doubt_hours: 24,
        clear_per_doubt: 8,
        comparison_pause_seconds: 60,
        comparison_pause_seconds_max: 15 * 60,
        own_turns_per_day: 5,
        own_turns_per_day_of_account: 20,
        duplicates_per_day: 10,
        timing_micros: 100,
    };

    /// None but those that keep the server itself upright: for tests of something else.
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
        doubts: u32::MAX,
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
            doubt_margin: self.doubt_margin,
            doubts: self.doubts,
            doubt_regained: Duration::from_secs(3600 * u64::from(self.doubt_hours)),
            clear_a_doubt: self.clear_per_doubt,
            pause: Duration::from_secs(self.comparison_pause_seconds),
            pause_max: Duration::from_secs(self.comparison_pause_seconds_max),
            told_a_day: self.scores_per_day,
            own_turns_a_day: self.own_turns_per_day,
            own_turns_of_account_a_day: self.own_turns_per_day_of_account,
            duplicates_a_day: self.duplicates_per_day,
        }
    }

    /// Longest time a call may wait for a worker.
    pub fn queue_time_max(&self) -> Duration {
        Duration::from_millis(self.queue_millis)
    }

    /// Memory for messages.
    pub fn message_budget(&self) -> Budget {
        let bytes = |mb: u32| usize::try_from(mb).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Budget::new(
            bytes(self.message_memory_mb),
            bytes(self.message_memory_account_mb),
        )
    }

    /// How many connections there may be.
    pub fn connections(&self) -> Most {
        Most {
            connections: self.connections as usize,
            keyless: self.keyless_connections.min(self.connections) as usize,
            keyless_per_address: self.keyless_connections_per_address as usize,
            new_per_second: self.new_connections_per_second,
        }
    }

    /// How long a connection may go without a call.
    pub fn connection_times(&self) -> Times {
        Times {
            first_call: self.stall_time_max(),
            keyless: Duration::from_secs(self.keyless_idle_seconds),
            age: Duration::from_secs(self.connection_seconds),
            rest: REST_MAX,
        }
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
