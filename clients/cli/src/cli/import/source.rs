//! What there is to import: folders of photographs, a table, or features made elsewhere.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use likeness_proto::v1;
use serde::Deserialize;

use crate::cli::exit::Failure;

/// Photographs of one item are sent in one message, and the server takes messages of 64 MiB.
const ITEM_BYTES_MAX: u64 = 60 << 20;

/// A person to enrol.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub person_id: String,
    #[serde(default)]
    pub photographs: Vec<PathBuf>,
    #[serde(default)]
    pub embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub tags: Vec<String>,
    /// What the person agreed to.
    #[serde(default)]
    pub consent: Option<String>,
}

/// A row of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    person_id: String,
    photographs: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    tags: String,
    #[serde(default)]
    consent: String,
}

/// An item that cannot even be sent.
pub struct Unsendable {
    pub reason: &'static str,
    pub message: String,
}

impl Entry {
    /// The item's number: of the PersonID, so that it stays the same when others are added to the source.
    pub fn sequence(&self) -> u64 {
        let digest = blake3::hash(self.person_id.as_bytes());
        u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("a digest is longer"))
    }

    /// Why it cannot be sent, if it cannot.
    pub fn unsendable(&self) -> Option<Unsendable> {
        let mut bytes = 0;
        for path in &self.photographs {
            match readable(path) {
                Ok(length) => bytes += length,
                Err(error) => {
                    return Some(Unsendable {
                        reason: "FILE",
                        message: format!("reading {}: {error}", path.display()),
                    });
                }
            }
        }
        (bytes > ITEM_BYTES_MAX).then(|| Unsendable {
            reason: "TOO_MANY_BYTES",
            message: format!("the photographs have {bytes} bytes; at most {ITEM_BYTES_MAX} can be sent"),
        })
    }

    /// With the photographs read.
    pub fn item(&self) -> std::io::Result<v1::ImportItem> {
        let read = |path: &PathBuf| {
            Ok(v1::Photograph {
                data: std::fs::read(path)?,
            })
        };
        let photographs: std::io::Result<_> = self.photographs.iter().map(read).collect();
        Ok(v1::ImportItem {
            sequence: self.sequence(),
            person_id: self.person_id.clone(),
            photographs: photographs?,
            embeddings: self
                .embeddings
                .iter()
                .map(|values| v1::FaceEmbedding {
                    values: values.clone(),
                })
                .collect(),
            name: self.name.clone(),
            tags: self.tags.clone(),
            consent: self.consent.clone().map(|purpose| v1::Consent {
                purpose,
                given: None,
                of_age_or_parental: true,
            }),
            expires: None,
        })
    }
}

/// How many bytes a file has that can be read. It is opened, since what is known of a file does not say whether
/// it may be.
fn readable(path: &Path) -> std::io::Result<u64> {
    let metadata = std::fs::metadata(path)?;
    // Before it is opened: a pipe would wait for its other end.
    if !metadata.is_file() {
        return Err(std::io::Error::other("expected a file"));
    }
    std::fs::File::open(path)?;
    Ok(metadata.len())
}

/// All people of a source, each once.
pub fn read(source: &Path) -> Result<Vec<Entry>, Failure> {
    let extension = source.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let entries = match extension {
        _ if source.is_dir() => folders(source)?,
        "csv" => table(source)?,
        "jsonl" => lines(source)?,
        _ if source.exists() => {
            let expected = "expected a folder, or a file that ends in .csv or .jsonl";
            return Err(Failure::Usage(format!("{}: {expected}", source.display())));
        }
        _ => {
            let source_error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(failed(source, source_error));
        }
    };
    let mut seen = HashMap::new();
    for (place, entry) in entries.iter().enumerate() {
        if let Some(first) = seen.insert(entry.sequence(), place + 1) {
            return Err(Failure::Usage(format!(
                "{}: entries {first} and {} are of one PersonID; put a person's photographs into one entry",
                source.display(),
                place + 1
            )));
        }
    }
    Ok(entries)
}

fn failed(path: &Path, source: std::io::Error) -> Failure {
    Failure::File {
        doing: "reading",
        path: path.to_owned(),
        source,
    }
}

/// Visible entries, sorted.
fn listed(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(dir).map_err(|error| failed(dir, error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(dir, error))?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A folder for each person, or one photograph named after the person.
fn folders(dir: &Path) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for path in listed(dir)? {
        let (name, photographs) = if path.is_dir() {
            (path.file_name(), listed(&path)?)
        } else {
            (path.file_stem(), vec![path.clone()])
        };
        entries.push(Entry {
            person_id: name.unwrap_or_default().to_string_lossy().into_owned(),
            photographs,
            ..Entry::default()
        });
    }
    Ok(entries)
}

/// Paths are relative to the table's own folder.
fn table(path: &Path) -> Result<Vec<Entry>, Failure> {
    let wrong = |error: csv::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(wrong)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let several = |text: &str| -> Vec<String> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let rows = reader.deserialize().map(|row| {
        let row: Row = row.map_err(wrong)?;
        Ok(Entry {
            person_id: row.person_id,
            photographs: several(&row.photographs)
                .iter()
                .map(|part| folder.join(part))
                .collect(),
            embeddings: Vec::new(),
            name: row.name,
            tags: several(&row.tags),
            consent: Some(row.consent).filter(|purpose| !purpose.is_empty()),
        })
    });
    rows.collect()
}

/// One JSON object a line.
fn lines(path: &Path) -> Result<Vec<Entry>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| failed(path, error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let entries = lines.map(|(number, line)| {
        let wrong = |error| Failure::Usage(format!("{}, line {}: {error}", path.display(), number + 1));
        let mut entry: Entry = serde_json::from_str(line).map_err(wrong)?;
        for photograph in &mut entry.photographs {
            *photograph = folder.join(&*photograph);
        }
        Ok(entry)
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("written");
        (home, path)
    }

    #[test]
    fn a_table_has_lists_with_semicolons_and_paths_beside_it() {
        let (home, path) = written(
            "people.csv",
            "person_id,photographs,name,tags,consent\nada,a.jpg; b.jpg,\"King, Ada\",x;y,door\nbob,c.jpg,,,\n",
        );
        let entries = read(&path).expect("a table");
        assert_eq!(
            entries[0].photographs,
            [home.path().join("a.jpg"), home.path().join("b.jpg")]
        );
        assert_eq!(
            (entries[0].name.as_str(), &entries[0].tags[..]),
            ("King, Ada", &["x".to_owned(), "y".to_owned()][..])
        );
        assert_eq!(entries[0].consent.as_deref(), Some("door"));
        assert_eq!((entries[1].tags.len(), &entries[1].consent), (0, &None));
    }

    #[test]
    fn a_column_that_nobody_knows_and_a_person_twice_are_refused() {
        for text in [
            "person_id,photographs,colour\nada,a.jpg,red\n",
            "person_id,photographs\nada,a\nada,b\n",
        ] {
            let (_home, path) = written("people.csv", text);
            assert!(matches!(read(&path), Err(Failure::Usage(_))), "{text}");
        }
    }

    #[test]
    fn folders_and_single_photographs_are_people() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join("ada")).expect("made");
        for file in ["ada/2.jpg", "ada/1.jpg", "ada/.hidden", "bob.png"] {
            std::fs::write(home.path().join(file), b"").expect("written");
        }
        let entries = read(home.path()).expect("folders");
        let seen: Vec<_> = entries
            .iter()
            .map(|e| (e.person_id.as_str(), e.photographs.len()))
            .collect();
        assert_eq!(seen, [("ada", 2), ("bob", 1)]);
    }

    #[test]
    fn lines_of_json_carry_features() {
        let (_home, path) = written(
            "people.jsonl",
            "{\"person_id\":\"ada\",\"embeddings\":[[0.5,-1]]}\n\n",
        );
        assert_eq!(read(&path).expect("lines")[0].embeddings, [[0.5, -1.0]]);
        let (_home, path) = written("people.jsonl", "{\"person\":\"ada\"}\n");
        assert!(matches!(read(&path), Err(Failure::Usage(_))));
    }

    #[test]
    fn what_cannot_be_read_cannot_be_sent() {
        use std::os::unix::fs::PermissionsExt as _;

        let (home, locked) = written("locked.jpg", "bytes");
        let unsendable = |path: &Path| {
            let entry = Entry {
                photographs: vec![path.to_owned()],
                ..Entry::default()
            };
            entry.unsendable().map(|why| why.reason)
        };
        assert_eq!(unsendable(&locked), None);
        assert_eq!(unsendable(home.path()), Some("FILE"), "a folder");
        assert_eq!(unsendable(&home.path().join("missing.jpg")), Some("FILE"));
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).expect("locked");
        // The superuser reads it all the same.
        let may_read = std::fs::File::open(&locked).is_ok();
        assert_eq!(unsendable(&locked).is_none(), may_read);
    }
}
