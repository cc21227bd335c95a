//! The report: a line of JSON for each item that has its result, and first the import's token. With it the
//! same command goes on where it was interrupted.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::client::hex;
use crate::cli::exit::Failure;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    collection: String,
    import_token: String,
}

/// What became of an item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub item: u64,
    pub person_id: String,
    /// Faces enrolled; none when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faces: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Photographs of an enrolled person that were rejected: which, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<(PathBuf, String)>,
}

/// Why not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refused {
    pub reason: String,
    pub message: String,
    pub retry: bool,
}

/// An open report.
pub struct Report {
    file: File,
    path: PathBuf,
    pub token: String,
    /// The latest line of each item.
    pub lines: HashMap<u64, Line>,
}

impl Report {
    /// Begins a report, or goes on with one.
    pub fn open(path: &Path, collection: &str) -> Result<Self, Failure> {
        let failed = |source| Failure::File {
            doing: "opening",
            path: path.to_owned(),
            source,
        };
        // It names people: for its owner's eyes.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let mut report = Self {
            file,
            path: path.to_owned(),
            token: String::new(),
            lines: HashMap::new(),
        };
        let whole = report.read(collection)?;
        // A line that was cut short goes; its item is asked for again.
        report.file.set_len(whole).map_err(failed)?;
        report.file.seek(SeekFrom::End(0)).map_err(failed)?;
        if report.token.is_empty() {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|e| failed(std::io::Error::other(e.to_string())))?;
            report.token = hex(&random);
            let head = Head {
                collection: collection.to_owned(),
                import_token: report.token.clone(),
            };
            report.write(&head)?;
        }
        Ok(report)
    }

    /// Answers how many bytes are whole lines.
    fn read(&mut self, collection: &str) -> Result<u64, Failure> {
        let wrong = |path: &Path| {
            let expected = "expected the report of an import into this collection";
            Failure::Usage(format!(
                "{}: {expected}; --report names another file",
                path.display()
            ))
        };
        let (mut whole, mut line) = (0, String::new());
        let mut reader = BufReader::new(&self.file);
        while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
            if self.token.is_empty() {
                let head: Head = serde_json::from_str(&line).map_err(|_| wrong(&self.path))?;
                if head.collection != collection {
                    return Err(wrong(&self.path));
                }
                self.token = head.import_token;
            } else {
                let known: Line = serde_json::from_str(&line).map_err(|_| wrong(&self.path))?;
                self.lines.insert(known.item, known);
            }
            whole += line.len() as u64;
            line.clear();
        }
        if self.token.is_empty() && !line.is_empty() {
            return Err(wrong(&self.path));
        }
        Ok(whole)
    }

    /// Whether an item needs no further try.
    pub fn is_done(&self, item: u64, refused_again: bool) -> bool {
        self.lines.get(&item).is_some_and(|line| match &line.refused {
            Some(refused) => !refused.retry && !refused_again,
            None => true,
        })
    }

    /// Notes what became of an item.
    pub fn note(&mut self, line: Line) -> Result<(), Failure> {
        self.write(&line)?;
        self.lines.insert(line.item, line);
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(line).expect("texts and numbers serialise");
        writeln!(self.file, "{text}").map_err(|source| Failure::File {
            doing: "writing",
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(item: u64, retry: Option<bool>) -> Line {
        Line {
            item,
            person_id: "ada".to_owned(),
            faces: retry.is_none().then_some(1),
            refused: retry.map(|retry| Refused {
                reason: "BUSY".to_owned(),
                message: String::new(),
                retry,
            }),
            rejected: Vec::new(),
        }
    }

    #[test]
    fn a_report_goes_on_where_it_ended_also_in_the_middle_of_a_line() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("report.jsonl");
        let mut report = Report::open(&path, "staff").expect("begun");
        let token = report.token.clone();
        for (item, retry) in [(1, None), (2, Some(true)), (3, Some(false)), (u64::MAX, None)] {
            report.note(line(item, retry)).expect("noted");
        }
        write!(report.file, "{{\"item\": 5").expect("cut short");
        let report = Report::open(&path, "staff").expect("goes on");
        assert_eq!(report.token, token);
        let done = [1, 2, 3, 5, u64::MAX].map(|item| report.is_done(item, false));
        assert_eq!(done, [true, false, true, false, true]);
        assert!(!report.is_done(3, true));
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text.lines().count(), 5, "the line that was cut short is gone");
        assert!(Report::open(&path, "visitors").is_err(), "of another collection");
    }
}
