//! Accounts and keys against disks that fail; whoever may not be known is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::access::{AccountInfo, AccountSettings, ApiKey, NewApiKey, Quotas, Scope, Scopes};
use crate::gallery::Gallery;
use crate::gallery::tests::support::*;
use likeness_store::keys::KeyRing;
use likeness_store::records::Family;
use likeness_store::testing::{FakeDisk, Fault};
use likeness_types::act::{Act, AuditEntry};
use likeness_types::error::Result;
use likeness_types::names::{Account, RandomId};
use likeness_types::person::Timestamp;

fn branch() -> Account {
    Account::parse("branch").expect("a name")
}

fn new_key() -> NewApiKey {
    NewApiKey {
        scopes: Scopes::from_iter([Scope::Search]),
        ..NewApiKey::default()
    }
}

fn lets_in(gallery: &Gallery, ring: &KeyRing, key: &ApiKey) -> bool {
    gallery.accounts.grant(&ring.digest().secret, key).is_some()
}

/// What an operator sees: the accounts, and their keys' ids.
fn seen(gallery: &Gallery) -> Vec<(AccountInfo, Vec<RandomId>)> {
    let accounts = gallery.accounts.list(None, 100);
    let with_keys = accounts.into_iter().map(|info| {
        let keys = gallery.accounts.keys(&info.name).expect("it is listed");
        let ids = keys.iter().map(|key| key.id).collect();
        // A moment is another one each time.
        let closed = info.closed.map(|_| Timestamp(1));
        (AccountInfo { closed, ..info }, ids)
    });
    with_keys.collect()
}

/// An account with two keys.
fn prepared() -> (FakeDisk, Arc<KeyRing>, [ApiKey; 2]) {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    gallery
        .create_account(&branch(), AccountSettings::default())
        .expect("made");
    let keys = [(), ()].map(|()| gallery.create_api_key(&branch(), new_key()).expect("made").0);
    (disk, ring, keys)
}

type Change = fn(&Gallery, &ApiKey) -> Result<()>;

/// Changes of accounts, by name.
const STORIES: [(&str, Change); 4] = [
    ("revoke", |gallery, key| {
        gallery.revoke_api_key(&branch(), key.id, REQUEST)
    }),
    ("update", |gallery, _| {
        let change = |settings: AccountSettings| AccountSettings {
            quotas: Quotas {
                persons: 7,
                ..settings.quotas
            },
            ..settings
        };
        gallery.update_account(&branch(), change).map(drop)
    }),
    ("begin to close", |gallery, _| gallery.begin_closing(&branch())),
    ("create", |gallery, _| {
        let another = Account::parse("another").expect("a name");
        gallery
            .create_account(&another, AccountSettings::default())
            .map(drop)
    }),
];

#[test]
fn a_power_cut_at_any_operation_leaves_a_change_of_accounts_complete_or_absent() {
    let mut cuts = 0;
    for (name, change) in STORIES {
        for fault in [Fault::Crash, Fault::CrashLate] {
            for arrived in [u64::MAX, 0, 0x5555_5555] {
                for n in 0.. {
                    let what = format!("{name}: {fault:?} at {n}, {arrived:x} arrived");
                    let (disk, ring, keys) = prepared();
                    let gallery = opened(&disk, &ring);
                    let before = seen(&gallery);
                    disk.arm(n, fault);
                    let outcome = change(&gallery, &keys[0]);
                    let reached = disk.fault_was_reached();
                    let after = outcome.is_ok().then(|| seen(&gallery));
                    drop(gallery);
                    let disk = disk.restarted(|write| arrived >> (write % 64) & 1 == 1);
                    let (reopened, report) = open(&disk, &ring).expect("opens after a crash");
                    assert_eq!(report.damaged_accounts, 0, "{what}");
                    assert!(
                        lets_in(&reopened, &ring, &keys[1]) || name == "begin to close",
                        "{what}"
                    );
                    let now = seen(&reopened);
                    match after {
                        Some(after) => assert_eq!(now, after, "{what}: acknowledged"),
                        None if now == before => assert!(lets_in(&reopened, &ring, &keys[0]), "{what}"),
                        None => {}
                    }
                    if outcome.is_ok() && name == "revoke" {
                        assert!(!lets_in(&reopened, &ring, &keys[0]), "{what}");
                    }
                    assert_eq!(
                        disk.used_slots().len(),
                        disk.sealed_records(),
                        "{what}: no key is left behind"
                    );
                    cuts += 1;
                    if !reached {
                        break;
                    }
                }
            }
        }
    }
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn a_revoked_key_is_refused_from_the_moment_on_whatever_becomes_of_the_disk() {
    for n in 0..6 {
        let (disk, ring, keys) = prepared();
        let gallery = opened(&disk, &ring);
        let grant = gallery
            .accounts
            .grant(&ring.digest().secret, &keys[0])
            .expect("good");
        disk.arm(n, Fault::Fails);
        let _ = gallery.revoke_api_key(&branch(), keys[0].id, REQUEST);
        assert!(!grant.is_live(), "a call that is on its way is refused");
        assert!(!lets_in(&gallery, &ring, &keys[0]));
        assert!(lets_in(&gallery, &ring, &keys[1]));
    }
}

#[test]
fn a_key_ends_when_it_says_and_a_call_that_began_before_with_it() {
    let (disk, ring, clock) = (FakeDisk::default(), ring(), Arc::new(AtomicU64::new(1000)));
    let gallery = open_at_time(&disk, &ring, &clock);
    gallery
        .create_account(&branch(), AccountSettings::default())
        .expect("made");
    let until = NewApiKey {
        expires: Some(Timestamp(2000)),
        ..new_key()
    };
    let (key, _) = gallery.create_api_key(&branch(), until).expect("made");
    let grant = gallery.accounts.grant(&ring.digest().secret, &key).expect("good");
    clock.store(1999, Ordering::SeqCst);
    assert!(grant.is_live() && lets_in(&gallery, &ring, &key));
    clock.store(2000, Ordering::SeqCst);
    assert!(!grant.is_live() && !lets_in(&gallery, &ring, &key));
}

#[test]
fn a_record_that_cannot_be_read_lets_nobody_in() {
    let (disk, ring, keys) = prepared();
    for record in disk.keys(Family::Accounts) {
        let damaged = disk.restarted(|_| true);
        damaged.flip_record_bit(&record, 900);
        let (gallery, report) = open(&damaged, &ring).expect("opens");
        assert_eq!(report.damaged_accounts, 1);
        let in_all = keys.iter().filter(|key| lets_in(&gallery, &ring, key)).count();
        // The account's own record speaks for both keys, a key's for itself.
        assert!(in_all < keys.len());
        let made = gallery.create_account(&branch(), AccountSettings::default());
        assert!(
            made.is_err(),
            "a record that cannot be read is an account all the same"
        );
    }
}

#[test]
fn an_entry_that_was_changed_removed_or_moved_stops_the_start() {
    let (disk, ring, _) = prepared();
    let gallery = opened(&disk, &ring);
    for object in ["one", "two", "three"] {
        let entry = AuditEntry {
            account: branch(),
            key: None,
            request: REQUEST,
            act: Act::CreateCollection,
            of: branch(),
            object: object.to_owned(),
        };
        gallery.audited(&entry, || Ok(())).expect("written");
    }
    let mut objects = Vec::new();
    let size = gallery.audit_log(1, &mut |audited| {
        objects.push(audited.entry.object);
        true
    });
    assert_eq!(
        (size.expect("read"), objects),
        (3, vec!["two".to_owned(), "three".to_owned()])
    );
    drop(gallery);
    let entries = disk.keys(Family::Audit);
    assert_eq!(entries.len(), 3);
    let refused = |change: &dyn Fn(&FakeDisk)| {
        let other = disk.restarted(|_| true);
        change(&other);
        open(&other, &ring).is_err()
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|disk| disk.flip_record_bit(&entries[1], 300)));
    assert!(refused(&|disk| drop(disk.0.lock().records.remove(&entries[1]))));
    assert!(refused(&|disk| {
        let mut state = disk.0.lock();
        let first = state.records[&entries[0]].clone();
        state.records.insert(entries[1].clone(), first);
    }));
}
