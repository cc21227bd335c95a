//! The end of an account, and of everything, with the power going at every operation of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::access::administration::Offline;
use crate::access::closing::ClosedDeployment;
use crate::access::{NewApiKey, Scope, Scopes};
use crate::gallery::Gallery;
use crate::gallery::tests::support::*;
use likeness_store::keys::KeyRing;
use likeness_store::keys::store::KeyStore;
use likeness_store::receipts::chain;
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, Fault, Name};
use likeness_types::Inside;
use likeness_types::act::{Act, AuditEntry};
use likeness_types::error::Result;
use likeness_types::names::Account;

/// Of what was written and not synced arrives everything, nothing, or every other write.
const ARRIVED: [u64; 3] = [u64::MAX, 0, 0x5555_5555];

/// A disk and a key store, as they lie there while nothing runs.
struct Home {
    _directory: tempfile::TempDir,
    keys: PathBuf,
    disk: FakeDisk,
}

impl Home {
    /// An account with two people in a collection and two keys, and the operator's with one person.
    fn prepared() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = directory.path().join("keys");
        KeyStore::new(&keys, None)
            .init(&directory.path().join("data"))
            .expect("fresh keys");
        let home = Self {
            _directory: directory,
            keys,
            disk: FakeDisk::default(),
        };
        let offline = home.open().expect("opens");
        let administration = offline.administration();
        for account in [branch(), account()] {
            administration.ensure_account(&account).expect("made");
            let new = || NewApiKey {
                scopes: Scopes::from_iter([Scope::Search]),
                ..NewApiKey::default()
            };
            let made = [(), ()].map(|()| administration.create_api_key(&account, new()));
            assert!(made.iter().all(Result::is_ok));
        }
        let gallery = offline.gallery();
        for (account, collection, people) in [
            (branch(), "one", &["ada", "bob"][..]),
            (account(), "two", &["eve"]),
        ] {
            let made = AuditEntry {
                act: Act::CreateCollection,
                object: collection.to_owned(),
                ..entry(&account)
            };
            let collection = administration.audited(&made, |_| {
                gallery.create_collection(&account, &name(collection), scheme(), settings(), REQUEST)
            });
            let collection = collection.expect("made");
            for (n, who) in (1..).zip(people) {
                enroll(gallery, &collection, who, &[n]).expect("enrolled");
            }
        }
        drop(offline);
        home
    }

    /// The same once more, with this disk.
    fn again(&self, disk: FakeDisk) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = directory.path().join("keys");
        std::fs::create_dir(&keys).expect("made");
        for file in std::fs::read_dir(&self.keys).expect("listed") {
            let file = file.expect("listed").path();
            std::fs::copy(&file, keys.join(file.file_name().expect("a name"))).expect("copied");
        }
        Self {
            _directory: directory,
            keys,
            disk,
        }
    }

    fn ring(&self) -> Result<Arc<KeyRing>> {
        KeyStore::new(&self.keys, None).open(Inside).map(Arc::new)
    }

    fn open(&self) -> Result<Offline> {
        let ring = self.ring()?;
        let (gallery, _) = open(&self.disk, &ring)?;
        Offline::over(gallery, ring, &KeyStore::new(&self.keys, None))
    }

    /// After the power came back.
    fn restarted(&self, arrived: u64) -> Self {
        self.again(self.disk.restarted(|write| arrived >> (write % 64) & 1 == 1))
    }
}

fn branch() -> Account {
    Account::parse("branch").expect("a name")
}

fn entry(of: &Account) -> AuditEntry {
    AuditEntry {
        account: account(),
        key: None,
        request: REQUEST,
        act: Act::CloseAccount,
        of: of.clone(),
        object: String::new(),
    }
}

/// Whether nothing of an account is left but its name; or everything is there.
///
/// # Panics
/// If it is anything between.
fn is_closed(offline: &Offline, ring: &KeyRing, of: &Account, people: usize, what: &str) -> bool {
    let gallery = offline.gallery();
    let info = offline.administration().account(of).expect("it stays listed");
    let keys = offline.administration().api_keys(of).expect("listed").len();
    let persons: usize = gallery.collections_of(of).map(|c| c.count().0).sum();
    let seen = (
        info.closed.is_some(),
        info.final_receipt.is_some(),
        keys,
        persons,
        ring.projection(of.as_str()).is_some(),
    );
    match seen.0 {
        true => assert_eq!(seen, (true, true, 0, 0, false), "{what}"),
        false => assert_eq!(seen, (false, false, 2, people, true), "{what}"),
    }
    seen.0
}

/// No key without a record, no row of nobody, and the log whole and in both places.
fn assert_settled(disk: &FakeDisk, gallery: &Gallery, what: &str) {
    gallery.purge_now().expect("purged");
    assert!(disk.is_durable(), "{what}");
    assert_eq!(
        disk.used_slots().len(),
        disk.sealed_records(),
        "{what}: a key for each record"
    );
    let (log, copy) = {
        let mut state = disk.0.lock();
        (
            state.bytes(Name::Log).durable.clone(),
            state.bytes(Name::Copy).durable.clone(),
        )
    };
    assert_eq!(log, copy, "{what}");
    chain::verify(&log, gallery.checkpoint().as_deref(), None).unwrap_or_else(|e| panic!("{what}: {e}"));
}

#[test]
fn a_power_cut_at_any_operation_leaves_an_account_open_or_closed_for_good() {
    let prepared = Home::prepared();
    let (mut cuts, mut closed) = (0, 0);
    for fault in [Fault::Crash, Fault::CrashLate] {
        for arrived in ARRIVED {
            for n in 0.. {
                let what = format!("{fault:?} at {n}, {arrived:x} arrived");
                let home = prepared.restarted(u64::MAX);
                let offline = home.open().expect("opens");
                home.disk.arm(n, fault);
                let outcome = offline.administration().close_account(&branch(), REQUEST);
                let reached = home.disk.fault_was_reached();
                assert_eq!(outcome.is_err(), reached, "{what}");
                drop(offline);
                let home = home.restarted(arrived);
                let offline = home.open().expect("opens after a crash");
                let ring = home.ring().expect("the keys are there");
                let is = is_closed(&offline, &ring, &branch(), 2, &what);
                assert!(is || reached, "{what}: acknowledged");
                assert!(!is_closed(&offline, &ring, &account(), 1, &what));
                assert_settled(&home.disk, offline.gallery(), &what);
                closed += usize::from(is);
                if !reached {
                    break;
                }
                cuts += 1;
            }
        }
    }
    println!("{cuts} operations at which the power went, {closed} ends carried out");
    assert!(cuts > 150 && closed > cuts / 2, "{cuts}, {closed}");
}

#[test]
fn a_power_cut_while_a_start_carries_an_end_out_is_repaired_by_the_next() {
    let prepared = Home::prepared();
    let mut cuts = 0;
    for n in 0.. {
        let home = prepared.restarted(u64::MAX);
        let offline = home.open().expect("opens");
        home.disk.arm(n, Fault::CrashLate);
        let done = offline.administration().close_account(&branch(), REQUEST).is_ok();
        drop(offline);
        if done {
            break;
        }
        let crashed = home.restarted(u64::MAX);
        for m in 0.. {
            let what = format!("at {n}, and then at {m}");
            let home = crashed.again(crashed.disk.restarted(|_| true));
            home.disk.arm(m, Fault::Crash);
            let complete = home.open().is_ok();
            let home = home.restarted(0x5555_5555);
            let offline = home.open().expect("opens");
            let ring = home.ring().expect("the keys are there");
            assert!(
                is_closed(&offline, &ring, &branch(), 2, &what),
                "{what}: it had begun"
            );
            assert_settled(&home.disk, offline.gallery(), &what);
            if complete {
                break;
            }
            cuts += 1;
        }
    }
    println!("{cuts} operations of starts at which the power went");
    assert!(cuts > 200, "{cuts}");
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_deployment_that_closes_when_it_is_told_again() {
    let prepared = Home::prepared();
    let mut cuts = 0;
    for fault in [Fault::Crash, Fault::CrashLate] {
        for arrived in ARRIVED {
            for n in 0.. {
                let what = format!("{fault:?} at {n}, {arrived:x} arrived");
                let home = prepared.restarted(u64::MAX);
                let offline = home.open().expect("opens");
                home.disk.arm(n, fault);
                let outcome = offline.close_deployment(REQUEST);
                if !home.disk.fault_was_reached() {
                    assert_gone(&home, &outcome.expect("nothing is wrong"), &what);
                    break;
                }
                cuts += 1;
                if let Ok(closed) = &outcome {
                    // The power went at the last write of the store, which nothing waits for.
                    assert_gone(&home, closed, &what);
                    continue;
                }
                let home = home.restarted(arrived);
                let offline = home.open().expect("the keys go last");
                let ring = home.ring().expect("the keys are there");
                is_closed(&offline, &ring, &branch(), 2, &what);
                is_closed(&offline, &ring, &account(), 1, &what);
                assert_settled(&home.disk, offline.gallery(), &what);
                assert_gone(&home, &offline.close_deployment(REQUEST).expect("closed"), &what);
            }
        }
    }
    println!("{cuts} operations at which the power went");
    assert!(cuts > 200, "{cuts}");
}

fn assert_gone(home: &Home, closed: &ClosedDeployment, what: &str) {
    let families = [Family::Collections, Family::Persons, Family::RunningLog];
    for family in families {
        assert!(home.disk.keys(family).is_empty(), "{what}");
    }
    let stale = home.disk.0.lock().stale.clone();
    assert!(
        stale.iter().all(|((family, _), _)| !families.contains(family)),
        "{what}: purged"
    );
    assert_eq!(left(&home.keys), ["ended", "lock"], "{what}");
    let log = home.disk.0.lock().bytes(Name::Log).durable.clone();
    let summary = chain::verify(&log, Some(&closed.checkpoint), None).expect("whole");
    assert_eq!(summary.size, closed.receipts, "{what}");
}

fn left(keys: &Path) -> Vec<String> {
    let files = std::fs::read_dir(keys).expect("listed");
    let mut names: Vec<_> = files
        .map(|file| file.expect("listed").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Damages the record of one collection, whichever of the two it is.
fn damaged(home: &Home, collection: &Account) -> Home {
    let whole = home.open().expect("opens");
    let digest = whole
        .gallery()
        .collections_of(collection)
        .next()
        .expect("one")
        .digest;
    drop(whole);
    let home = home.restarted(u64::MAX);
    let records = home.disk.keys(Family::Collections);
    let record = records.iter().find(|(_, key)| key.starts_with(&digest.0));
    home.disk.flip_record_bit(record.expect("it is there"), 900);
    home
}

#[test]
fn a_collection_that_cannot_be_read_goes_with_its_account_and_no_other_does() {
    let prepared = Home::prepared();
    let home = damaged(&prepared, &branch());
    let people = home.disk.keys(Family::Persons).len();
    let offline = home.open().expect("opens");
    assert_eq!(offline.gallery().collections_of(&branch()).count(), 0);
    let closed = offline
        .administration()
        .close_account(&branch(), REQUEST)
        .expect("closed");
    assert_eq!(
        (
            closed.unreadable_collections,
            closed.unreadable_left,
            closed.persons
        ),
        (1, 0, 2)
    );
    assert_eq!(
        home.disk.keys(Family::Persons).len(),
        people - 2,
        "they went with it"
    );
    assert_settled(&home.disk, offline.gallery(), "closed");

    // Another's stays, and the answer says that there is one.
    let home = damaged(&prepared, &account());
    let offline = home.open().expect("opens");
    let closed = offline
        .administration()
        .close_account(&branch(), REQUEST)
        .expect("closed");
    assert_eq!((closed.unreadable_collections, closed.unreadable_left), (0, 1));
    assert_eq!(home.disk.keys(Family::Collections).len(), 1);
    assert_eq!(home.disk.keys(Family::Persons).len(), 1);
}

#[test]
fn a_deployment_takes_what_cannot_be_read_with_it() {
    let home = damaged(&Home::prepared(), &branch());
    let closed = home
        .open()
        .expect("opens")
        .close_deployment(REQUEST)
        .expect("closed");
    assert_eq!(
        (closed.unreadable_collections, closed.persons, closed.accounts),
        (1, 3, 2)
    );
    assert_gone(&home, &closed, "closed");
    home.open().err().expect("no key is left to open it with");
}
