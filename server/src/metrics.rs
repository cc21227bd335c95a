//! What an operator's Prometheus reads: how many calls, how long, and how full everything is.
//!
//! Names, labels and their values are constants of this program: no text of a request, no account and no person can
//! get into them, and there are as many series at most as there are interfaces and codes.

pub mod scrape;

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Of calls, in seconds: from a look at one record to the longest call that the defaults allow.
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Times = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// What is counted as it happens.
pub struct Metrics {
    calls: Family<Labels<2>, Counter>,
    took: Times,
    refused: Family<Labels<1>, Counter>,
    turned_away: Family<Labels<1>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            took: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            refused: Family::default(),
            turned_away: Family::default(),
        }
    }
}

impl Metrics {
    /// A call, or an item of a stream, that is over.
    pub fn call(&self, interface: &'static str, code: &'static str, took: Duration) {
        self.calls
            .get_or_create(&[("interface", interface), ("code", code)])
            .inc();
        self.took
            .get_or_create(&[("interface", interface)])
            .observe(took.as_secs_f64());
    }

    /// A call of a valid key, or an item of a stream, that was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// A call that was refused before its key was looked up, or because of it.
    pub fn reject(&self, reason: &'static str) {
        self.turned_away.get_or_create(&[("reason", reason)]).inc();
    }

    /// Everything that a scrape shows.
    pub fn registry(&self, fullness: impl Collector) -> Registry {
        let mut registry = Registry::with_prefix("likeness");
        registry.register(
            "calls",
            "Calls, and items of streams, by how they ended",
            self.calls.clone(),
        );
        registry.register("call_seconds", "How long calls took", self.took.clone());
        registry.register(
            "refused_calls",
            "Calls of valid keys, and items of streams, that were refused",
            self.refused.clone(),
        );
        registry.register(
            "turned_away_calls",
            "Calls refused before anybody was known: no valid key, or more calls than may be at once",
            self.turned_away.clone(),
        );
        registry.register_collector(Box::new(fullness));
        registry
    }
}
