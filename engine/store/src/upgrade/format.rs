//! The file `FORMAT` of a data directory, and what a program does with the format that it names.
//!
//! ```text
//! likeness data, format 3                 likeness data, format 3, becoming 4
//! deployment 32 hex digits                deployment 32 hex digits
//! program 1.2.0   (from format 4 on)      parts done 2
//! ```
//!
//! On the left a directory that is used, with the first version of the program that reads it; on the right one in the
//! middle of an upgrade. A program that knows only format 3 compares the whole first two lines, and refuses the right one.

use std::fs;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crate::layout;
use crate::upgrade::chain::{Chain, FORMAT, Step};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::RandomId;

const FILE: &str = "FORMAT";
/// Has its name only after it is whole.
pub const UNFINISHED_FILE: &str = "FORMAT.new";
/// Far more than any `FORMAT` has.
const BYTES_MAX: u64 = 4096;
const VERSION_CHARS_MAX: usize = 32;
/// The first format whose file names a program version.
const NAMES_PROGRAM_FROM: u32 = 4;

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Becoming {
    pub to: u32,
    pub parts_done: usize,
}

/// The contents of `FORMAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatFile {
    format: u32,
    becoming: Option<Becoming>,
    /// None in a form that only a later program knows.
    deployment: Option<RandomId>,
    program: Option<String>,
}

/// What is to be done with a directory that is not refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Present,
    Older { from: u32, becoming: Option<Becoming> },
}

impl FormatFile {
    /// A directory that is used.
    pub fn of(format: u32, deployment: RandomId, program: &str) -> Self {
        Self {
            format,
            becoming: None,
            deployment: Some(deployment),
            program: (format >= NAMES_PROGRAM_FROM).then(|| program.to_owned()),
        }
    }

    /// A directory of the present format.
    pub fn present(deployment: RandomId) -> Self {
        let first = super::CHAIN.steps.last().map_or("", |step| step.program);
        Self::of(FORMAT, deployment, first)
    }

    pub(super) fn becoming(format: u32, becoming: Becoming, deployment: RandomId) -> Self {
        Self {
            format,
            becoming: Some(becoming),
            deployment: Some(deployment),
            program: None,
        }
    }

    /// None where there is no such file.
    ///
    /// # Errors
    /// A file of another form.
    pub fn read(data: &Path) -> Result<Option<Self>> {
        let path = data.join(FILE);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(OperatorError::file("reading", path, e).into()),
        }
        let parsed = str::from_utf8(&bytes).ok().and_then(Self::parse);
        parsed.map(Some).ok_or_else(|| {
            refused(
                format!("a format file of format {FORMAT}"),
                "a file of another form".to_owned(),
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let first = lines.next()?.strip_prefix("likeness data, format ")?;
        let (format, to) = match first.split_once(", becoming ") {
            Some((format, to)) => (format, Some(to.parse().ok()?)),
            None => (first, None),
        };
        let rest = |name: &str| text.lines().skip(1).find_map(|line| line.strip_prefix(name));
        let becoming = match to {
            Some(to) => Some(Becoming {
                to,
                parts_done: rest("parts done ")?.parse().ok()?,
            }),
            None => None,
        };
        let is_version = |version: &&str| {
            version.len() <= VERSION_CHARS_MAX
                && version
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c))
        };
        let parsed = Self {
            format: format.parse().ok()?,
            becoming,
            deployment: rest("deployment ").and_then(RandomId::parse),
            program: rest("program ").filter(is_version).map(str::to_owned),
        };
        // What comes in later formats only a later program can tell.
        (parsed.format > FORMAT || parsed.text() == text).then_some(parsed)
    }

    fn text(&self) -> String {
        let mut text = format!("likeness data, format {}", self.format);
        if let Some(Becoming { to, .. }) = self.becoming {
            text += &format!(", becoming {to}");
        }
        text += "\n";
        if let Some(deployment) = self.deployment {
            text += &format!("deployment {deployment}\n");
        }
        if let Some(program) = &self.program {
            text += &format!("program {program}\n");
        }
        if let Some(Becoming { parts_done, .. }) = self.becoming {
            text += &format!("parts done {parts_done}\n");
        }
        text
    }

    /// Replaces the file: after a crash it is the old or the new one, whole.
    pub fn write(&self, data: &Path) -> Result<()> {
        let unfinished = data.join(UNFINISHED_FILE);
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&unfinished)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, data.join(FILE))
        };
        write().map_err(|e| OperatorError::file("writing the format file in", data, e))?;
        layout::sync_directory(data)
    }

    /// # Errors
    /// Another format than the present one, or another deployment.
    pub fn refuse_unless_present(&self, deployment: RandomId) -> Result<()> {
        super::CHAIN.refuse_unless_present(self, deployment)
    }
}

impl Chain {
    /// Those that are still to be done.
    pub(super) fn steps_from(&self, from: u32) -> &'static [Step] {
        let begins = self.steps.iter().position(|step| step.from == from);
        &self.steps[begins.unwrap_or(self.steps.len())..]
    }

    pub(super) fn refuse_unless_present(&self, found: &FormatFile, deployment: RandomId) -> Result<()> {
        match self.judge(found, deployment)? {
            Standing::Present => Ok(()),
            Standing::Older { from, .. } => Err(refused(
                format!("format {}", self.format),
                format!("format {from}; start the server once, which upgrades the data directory"),
            )),
        }
    }

    /// # Errors
    /// A newer format, an older one that no step leads from, an upgrade that this program does not know, another
    /// deployment.
    pub(super) fn judge(&self, found: &FormatFile, deployment: RandomId) -> Result<Standing> {
        let own = env!("CARGO_PKG_VERSION");
        let format = found.format;
        let step = self.steps.iter().find(|step| step.from == format);
        let known = format!("format {}, which likeness {own} reads", self.format);
        if format > self.format {
            let found = match &found.program {
                Some(program) => format!("format {format}, which needs likeness {program} or later"),
                None => format!("format {format}, which needs a later version of likeness"),
            };
            return Err(refused(known, found));
        }
        if let Some(Becoming { to, parts_done }) = found.becoming
            && step.is_none_or(|step| step.to() != to || parts_done > step.parts.len())
        {
            let found = format!(
                "format {format} in the middle of an upgrade to format {to}; start the version of likeness that began it"
            );
            return Err(refused(known, found));
        }
        if format < self.format && step.is_none() {
            let known = match self.steps.first() {
                Some(first) => format!("format {}, or one from format {} on", self.format, first.from),
                None => known,
            };
            let found = format!("format {format}, which is too old to be upgraded");
            return Err(refused(known, found));
        }
        match found.deployment {
            Some(theirs) if theirs == deployment => {}
            Some(theirs) => {
                return Err(refused(
                    format!("deployment {deployment}, to which the key store belongs"),
                    format!("deployment {theirs}"),
                ));
            }
            None => {
                return Err(refused(
                    format!("a format file of format {}", self.format),
                    "a file of another form".to_owned(),
                ));
            }
        }
        Ok(match step {
            Some(_) => Standing::Older {
                from: format,
                becoming: found.becoming,
            },
            None => Standing::Present,
        })
    }
}

fn refused(expected: String, found: String) -> likeness_types::error::Error {
    OperatorError::Format {
        what: "format file",
        expected,
        found,
    }
    .into()
}
