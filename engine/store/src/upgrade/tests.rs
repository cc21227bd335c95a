//! Upgrades of copies of the fixture by the steps of `trial.rs`: undisturbed, and killed at every moment.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::format::{Becoming, Standing};
use super::{FormatFile, Moment, rows, slots, space, trial};
use crate::keys::KeyRing;
use crate::keys::store::KeyStore;
use crate::layout;
use crate::records::{Change, Family, Records, RocksRecords, Scan, Write};
use crate::slots::SLOT_BYTES;
use crate::testing::{FakeDisk, FakeFile, Fault, Name};
use crate::upgrade::chain::{CHAIN, Chain, FORMAT, Work};
use likeness_types::error::{Error, OperatorError, Result};
use likeness_types::names::RandomId;

/// A copy of the full fixture.
struct Home {
    folder: tempfile::TempDir,
    ring: KeyRing,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("the fixture is there") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-3-full");
        copy(&fixture, folder.path());
        let ring = ring_in(folder.path());
        Self { folder, ring }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn upgrade(&self, chain: &Chain, watch: &dyn Fn(Moment)) -> Result<()> {
        trial::upgrade(&self.data(), &self.keys(), &self.ring, chain, watch)
    }

    fn upgraded(self, chain: &Chain) -> Self {
        self.upgrade(chain, &|_| {}).expect("upgraded");
        self
    }

    /// Upgrades in a process that is killed before the moment of this number; answers whether it came to it.
    fn killed_at(&self, moment: usize) -> bool {
        let (_, inside) = module_path!().split_once("::").expect("a module of a crate");
        let mut child = Command::new(std::env::current_exe().expect("a path"));
        child
            .args([
                "--exact",
                &format!("{inside}::an_upgrade_in_a_process_of_its_own"),
            ])
            .args(["--ignored", "--nocapture"])
            .env(INSIDE, self.folder.path())
            .env(KILLED_AT, moment.to_string());
        let ended = child.output().expect("it runs");
        let is_killed = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(9);
        assert!(is_killed || ended.status.success(), "{ended:?}");
        is_killed
    }

    fn format(&self) -> String {
        fs::read_to_string(self.data().join("FORMAT")).expect("there")
    }

    /// Everything that is kept, but for how RocksDB lays it out.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let mut contents = BTreeMap::new();
        for (name, directory) in [("data", self.data()), ("keys", self.keys())] {
            for entry in fs::read_dir(directory).expect("listed") {
                let path = entry.expect("listed").path();
                if path.is_file() {
                    let file = path.file_name().expect("a file").to_string_lossy().into_owned();
                    contents.insert(format!("{name}/{file}"), fs::read(path).expect("read"));
                }
            }
        }
        let records = RocksRecords::open(&layout::records_path(&self.data())).expect("they open");
        for family in Family::ALL {
            let gaps = records.scan(family, &[], &[], &mut |key, row| {
                contents.insert(format!("{}/{key:x?}", family.name()), row.to_vec());
                Scan::Continue
            });
            assert_eq!(gaps.expect("scanned"), 0);
        }
        contents
    }
}

fn ring_in(folder: &Path) -> KeyRing {
    let keys = folder.join("keys");
    let root = keys.join("root.key");
    fs::set_permissions(root, fs::Permissions::from_mode(0o600)).expect("restricted");
    KeyStore::new(keys, None)
        .open(likeness_types::Inside)
        .expect("the keys open")
}

fn refusal<T>(outcome: Result<T>) -> (String, String) {
    match outcome.err() {
        Some(Error::Operator(OperatorError::Format { expected, found, .. })) => (expected, found),
        other => panic!("not refused by its format: {other:?}"),
    }
}

/// Every file with its bytes, its place on the disk, and when anything of it changed.
fn files_in(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u64, i64, i64)> {
    let mut files = BTreeMap::new();
    let mut directories = vec![folder.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("listed") {
            let path = entry.expect("listed").path();
            let found = fs::symlink_metadata(&path).expect("there");
            let bytes = match found.is_dir() {
                true => {
                    directories.push(path.clone());
                    Vec::new()
                }
                false => fs::read(&path).expect("read"),
            };
            files.insert(path, (bytes, found.ino(), found.ctime(), found.ctime_nsec()));
        }
    }
    files
}

#[test]
fn the_released_steps_lead_without_a_gap_to_the_present_format() {
    for chain in [&CHAIN, &trial::TO_4, &trial::TO_5] {
        let first = chain.format - u32::try_from(chain.steps.len()).expect("few");
        for (step, from) in chain.steps.iter().zip(first..) {
            assert_eq!(step.from, from);
            let is_of_slots =
                |work: &Work| matches!(work, Work::File { name, .. } if *name == layout::SLOTS_FILE);
            assert!(!step.parts.iter().any(|part| is_of_slots(&part.work)));
        }
    }
    assert_eq!(CHAIN.format, FORMAT);
    assert_eq!(FORMAT, u32::from(crate::codec::FORMAT), "records say the same");
}

#[test]
fn two_steps_change_everything_and_lead_back_to_what_there_was() {
    let home = Home::new();
    let before = home.contents();
    let home = home.upgraded(&trial::TO_4);
    let between = home.contents();
    assert!(home.format().starts_with("likeness data, format 4\ndeployment "));
    assert!(home.format().ends_with("\nprogram 0.4.0\n"), "{}", home.format());
    let turned = |name: &str| {
        ["persons/", "commits/"]
            .iter()
            .any(|family| name.starts_with(family))
    };
    let files = ["data/erasures", "keys/anchor", "data/slots", "data/FORMAT"];
    assert_eq!(
        between.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &before {
        let is_changed = between[name] != *bytes;
        assert_eq!(
            is_changed,
            turned(name) || files.contains(&name.as_str()),
            "{name}"
        );
    }
    let home = home.upgraded(&trial::TO_5);
    assert!(home.format().starts_with("likeness data, format 5\ndeployment "));
    trial::call_it_present(&home.data(), &home.ring);
    assert_eq!(home.contents(), before);
}

#[test]
fn two_steps_at_once_are_the_same_and_a_second_upgrade_changes_nothing() {
    let home = Home::new();
    let before = home.contents();
    let home = home.upgraded(&trial::TO_5);
    let files = files_in(home.folder.path());
    home.upgrade(&trial::TO_5, &|moment| panic!("{moment:?}"))
        .expect("of this format");
    assert_eq!(files_in(home.folder.path()), files);
    trial::call_it_present(&home.data(), &home.ring);
    assert_eq!(home.contents(), before);
}

#[test]
fn a_directory_of_the_present_format_is_not_touched() {
    let home = Home::new();
    let before = files_in(home.folder.path());
    super::upgrade(&home.data(), &home.keys(), &home.ring).expect("nothing to do");
    assert_eq!(files_in(home.folder.path()), before);
}

#[test]
fn a_directory_that_does_not_exist_is_left_to_be_made() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    super::upgrade(&data, home.path(), &KeyRing::generate()).expect("nothing to do");
    assert!(!data.exists());
}

#[test]
fn a_directory_that_was_made_and_never_used_is_upgraded() {
    let home = Home::new();
    for part in ["records", "slots", "erasures"] {
        let path = home.data().join(part);
        let _ = fs::remove_dir_all(&path);
        let _ = fs::remove_file(&path);
    }
    let home = home.upgraded(&trial::TO_5);
    assert!(home.format().starts_with("likeness data, format 5\n"));
    assert!(!home.data().join("records").exists());
}

#[test]
fn progress_is_reported_part_by_part_and_rows_by_their_number() {
    let moments = RefCell::new(Vec::new());
    let home = Home::new();
    home.upgrade(&trial::TO_5, &|moment| moments.borrow_mut().push(moment))
        .expect("upgraded");
    let moments = moments.into_inner();
    let order: Vec<_> = moments.iter().map(|m| (m.from, m.part)).collect();
    assert!(order.is_sorted());
    assert_eq!(order.first(), Some(&(3, 1)));
    assert_eq!(order.last(), Some(&(4, 6)), "behind the last of five parts");
    let rows: Vec<_> = moments
        .iter()
        .filter(|m| m.from == 3 && m.part == 1 && m.doing == "rewriting rows")
        .map(|m| (m.done, m.about))
        .collect();
    assert_eq!(rows, [(0, 48), (20, 48), (40, 48)]);
    for doing in [
        "rewriting slots in place",
        "overwriting the old version of a file",
        "purging the old rows",
    ] {
        assert!(moments.iter().any(|m| m.doing == doing), "{doing}");
    }
    assert_eq!(moments.last().map(|m| m.doing), Some("raising the format number"));
}

const INSIDE: &str = "LIKENESS_TEST_UPGRADE";
const KILLED_AT: &str = "LIKENESS_TEST_UPGRADE_KILLED_AT";

/// Not a test by itself: the process that the tests below kill.
#[test]
#[ignore = "the tests of killed upgrades start it"]
fn an_upgrade_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(INSIDE).map(PathBuf::from) else {
        return;
    };
    let killed_at: usize = std::env::var(KILLED_AT).expect("set").parse().expect("a number");
    let moments = Cell::new(0);
    let watch = |_: Moment| {
        if moments.replace(moments.get() + 1) == killed_at {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("killed");
        }
    };
    let (data, keys) = (folder.join("data"), folder.join("keys"));
    trial::upgrade(&data, &keys, &ring_in(&folder), &trial::TO_5, &watch).expect("upgraded");
}

/// What an undisturbed upgrade does, and what is there afterwards.
fn undisturbed() -> (Vec<Moment>, BTreeMap<String, Vec<u8>>) {
    let moments = RefCell::new(Vec::new());
    let home = Home::new();
    home.upgrade(&trial::TO_5, &|moment| moments.borrow_mut().push(moment))
        .expect("upgraded");
    (moments.into_inner(), home.contents())
}

#[test]
fn an_upgrade_that_is_killed_at_any_moment_is_continued_to_the_same_end() {
    let (moments, expected) = undisturbed();
    // Every slot is a moment; all of them are tried on the disk in memory.
    let is_tried = |moment: &Moment| moment.doing != "rewriting slots in place" || moment.done % 20 == 7;
    let tried: Vec<_> = moments
        .iter()
        .enumerate()
        .filter(|(_, moment)| is_tried(moment))
        .collect();
    assert_eq!(tried.len(), 57, "moments at which it is killed");
    let case = |at: usize, moment: &Moment| {
        let home = Home::new();
        assert!(home.killed_at(at), "{moment:?}");
        let found = FormatFile::read(&home.data()).expect("whole").expect("there");
        if at > 0 {
            let opened = found.refuse_unless_present(home.ring.deployment);
            opened.expect_err("a program without the steps refuses it");
        }
        home.upgrade(&trial::TO_5, &|_| {})
            .unwrap_or_else(|e| panic!("{moment:?}: {e}"));
        assert_eq!(home.contents(), expected, "killed at {moment:?}");
    };
    std::thread::scope(|scope| {
        for some in tried.chunks(tried.len().div_ceil(4)) {
            let case = &case;
            scope.spawn(move || some.iter().for_each(|(at, moment)| case(*at, moment)));
        }
    });
}

/// Each start continues where the one before was killed.
#[test]
fn an_upgrade_that_is_killed_again_and_again_comes_to_its_end() {
    let (moments, expected) = undisturbed();
    let home = Home::new();
    let mut starts = 0;
    while home.killed_at(5) {
        starts += 1;
        assert!(starts < moments.len(), "it stands still at {}", home.format());
    }
    assert!(starts > 10, "{starts}");
    assert_eq!(home.contents(), expected);
}

#[test]
fn nothing_of_the_old_format_is_left_in_any_file() {
    let home = Home::new();
    let (slots, kept) = (home.data().join("slots"), home.folder.path().join("kept"));
    let inode = fs::metadata(&slots).expect("there").ino();
    // A second name shows what becomes of the bytes of a file that lost its own.
    fs::hard_link(home.data().join("erasures"), &kept).expect("linked");
    let (mut rows, mut positions) = (Vec::new(), Vec::new());
    {
        let records = RocksRecords::open(&layout::records_path(&home.data())).expect("they open");
        let gaps = records.scan(Family::Persons, &[], &[], &mut |key, row| {
            rows.push(row[100..132].to_vec());
            // Of the first part of the step to format 4.
            positions.push([&[4, 0, 0, 0, 0, 0, 0, 0, 0], key].concat());
            Scan::Continue
        });
        assert_eq!((gaps.expect("scanned"), rows.len()), (0, 48));
    }
    let remains = |old: &[u8]| {
        let files = files_in(home.folder.path());
        files
            .values()
            .any(|(bytes, ..)| bytes.windows(old.len()).any(|window| window == old))
    };
    let looked = Cell::new(false);
    home.upgrade(&trial::TO_4, &|moment| {
        if moment.doing == "purging the old rows" {
            looked.set(remains(&rows[0]) && remains(&positions[trial::GROUP_ROWS_MAX - 1]));
        }
    })
    .expect("upgraded");
    assert!(looked.get(), "the purge has something to do");
    let zeros = fs::read(&kept).expect("read");
    assert!(zeros.len() > 5000 && zeros.iter().all(|byte| *byte == 0));
    fs::remove_file(&kept).expect("removed");
    assert_eq!(
        fs::metadata(&slots).expect("there").ino(),
        inode,
        "rewritten in place"
    );
    for (path, (bytes, ..)) in files_in(home.folder.path()) {
        assert!(
            path.extension()
                .is_none_or(|e| e != "upgraded" && e != "replaced"),
            "{path:?}"
        );
        for old in rows.iter().chain(&positions) {
            assert!(!bytes.windows(old.len()).any(|window| window == old), "{path:?}");
        }
    }
}

/// A wrapped key is in the slot file and in no other, at every moment.
#[test]
fn no_moment_of_an_upgrade_has_a_second_copy_of_a_wrapped_key() {
    let home = Home::new();
    let slots = fs::read(home.data().join("slots")).expect("read");
    let wrapped: Vec<_> = slots
        .chunks_exact(SLOT_BYTES)
        .skip(1)
        .filter(|slot| slot.iter().any(|byte| *byte != 0))
        .map(|slot| slot[60..108].to_vec())
        .collect();
    assert!(wrapped.len() > 48);
    let (looked, last) = (Cell::new(0), Cell::new(""));
    home.upgrade(&trial::TO_5, &|moment| {
        if last.replace(moment.doing) == moment.doing {
            return;
        }
        looked.set(looked.get() + 1);
        let everywhere = files_in(home.folder.path());
        let found = everywhere.values().flat_map(|(bytes, ..)| bytes.windows(48));
        let mut copies = 0;
        for window in found {
            copies += usize::from(window == wrapped[0] || window == wrapped[40]);
        }
        assert_eq!(copies, 2, "{moment:?}");
    })
    .expect("upgraded");
    assert!(looked.get() > 20, "{}", looked.get());
}

#[test]
fn the_directory_is_locked_through_the_whole_upgrade() {
    let home = Home::new();
    let looked = Cell::new(0);
    home.upgrade(&trial::TO_5, &|moment| {
        if moment.doing == "rewriting slots in place" {
            return;
        }
        let error = RocksRecords::open(&layout::records_path(&home.data()))
            .err()
            .expect("locked");
        assert!(
            error.to_string().contains("no other process uses"),
            "{moment:?}: {error}"
        );
        looked.set(looked.get() + 1);
    })
    .expect("upgraded");
    assert!(looked.get() > 40);
}

#[test]
fn too_little_space_is_refused_before_anything_is_touched() {
    let home = Home::new();
    let before = files_in(home.folder.path());
    let asked = RefCell::new(Vec::new());
    let upgrade = |free: u64| {
        trial::upgrade_with(
            &home.data(),
            &home.keys(),
            &home.ring,
            &trial::TO_5,
            &|_| {},
            &|directory| {
                asked.borrow_mut().push(directory.to_owned());
                Ok(free)
            },
        )
    };
    let (expected, found) = refusal(upgrade(64 << 20));
    let needed = expected
        .split_once(" MiB of free space in ")
        .expect("says how much")
        .0;
    let needed: u64 = needed.parse().expect("a number");
    assert!(
        (65..70).contains(&needed),
        "{expected}: the reserve, and some of 80 kB"
    );
    assert!(
        expected.contains(&home.data().display().to_string()),
        "{expected}"
    );
    assert!(found.contains("64 MiB; nothing was changed"), "{found}");
    assert_eq!(
        asked.borrow().as_slice(),
        [home.data()],
        "one file system is asked once"
    );
    assert_eq!(files_in(home.folder.path()), before);
    upgrade(needed << 20).expect("so much is enough");
    assert!(space::free_bytes(&home.data()).expect("asked") > 0);
}

/// A step that has begun has taken its space already.
#[test]
fn a_step_that_has_begun_is_continued_whatever_space_there_is() {
    let (moments, expected) = undisturbed();
    let last = moments
        .iter()
        .rposition(|moment| moment.doing == "rewriting rows")
        .expect("there are");
    let home = Home::new();
    assert!(home.killed_at(last));
    trial::upgrade_with(
        &home.data(),
        &home.keys(),
        &home.ring,
        &trial::TO_5,
        &|_| {},
        &|_| Ok(0),
    )
    .expect("continued");
    assert_eq!(home.contents(), expected);
}

#[test]
fn damaged_data_files_are_refused_before_the_upgrade_begins() {
    let home = Home::new();
    let records = layout::records_path(&home.data());
    let tables = fs::read_dir(&records)
        .expect("listed")
        .map(|entry| entry.expect("listed").path());
    let largest = tables
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .max_by_key(|path| fs::metadata(path).expect("there").len())
        .expect("tables");
    let mut bytes = fs::read(&largest).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, &bytes).expect("written");
    let before = home.format();
    let (expected, found) = refusal(home.upgrade(&trial::TO_5, &|moment| panic!("{moment:?}")));
    assert!(expected.contains("whole data files"), "{expected}");
    let name = largest
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(found.contains(&name), "{found}");
    assert_eq!(home.format(), before);
}

#[test]
fn slots_without_records_are_refused_and_no_records_are_made() {
    let home = Home::new();
    let records = layout::records_path(&home.data());
    fs::remove_dir_all(&records).expect("removed");
    let (expected, _) = refusal(home.upgrade(&trial::TO_5, &|moment| panic!("{moment:?}")));
    assert!(expected.contains("the records"), "{expected}");
    assert!(!records.exists());
}

fn judged(chain: &Chain, text: &str, deployment: RandomId) -> Result<Standing> {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("FORMAT"), text).expect("written");
    let found = FormatFile::read(home.path())?.expect("there");
    chain.judge(&found, deployment)
}

#[test]
fn a_newer_format_is_refused_by_name_with_the_version_that_it_needs() {
    let deployment = RandomId([7; 16]);
    let of = |text: &str| refusal(judged(&CHAIN, text, deployment));
    let (expected, found) = of(&format!(
        "likeness data, format 4\ndeployment {deployment}\nprogram 0.4.0\n"
    ));
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(expected, format!("format 3, which likeness {own} reads"));
    assert_eq!(found, "format 4, which needs likeness 0.4.0 or later");
    for unknown in ["", "program \u{1b}[31m\n", "something else\n"] {
        let (_, found) = of(&format!(
            "likeness data, format 12\ndeployment {deployment}\n{unknown}"
        ));
        assert_eq!(found, "format 12, which needs a later version of likeness");
    }
    let (_, found) = of("likeness data, format 9, in another form\n");
    assert_eq!(found, "a file of another form");
}

#[test]
fn an_older_format_that_no_step_leads_from_is_refused_by_name() {
    let deployment = RandomId([7; 16]);
    for format in [0, 1, 2] {
        let text = format!("likeness data, format {format}\ndeployment {deployment}\n");
        let (expected, found) = refusal(judged(&CHAIN, &text, deployment));
        assert!(expected.starts_with("format 3, which likeness "), "{expected}");
        assert_eq!(found, format!("format {format}, which is too old to be upgraded"));
        let (expected, _) = refusal(judged(&trial::TO_5, &text, deployment));
        assert_eq!(expected, "format 5, or one from format 3 on");
    }
}

#[test]
fn a_format_in_the_middle_of_an_upgrade_is_known_only_to_who_knows_the_step() {
    let deployment = RandomId([7; 16]);
    let text = |to: u32, done: &str| {
        format!("likeness data, format 3, becoming {to}\ndeployment {deployment}\nparts done {done}\n")
    };
    let older = Standing::Older {
        from: 3,
        becoming: Some(Becoming { to: 4, parts_done: 2 }),
    };
    assert_eq!(
        judged(&trial::TO_5, &text(4, "2"), deployment).expect("known"),
        older
    );
    for (chain, text) in [
        (&CHAIN, text(4, "2")),
        (&trial::TO_5, text(5, "2")),
        (&trial::TO_5, text(4, "7")),
    ] {
        let (_, found) = refusal(judged(chain, &text, deployment));
        assert!(
            found.contains("start the version of likeness that began it"),
            "{found}"
        );
    }
    for bad in ["", "x", "-1"] {
        assert_eq!(
            refusal(judged(&trial::TO_5, &text(4, bad), deployment)).1,
            "a file of another form"
        );
    }
    let (expected, found) = refusal(judged(&trial::TO_5, &text(4, "2"), RandomId([8; 16])));
    assert!(expected.contains("key store belongs"), "{expected}, {found}");
}

#[test]
fn who_may_not_upgrade_is_told_to_start_the_server_once() {
    let deployment = RandomId([7; 16]);
    let older = FormatFile::of(3, deployment, "");
    let (expected, found) = refusal(trial::TO_5.refuse_unless_present(&older, deployment));
    assert_eq!(expected, "format 5");
    assert_eq!(
        found,
        "format 3; start the server once, which upgrades the data directory"
    );
}

/// A disk with rows of two families and used slots, in memory.
fn disk() -> FakeDisk {
    let disk = FakeDisk::default();
    let rows = (0..9_u8).flat_map(|n| {
        [Family::Persons, Family::Commits].map(|family| Write {
            family,
            key: vec![n + 3; 32],
            change: Change::Put(vec![n; 5]),
        })
    });
    disk.write(rows.collect()).expect("written");
    let mut slots = vec![0; 12 * SLOT_BYTES];
    slots[14] = 1;
    for slot in [1, 2, 3, 5, 8, 11] {
        slots[slot * SLOT_BYTES] = 1;
    }
    // Damaged.
    slots[7 * SLOT_BYTES] = 9;
    let mut state = disk.0.lock();
    state.slots.durable.clone_from(&slots);
    state.slots.seen = slots;
    drop(state);
    disk
}

fn plus_one(_: &KeyRing, _: &[u8], row: &[u8]) -> Option<Vec<u8>> {
    Some([row, &[1]].concat())
}

/// A part of rows and the part of the slots, as a step has them.
fn upgrade_disk(disk: &FakeDisk, ring: &KeyRing) -> Result<()> {
    let say = |_: &'static str, _: u64, _: u64| {};
    for (part, family) in [Family::Persons, Family::Commits].into_iter().enumerate() {
        let rows = rows::Rows {
            records: disk,
            ring,
            family,
            rewrite: plus_one,
            mark: rows::Mark::new(4, part),
            group_rows_max: 2,
        };
        // The part that is done is not asked again: its position is the other's by then.
        if part == 0 && disk.keys(Family::Commits).len() > 9 && is_second_begun(disk) {
            continue;
        }
        rows.rewrite(&say)?;
    }
    let add = |slot: u32, image: &[u8; SLOT_BYTES]| {
        let mut image = *image;
        image[if slot == 0 { 14 } else { 0 }] = 2;
        image[50] += 1;
        image
    };
    let file = FakeFile(disk.clone(), Name::Slots);
    slots::rewrite_in_place(&file, [1, 2], &add, &say)
}

/// Whether the position is that of the second part, which `FORMAT` says in a directory.
fn is_second_begun(disk: &FakeDisk) -> bool {
    let row = disk.get(Family::Commits, &[2]).expect("read");
    row.is_some_and(|row| row[4] == 1)
}

#[test]
fn a_power_cut_at_any_write_of_rows_or_slots_leaves_each_rewritten_once() {
    let ring = KeyRing::generate();
    let whole = disk();
    upgrade_disk(&whole, &ring).expect("nothing is wrong");
    let seen = |disk: &FakeDisk| {
        let state = disk.0.lock();
        (state.records.clone(), state.slots.durable.clone())
    };
    let expected = seen(&whole);
    assert!(expected.0.values().filter(|row| row.len() == 6).count() == 18);
    assert_eq!(expected.1[7 * SLOT_BYTES], 9, "a damaged slot stays");
    assert!(
        expected.1[4 * SLOT_BYTES..][..SLOT_BYTES]
            .iter()
            .all(|byte| *byte == 0)
    );
    let operations = whole.operations() - disk().operations();
    assert!(operations > 15, "{operations}");
    for at in 0..operations {
        for fault in [Fault::Crash, Fault::CrashLate, Fault::Fails, Fault::FailsLate] {
            for arrived in [u64::MAX, 0, 0x5555, 0xaaaa] {
                let disk = disk();
                disk.arm(at, fault);
                upgrade_disk(&disk, &ring).expect_err("it failed");
                let disk = disk.restarted(|write| arrived >> (write % 64) & 1 == 1);
                upgrade_disk(&disk, &ring).expect("continued");
                assert!(disk.is_durable());
                assert!(seen(&disk) == expected, "{fault:?} at {at}, {arrived:x} arrived");
            }
        }
    }
}

#[test]
fn a_family_that_ends_with_a_batch_is_complete() {
    let (disk, ring) = (disk(), KeyRing::generate());
    let rows = rows::Rows {
        records: &disk,
        ring: &ring,
        family: Family::Persons,
        rewrite: |_, key, row| (key[0] % 2 == 0).then(|| [row, &[1]].concat()),
        mark: rows::Mark::new(4, 0),
        group_rows_max: 3,
    };
    for _ in 0..2 {
        rows.rewrite(&|_, _, _| {}).expect("rewritten");
    }
    let state = disk.0.lock();
    let lengths: Vec<_> = state
        .records
        .iter()
        .filter(|((family, _), _)| *family == Family::Persons)
        .map(|(_, row)| row.len())
        .collect();
    assert_eq!(lengths, [5, 6, 5, 6, 5, 6, 5, 6, 5]);
}
