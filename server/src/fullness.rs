//! How full everything is, in numbers for the metrics: asked at each scrape.

use std::fmt;
use std::time::Duration;

use likeness_engine::RunningLogSize;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::call::front::Front;
use crate::descriptors;
use crate::doors::grpc::connections::Roster;

/// How full everything is, asked at each scrape.
pub struct Fullness {
    /// Gates, calls at once, logs, and the engine.
    pub front: Front,
    /// Connections at once.
    pub connections: Roster,
}

impl fmt::Debug for Fullness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fullness")
    }
}

impl Collector for Fullness {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut numbers = Numbers(encoder);
        self.encode_load(&mut numbers)?;
        self.encode_holding(&mut numbers)?;
        match self.front.engine().running_log_size() {
            Ok(size) => encode_running_log(&mut numbers, &size)?,
            // Its gauges are then missing, which an alarm sees too.
            Err(error) => tracing::error!(%error, "the running log could not be measured"),
        }
        let overdue = self.front.engine().retention().overdue();
        numbers.by_class(
            "retention_overdue_seconds",
            "Seconds since a sweep of data past their period was due that has not succeeded yet",
            &overdue,
        )?;
        let withheld = self.front.engine().withheld();
        numbers.counter(
            "withheld_recognitions",
            "Who reached a call's threshold and was not recognised: too many recognitions before were in doubt",
            withheld.recognitions,
        )?;
        numbers.counter(
            "withheld_duplicates",
            "Pairs and people that were found as duplicates and not named: they had been named too often, or in doubt",
            withheld.duplicates,
        )?;
        numbers.counter(
            "limited_comparisons",
            "Comparisons refused because the person is slowed down; nothing was compared for them",
            withheld.comparisons,
        )?;
        numbers.counter(
            "logs_lost_calls",
            "Calls missing from the error log, the operation log and the monitoring data",
            self.front.recorder().lost_lines(),
        )
    }
}

impl Fullness {
    fn encode_load(&self, numbers: &mut Numbers<'_>) -> fmt::Result {
        numbers.by_gate(
            "waiting_calls",
            "Calls that wait for their turn at a gate",
            self.front.waiting(),
        )?;
        numbers.gauge(
            "parked_calls",
            "Calls that another account's went before in the middle of a photograph",
            self.front.parked() as u64,
        )?;
        let places = self.front.places();
        let (open, open_max) = (places.taken_count() as u64, u64::from(places.max));
        numbers.gauge("open_calls", "Calls at once, from their first byte on", open)?;
        numbers.gauge("open_calls_max", "As many as may be", open_max)?;
        let messages = self.front.message_memory();
        numbers.gauge(
            "message_bytes",
            "Memory of messages that are not yet whole, or not yet answered",
            messages.reserved() as u64,
        )?;
        numbers.gauge("message_bytes_max", "As much as may be", messages.most() as u64)?;
        let work = self.front.engine().work_memory();
        numbers.gauge(
            "work_bytes",
            "Memory reserved for photographs in work",
            work.reserved(),
        )?;
        numbers.gauge("work_bytes_max", "As much as may be", work.bytes_max())?;
        let ((connections, keyless), most) = (self.connections.size(), self.connections.most());
        numbers.gauge("connections", "Connections", connections as u64)?;
        numbers.gauge("connections_max", "As many as may be", most.connections as u64)?;
        numbers.gauge(
            "keyless_connections",
            "Of them, those on which no valid key was shown",
            keyless as u64,
        )?;
        numbers.gauge(
            "keyless_connections_max",
            "As many as may be",
            most.keyless as u64,
        )?;
        numbers.by_reason(
            "connections_closed",
            "Connections that the server closed, or did not take",
            self.connections.closed(),
        )?;
        numbers.counter(
            "connections_slowed",
            "Times that a connection was read slowly, because of too many frames",
            self.connections.slowed(),
        )?;
        let (open, open_max) = descriptors::in_use().unwrap_or_default();
        numbers.gauge("open_files", "File descriptors in use", open)?;
        numbers.gauge("open_files_max", "As many as may be", open_max)
    }

    fn encode_holding(&self, numbers: &mut Numbers<'_>) -> fmt::Result {
        let engine = self.front.engine();
        let holding = engine.administration().holding_in_total();
        numbers.gauge("collections", "Collections of all accounts", holding.collections)?;
        numbers.gauge("persons", "People in all of them, once in each", holding.persons)?;
        numbers.gauge("faces", "Faces that can be found", holding.faces)?;
        let backlog = engine.backlog();
        numbers.gauge(
            "unpurged_erasures",
            "Erasures whose sealed bytes are in the data files yet",
            backlog.erasures as u64,
        )?;
        let oldest = backlog.oldest.map_or(0, |oldest| oldest.0 / 1000);
        numbers.gauge(
            "unpurged_erasures_oldest_timestamp_seconds",
            "When the oldest of them was; 0 where there is none",
            oldest,
        )?;
        numbers.gauge(
            "quarantined_files",
            "Damaged data files: what lies in them cannot be read, and nothing is purged",
            engine.quarantined_files() as u64,
        )
    }
}

fn encode_running_log(numbers: &mut Numbers<'_>, size: &RunningLogSize) -> fmt::Result {
    numbers.gauge("running_log_rows", "Rows of the running log, roughly", size.rows)?;
    numbers.gauge("running_log_bytes", "Its bytes, roughly", size.bytes)?;
    numbers.gauge(
        "running_log_warning_bytes",
        "From how many on the operator wants to know",
        size.bytes_warning,
    )?;
    numbers.counter("running_log_lost_rows", "Rows that were lost", size.lost_rows)?;
    numbers.counter(
        "running_log_lost_calls",
        "Calls of theirs, missing from the usage totals too",
        size.lost_calls,
    )
}

/// Numbers one after the other.
struct Numbers<'a>(DescriptorEncoder<'a>);

impl Numbers<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, &ConstGauge::new(value))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, &ConstCounter::new(value))
    }

    fn put(&mut self, name: &str, help: &str, number: &impl EncodeMetric) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, number.metric_type())?;
        number.encode(metric)
    }

    fn by_class(&mut self, name: &str, help: &str, values: &[(&'static str, Duration)]) -> fmt::Result {
        let kind = ConstGauge::new(0_u64).metric_type();
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (class, value) in values {
            let gauge = ConstGauge::new(value.as_secs());
            gauge.encode(metric.encode_family(&[("class", *class)])?)?;
        }
        Ok(())
    }

    fn by_reason<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: [(&'static str, u64); N],
    ) -> fmt::Result {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (reason, value) in values {
            let counter = ConstCounter::new(value);
            counter.encode(metric.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }

    fn by_gate(&mut self, name: &str, help: &str, values: [(&'static str, usize); 3]) -> fmt::Result {
        let kind = ConstGauge::new(0_u64).metric_type();
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (gate, value) in values {
            let gauge = ConstGauge::new(value as u64);
            gauge.encode(metric.encode_family(&[("gate", gate)])?)?;
        }
        Ok(())
    }
}
