//! Upgrade of a data directory of an older format, before anything else opens it.
//!
//! A [`Chain`] holds one [`Step`] for each format to the next. A step is a list of parts ([`chain::Part`]); a part
//! rewrites the rows of one family, the slots, or one file. A part says only how one row, slot or file changes. This module does the rest:
//! order, atomicity, restart after a kill, free space, progress, and the destruction of what is replaced.
//!
//! # Order of a step
//!
//! 1. Free space is checked, then RocksDB is opened, which locks the directory until the last step is done, then every
//!    row is read once: damaged data files are refused. Up to here nothing is changed.
//! 2. `FORMAT` says `format N, becoming N+1`, `parts done 0`. From here on a program that does not know the step
//!    refuses the directory.
//! 3. Each part in turn; after each, `FORMAT` counts one more part.
//! 4. Replaced files are removed and the records are purged: no data file holds an old version of a row.
//! 5. `FORMAT` says `format N+1`.
//!
//! `FORMAT` is replaced as a whole: new file, fsync, rename, fsync of the directory. It is the only state of an upgrade
//! but one row of the records, which says how far the rewrite of a family is and is written in the same batch as the
//! rows. So a start after a kill knows which parts are done, and no row, slot or file is rewritten twice.
//!
//! # Copies
//!
//! | part | while it runs | at the end of the step |
//! |---|---|---|
//! | rows | old versions of rows in older data files | purged: every data file is rewritten without them |
//! | slots | each slot is overwritten in place; there is never a second slot file | nothing |
//! | file | `NAME.upgraded`, then `NAME.replaced` | overwritten with zeros, synced, removed |
//!
//! The slot file holds the wrapped data keys, and an erasure is the overwriting of a slot. A second slot file would keep a
//! key that is erased in the first. Therefore no part can replace the slot file or copy it: [`Work::File`] refuses its
//! name. A slot carries its own format number and is never torn, so an interrupted rewrite continues at the slots that
//! still have the old number. A format with slots of another size needs a new kind of work, which has to zero the old
//! slots before the format number is raised.
//!
//! No erasure happens during an upgrade, because no vault is open. An erasure that a crash interrupted before it is
//! finished by the start that follows it.

pub mod chain;
mod files;
mod format;
mod rows;
mod slots;
mod space;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs, reason = "tests alone see it")]
pub mod trial;

use crate::layout;
use crate::upgrade::chain::CHAIN;
use crate::upgrade::chain::Chain;
use crate::upgrade::chain::Step;
use crate::upgrade::chain::Work;
use crate::upgrade::rows::damage;
use std::cell::RefCell;

use std::path::Path;

use std::time::{Duration, Instant};

pub use self::files::{FileOf, RewriteFile};

use self::format::{Becoming, Standing};

pub use self::format::{FormatFile, UNFINISHED_FILE};

pub use self::rows::RewriteRow;

pub use self::slots::RewriteSlot;

use crate::keys::KeyRing;

use crate::records::Family;

use crate::records::Records;

use crate::records::RocksRecords;

use crate::records::Scan;

use likeness_types::error::Result;

/// What an upgrade does next: reported before every change of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The format before the step.
    pub from: u32,
    /// The format after it.
    pub to: u32,
    /// Counted from 1; one more than there are parts when they are all done.
    pub part: usize,
    /// Parts of the step.
    pub parts: usize,
    /// The activity.
    pub doing: &'static str,
    /// Rows or slots.
    pub done: u64,
    /// How many there are, about.
    pub about: u64,
}

/// Upgrades the data directory of the key ring's deployment, if it has an older format. A directory of the present
/// format costs one read of `FORMAT`.
///
/// # Errors
/// A newer format, or one that no step leads from; too little free space; damaged data files. Nothing was changed then.
/// After a failure in the middle the next start continues.
pub fn upgrade(data: &Path, keys: &Path, ring: &KeyRing) -> Result<()> {
    let log = RefCell::new(Log::default());
    let upgrade = Upgrade {
        data,
        keys,
        ring,
        chain: &CHAIN,
        free_bytes: &space::free_bytes,
        group_rows_max: rows::GROUP_ROWS_MAX,
        watch: &|moment| log.borrow_mut().note(moment),
    };
    upgrade.run()
}

/// An upgrade of one directory.
struct Upgrade<'a> {
    data: &'a Path,
    keys: &'a Path,
    ring: &'a KeyRing,
    chain: &'a Chain,
    free_bytes: &'a dyn Fn(&Path) -> Result<u64>,
    group_rows_max: usize,
    watch: &'a dyn Fn(Moment),
}

/// What is upgraded, open.
struct Opened {
    /// None in a directory that was made and never used.
    records: Option<Box<dyn Records>>,
    has_slots: bool,
}

impl Upgrade<'_> {
    fn run(&self) -> Result<()> {
        // A directory that does not exist is made later.
        let Some(found) = FormatFile::read(self.data)? else {
            return Ok(());
        };
        let Standing::Older { from, becoming } = self.chain.judge(&found, self.ring.deployment)? else {
            return Ok(());
        };
        let steps = self.chain.steps_from(from);
        // ORDER: before RocksDB is opened, which makes records where there are none.
        layout::refuse_incomplete(self.data)?;
        // ORDER: before anything is written. A step that has begun has taken some of its space already, and is not
        // asked again: where the space ends it fails, and the next start continues.
        space::refuse_too_little(self, &steps[usize::from(becoming.is_some())..])?;
        let opened = self.open()?;
        let mut done = becoming.map(|becoming| becoming.parts_done);
        for step in steps {
            self.step(step, done.take(), &opened)?;
        }
        Ok(())
    }

    /// Locks the directory until the answer is dropped.
    fn open(&self) -> Result<Opened> {
        let has_slots = layout::has_slots(self.data);
        if !layout::has_records(self.data) {
            return Ok(Opened {
                records: None,
                has_slots,
            });
        }
        let records = RocksRecords::open(&layout::records_path(self.data))?;
        refuse_damage(&records)?;
        Ok(Opened {
            records: Some(Box::new(records)),
            has_slots,
        })
    }

    /// Carries out a step of which so many parts are done; none has begun if `done` is none.
    fn step(&self, step: &Step, done: Option<usize>, opened: &Opened) -> Result<()> {
        let (from, to, parts) = (step.from, step.to(), step.parts.len());
        tracing::info!(from, to, "upgrading the data directory: {}", step.description);
        let say = |number: usize| {
            move |doing, done, about| {
                (self.watch)(Moment {
                    from,
                    to,
                    part: number + 1,
                    parts,
                    doing,
                    done,
                    about,
                });
            }
        };
        let becoming =
            |parts_done| FormatFile::becoming(from, Becoming { to, parts_done }, self.ring.deployment);
        if done.is_none() {
            say(0)("writing that the upgrade begins", 0, 0);
            becoming(0).write(self.data)?;
        }
        let done = done.unwrap_or_default();
        for (number, part) in step.parts.iter().enumerate().skip(done) {
            let say = say(number);
            self.part(&part.work, rows::Mark::new(to, number), opened, &say)?;
            // ORDER: after the part is durable: a part that counts as done is not looked at again.
            say("writing that the part is done", 0, 0);
            becoming(number + 1).write(self.data)?;
        }
        // ORDER: nothing of the old format is left when the number is raised.
        self.remove_what_was_replaced(step, opened, &say(parts))?;
        say(parts)("raising the format number", 0, 0);
        FormatFile::of(to, self.ring.deployment, step.program).write(self.data)?;
        tracing::info!(from, to, "the data directory has the new format");
        Ok(())
    }

    fn part(
        &self,
        work: &Work,
        mark: rows::Mark,
        opened: &Opened,
        say: &dyn Fn(&'static str, u64, u64),
    ) -> Result<()> {
        match work {
            Work::Rows { family, rewrite } => {
                let Some(records) = &opened.records else {
                    return Ok(());
                };
                let rows = rows::Rows {
                    records: records.as_ref(),
                    ring: self.ring,
                    family: *family,
                    rewrite: *rewrite,
                    mark,
                    group_rows_max: self.group_rows_max,
                };
                rows.rewrite(say)
            }
            Work::Slots { from, to, rewrite } => {
                if !opened.has_slots {
                    return Ok(());
                }
                let file = crate::slots::open_file(&layout::slots_path(self.data))?;
                slots::rewrite_in_place(
                    &file,
                    [*from, *to],
                    &|slot, image| rewrite(self.ring, slot, image),
                    say,
                )
            }
            Work::File { of, name, rewrite } => {
                files::replace(self.directory(*of), name, &|bytes| rewrite(self.ring, bytes), say)
            }
        }
    }

    fn remove_what_was_replaced(
        &self,
        step: &Step,
        opened: &Opened,
        say: &dyn Fn(&'static str, u64, u64),
    ) -> Result<()> {
        for part in step.parts {
            if let Work::File { of, name, .. } = &part.work {
                files::remove_replaced(self.directory(*of), name, say)?;
            }
        }
        let has_rows = step
            .parts
            .iter()
            .any(|part| matches!(part.work, Work::Rows { .. }));
        match &opened.records {
            Some(records) if has_rows => rows::remove_old_versions(records.as_ref(), say),
            _ => Ok(()),
        }
    }

    fn directory(&self, of: FileOf) -> &Path {
        match of {
            FileOf::Data => self.data,
            FileOf::KeyStore => self.keys,
        }
    }
}

/// Reads every row. A purge rewrites whole files only, and an upgrade that cannot end should not begin.
fn refuse_damage(records: &dyn Records) -> Result<()> {
    let mut gaps = 0;
    for family in Family::ALL {
        gaps += records.scan(family, &[], &[], &mut |_, _| Scan::Continue)?;
    }
    records.verify(&|| true)?;
    let damaged = records.damaged_files();
    if gaps == 0 && damaged.is_empty() {
        return Ok(());
    }
    Err(damage(&damaged))
}

/// Writes to the log what an upgrade does, at least when that changes, and every second.
#[derive(Default)]
struct Log {
    last: Option<(Moment, Instant)>,
}

impl Log {
    const EVERY: Duration = Duration::from_secs(1);

    fn note(&mut self, moment: Moment) {
        let is_due = self
            .last
            .is_none_or(|(last, at)| last.doing != moment.doing || at.elapsed() >= Self::EVERY);
        if !is_due {
            return;
        }
        let Moment {
            from,
            to,
            part,
            parts,
            doing,
            done,
            about,
        } = moment;
        tracing::info!(from, to, part, parts, done, about, "upgrade: {doing}");
        self.last = Some((moment, Instant::now()));
    }
}
