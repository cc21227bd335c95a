//! Telling a person how a fetch gets on: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::manifest::{Package, PinnedFile};

/// What a fetch is doing.
#[derive(Debug)]
pub enum Event<'a> {
    /// Another run holds the directory; this one goes on when that has ended.
    Waiting,
    /// A client begins to fetch this package.
    Fetching {
        /// Which.
        package: &'a Package,
    },
    /// So much of it has come, roughly: a client may keep several copies, or show nothing until it is done.
    Received {
        /// How much.
        bytes: u64,
    },
    /// This file is in its place, as pinned.
    Placed {
        /// Which.
        file: &'a PinnedFile,
    },
    /// Everything is in place.
    Done,
}

/// Shows events to a person.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// On standard error, so that standard output stays free for results.
    pub fn on_stderr() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            bar: None,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Waiting => self.say("waiting for another run that is fetching into the same directory"),
            Event::Fetching { package } => self.begin(package),
            Event::Received { bytes } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(bar.length().map_or(*bytes, |all| all.min(*bytes)));
                }
            }
            Event::Placed { file } => {
                self.clear();
                self.say(&format!(
                    "  {} ({})",
                    file.to.display(),
                    HumanBytes(file.pin.bytes)
                ));
            }
            Event::Done => self.clear(),
        }
    }

    fn begin(&mut self, package: &Package) {
        self.clear();
        let size = HumanBytes(package.pin.bytes);
        self.say(&format!(
            "fetching {package} with {} ({size})",
            package.client.name()
        ));
        if self.terminal {
            let style =
                ProgressStyle::with_template("  {spinner} [{bar:30}] {bytes} of {total_bytes}, {elapsed}")
                    .expect("the template is ours");
            let bar = ProgressBar::new(package.pin.bytes).with_style(style.progress_chars("=> "));
            bar.enable_steady_tick(Duration::from_millis(120));
            self.bar = Some(bar);
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        eprintln!("{line}");
    }
}

impl Drop for Progress {
    /// A fetch that failed leaves no half-drawn bar under its message.
    fn drop(&mut self) {
        self.clear();
    }
}
