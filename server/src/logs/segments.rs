//! One log as a row of segment files, oldest first: it grows at its end and loses whole segments at its beginning.
//!
//! A segment is named by its number and the day of its lines, `00000012-2026-11-28.jsonl`, and no segment has lines
//! of two days: so what is too old is known without opening anything. Nothing is synced: a process that is killed
//! loses nothing that was written, and of a power cut these logs may lose the last seconds.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use likeness_engine::{Timestamp, day_of};

use super::record::{date, day_of_date, torn_line};

/// What a file takes on the disk comes in blocks of this size.
const BLOCK_BYTES: u64 = 4096;
/// A torn line is looked for in so much of a segment's end: no line is longer.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Blocks on disk, the segment that grows included.
    pub bytes_max: Option<u64>,
    /// Days after the day of a line, on which it is still there.
    pub days_max: Option<u32>,
    /// When the next segment is begun.
    pub segment_bytes: u64,
}

struct Segment {
    number: u64,
    day: u32,
    bytes: u64,
}

impl Segment {
    fn name(&self) -> String {
        format!("{:08}-{}.jsonl", self.number, date(self.day))
    }

    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let (number, day) = name.strip_suffix(".jsonl")?.split_once('-')?;
        let segment = Self {
            number: number.parse().ok()?,
            day: day_of_date(day)?,
            bytes,
        };
        (segment.name() == name).then_some(segment)
    }

    fn blocks(&self) -> u64 {
        self.bytes.next_multiple_of(BLOCK_BYTES)
    }
}

/// One log.
pub struct Segments {
    folder: PathBuf,
    limits: Limits,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last of them, if it may still grow.
    growing: Option<File>,
    /// Of all of them.
    blocks: u64,
    swept: Option<u32>,
}

impl Segments {
    /// Opens the log, closes the line that a crash tore, and removes what is over the limits.
    pub fn open(folder: &Path, limits: Limits, now: Timestamp) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // Whatever else lies here is none of ours.
            segments.extend(Segment::parse(&name.to_string_lossy(), entry.metadata()?.len()));
        }
        segments.sort_by_key(|segment| segment.number);
        let mut log = Self {
            folder: folder.to_owned(),
            limits,
            blocks: segments.iter().map(Segment::blocks).sum(),
            segments: segments.into(),
            growing: None,
            swept: None,
        };
        let torn = log.close_torn_line()?;
        log.sweep_if_another_day(now)?;
        log.make_room(0)?;
        if torn > 0 {
            log.append(&torn_line(now, torn), now)?;
        }
        Ok(log)
    }

    /// Appends a line; what has no room any more goes before it, oldest first.
    pub fn append(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        let (day, bytes) = (day_of(now), line.len() as u64);
        if bytes > LINE_BYTES_MAX || self.limits.bytes_max.is_some_and(|max| bytes > max) {
            return Err(io::Error::other("a line longer than any may be"));
        }
        let fits = self.segments.back().is_some_and(|last| {
            last.day == day && last.bytes + bytes <= self.limits.segment_bytes.max(bytes)
        });
        if self.growing.is_none() || !fits {
            self.begin(day)?;
        }
        // ORDER: room before the line, so that the log is within its limit at every moment.
        self.make_room(bytes)?;
        if self.growing.is_none() {
            self.begin(day)?;
        }
        let (Some(file), Some(last)) = (&mut self.growing, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment to write into"));
        };
        let before = last.blocks();
        let written = file.write_all(line);
        match written {
            Ok(()) => last.bytes += bytes,
            Err(error) => {
                // What was written of it is known to the file alone; the next line begins another segment.
                last.bytes = file.metadata().map_or(last.bytes + bytes, |file| file.len());
                self.blocks += last.blocks() - before;
                self.growing = None;
                return Err(error);
            }
        }
        self.blocks += last.blocks() - before;
        Ok(())
    }

    /// Removes what is too old, once a day.
    pub fn sweep_if_another_day(&mut self, now: Timestamp) -> io::Result<()> {
        let today = day_of(now);
        let Some(days_max) = self.limits.days_max.filter(|_| self.swept != Some(today)) else {
            return Ok(());
        };
        // By the day, not by the order: a clock that was set back must not keep what is old behind what is new.
        let is_old = |segment: &Segment| segment.day.saturating_add(days_max) < today;
        while let Some(at) = self.segments.iter().position(is_old) {
            self.remove(at)?;
        }
        self.swept = Some(today);
        Ok(())
    }

    fn begin(&mut self, day: u32) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |last| last.number + 1);
        let segment = Segment {
            number,
            day,
            bytes: 0,
        };
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(self.folder.join(segment.name()))?;
        self.segments.push_back(segment);
        self.growing = Some(file);
        Ok(())
    }

    /// Removes the oldest segments until so many more bytes have room.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let Some(max) = self.limits.bytes_max else {
            return Ok(());
        };
        let more = |log: &Self| {
            log.segments.back().map_or(0, |last| {
                (last.bytes + bytes).next_multiple_of(BLOCK_BYTES) - last.blocks()
            })
        };
        while !self.segments.is_empty() && self.blocks + more(self) > max {
            self.remove(0)?;
        }
        Ok(())
    }

    fn remove(&mut self, at: usize) -> io::Result<()> {
        let segment = &self.segments[at];
        match std::fs::remove_file(self.folder.join(segment.name())) {
            // Somebody removed it already, which is all that is wanted.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.blocks -= segment.blocks();
        if at + 1 == self.segments.len() {
            self.growing = None;
        }
        self.segments.remove(at);
        Ok(())
    }

    /// Cuts a line without an end from the last segment; answers how many bytes it had.
    fn close_torn_line(&mut self) -> io::Result<u64> {
        let Some(last) = self.segments.back_mut() else {
            return Ok(0);
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.folder.join(last.name()))?;
        let from = last.bytes.saturating_sub(LINE_BYTES_MAX);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (end.len() - whole) as u64;
        if torn > 0 {
            let before = last.blocks();
            file.set_len(last.bytes - torn)?;
            last.bytes -= torn;
            self.blocks -= before - last.blocks();
        }
        Ok(torn)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;
    const KIB: u64 = 1024;

    fn capped(bytes_max: u64) -> Limits {
        Limits {
            bytes_max: Some(bytes_max),
            days_max: None,
            segment_bytes: bytes_max / 8,
        }
    }

    fn kept(days: u32) -> Limits {
        Limits {
            bytes_max: None,
            days_max: Some(days),
            segment_bytes: 64 * KIB,
        }
    }

    fn on_day(day: u64) -> Timestamp {
        Timestamp(day * DAY_MS + 1)
    }

    fn line(number: usize) -> Vec<u8> {
        format!(
            "{{\"line\":{number},\"padding\":\"{}\"}}\n",
            "x".repeat(number % 700)
        )
        .into_bytes()
    }

    /// The files by name, and what they take on the disk by the file system's own count.
    fn files(folder: &Path) -> (Vec<PathBuf>, u64) {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("listed")
            .map(|entry| entry.expect("listed").path())
            .collect();
        files.sort();
        let blocks = |path: &PathBuf| {
            let file = std::fs::metadata(path).expect("there");
            (file.blocks() * 512).max(file.len())
        };
        let bytes = files.iter().map(blocks).sum();
        (files, bytes)
    }

    fn lines(folder: &Path) -> Vec<u64> {
        let (files, _) = files(folder);
        let text: String = files
            .iter()
            .map(|file| std::fs::read_to_string(file).expect("text"))
            .collect();
        let parsed = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("every line is whole");
            line["line"].as_u64().unwrap_or(u64::MAX)
        });
        parsed.collect()
    }

    #[test]
    fn a_capped_log_is_within_its_cap_at_every_moment_and_keeps_the_latest() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("error");
        let cap = 256 * KIB;
        let mut log = Segments::open(&folder, capped(cap), on_day(0)).expect("opened");
        for number in 0..3000 {
            log.append(&line(number), on_day(0)).expect("appended");
            let (_, bytes) = files(&folder);
            assert!(bytes <= cap, "{bytes} bytes after line {number}");
        }
        let kept = lines(&folder);
        assert!(kept.len() > 300, "most of the cap is used: {} lines", kept.len());
        let last: Vec<u64> = (3000 - kept.len() as u64..3000).collect();
        assert_eq!(kept, last, "the oldest went, and no other");
        // A smaller cap holds from the next start on.
        drop(log);
        let log = Segments::open(&folder, capped(64 * KIB), on_day(0)).expect("opened");
        assert!(files(&folder).1 <= 64 * KIB);
        drop(log);
    }

    #[test]
    fn what_is_too_old_goes_by_the_day_and_by_bytes_on_the_disk() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("operation");
        let mut log = Segments::open(&folder, kept(730), on_day(1000)).expect("opened");
        for day in [1000, 1000, 1001, 1500] {
            log.sweep_if_another_day(on_day(day)).expect("swept");
            log.append(&line(day as usize), on_day(day)).expect("appended");
        }
        assert_eq!(lines(&folder), [1000, 1000, 1001, 1500]);
        // Two years later to the day it is still there; a day later it is not.
        log.sweep_if_another_day(on_day(1730)).expect("swept");
        assert_eq!(lines(&folder).len(), 4);
        let before = files(&folder).1;
        log.sweep_if_another_day(on_day(1731)).expect("swept");
        assert_eq!(lines(&folder), [1001, 1500]);
        assert!(files(&folder).1 < before);
        // Also at a start, the last segment included, and then it goes on.
        drop(log);
        let mut log = Segments::open(&folder, kept(730), on_day(5000)).expect("opened");
        assert_eq!(files(&folder), (Vec::new(), 0));
        log.append(&line(5), on_day(5000)).expect("appended");
        assert_eq!(lines(&folder), [5]);
    }

    #[test]
    fn a_clock_set_back_keeps_nothing_longer() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("operation");
        let mut log = Segments::open(&folder, kept(10), on_day(1000)).expect("opened");
        for day in [1000, 1, 1000] {
            log.append(&line(day as usize), on_day(day)).expect("appended");
        }
        log.sweep_if_another_day(on_day(1001)).expect("swept");
        assert_eq!(lines(&folder), [1000, 1000]);
    }

    #[test]
    fn a_line_torn_by_a_crash_is_cut_and_said_and_the_log_goes_on() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("error");
        for torn in [&b"{\"line\":3,\"pad"[..], b"{", &[b'x'; 9000]] {
            let mut log = Segments::open(&folder, capped(256 * KIB), on_day(0)).expect("opened");
            log.append(&line(1), on_day(0)).expect("appended");
            log.append(&line(2), on_day(0)).expect("appended");
            drop(log);
            let last = files(&folder).0.pop().expect("a segment");
            let mut file = OpenOptions::new().append(true).open(last).expect("opened");
            file.write_all(torn).expect("written");
            let mut log = Segments::open(&folder, capped(256 * KIB), on_day(0)).expect("opened");
            log.append(&line(4), on_day(0)).expect("appended");
            // The line about the torn one has no number.
            assert_eq!(lines(&folder), [1, 2, u64::MAX, 4], "{} bytes", torn.len());
            std::fs::remove_dir_all(&folder).expect("removed");
        }
    }

    #[test]
    fn only_the_owner_reads_them_and_a_stranger_s_file_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("error");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("notes"), "by an operator").expect("written");
        let mut log = Segments::open(&folder, capped(64 * KIB), on_day(0)).expect("opened");
        for number in 0..1000 {
            log.append(&line(number), on_day(0)).expect("appended");
        }
        let (files, _) = files(&folder);
        assert!(files.contains(&folder.join("notes")));
        for file in files.iter().filter(|file| !file.ends_with("notes")) {
            let mode = std::fs::metadata(file).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let huge = vec![b'x'; 65 << 10];
        assert!(log.append(&huge, on_day(0)).is_err(), "no line is so long");
    }
}
