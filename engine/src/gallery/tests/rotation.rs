//! Rotation of the wrapping key: cut short anywhere, everyone is still there, and it goes on.

use parking_lot::Mutex;

use crate::gallery::tests::support::*;
use likeness_store::keys::{KeyRing, Purpose};
use likeness_store::testing::{FakeDisk, Fault};

const PEOPLE: u64 = 40;

/// A key store that keeps the last ring it was given, and can refuse to.
struct FakeStore(Mutex<KeyRing>);

impl FakeStore {
    fn save(&self, ring: &KeyRing) -> crate::Result<()> {
        *self.0.lock() = ring.without(|_| false);
        Ok(())
    }
}

fn wrapping_keys(ring: &KeyRing) -> usize {
    ring.all(Purpose::Wrapping).len()
}

#[test]
fn a_power_cut_at_any_operation_of_a_rotation_loses_nobody_and_the_rotation_goes_on() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    for n in 0..PEOPLE {
        enroll(&gallery, &one, &format!("p{n}"), &[n]).expect("enrolled");
    }
    drop(gallery);
    let first = ring.wrapping().id;
    let mut cuts = 0;
    for n in 0.. {
        let mut reached = false;
        for fault in [Fault::Crash, Fault::CrashLate, Fault::Fails] {
            for arrived in [u64::MAX, 0, 0x5555_5555_5555_5555] {
                let what = format!("{fault:?} at {n}, {arrived:x} arrived");
                let disk = disk.restarted(|_| true);
                let store = FakeStore(Mutex::new(ring.without(|_| false)));
                let now = std::sync::Arc::new(ring.without(|_| false));
                let gallery = opened(&disk, &now);
                disk.arm(n, fault);
                let rotated = gallery.rotate_wrapping(|ring| store.save(ring), &mut |_, _| {});
                drop(gallery);
                reached |= disk.fault_was_reached();
                let disk = disk.restarted(|write| arrived >> (write % 64) & 1 == 1);

                // Whatever was reached, everyone opens with the keys that the key store has now.
                let now = std::sync::Arc::new(store.0.into_inner());
                let gallery = opened(&disk, &now);
                let one = collection(&gallery, "one");
                for who in 0..PEOPLE {
                    assert_eq!(found(&gallery, &one, who), [format!("p{who}")], "{what}");
                }
                let store = FakeStore(Mutex::new(now.without(|_| false)));
                if rotated.is_err() || wrapping_keys(&now) > 1 {
                    let rotation = gallery.rotate_wrapping(|ring| store.save(ring), &mut |_, _| {});
                    assert!(rotation.expect("nothing is wrong").old_key_destroyed, "{what}");
                }
                assert_eq!(wrapping_keys(&now), 1, "{what}");
                assert_ne!(now.wrapping().id, first, "{what}");
                for slot in disk.used_slots() {
                    assert_eq!(disk.slot(slot)[4..20], now.wrapping().id.0, "{what}");
                }
            }
        }
        if !reached {
            break;
        }
        cuts += 1;
    }
    println!("{cuts} operations of a rotation at which the power went");
    // A slot for each person and for the collection, and one sync.
    assert_eq!(cuts, PEOPLE as usize + 2);
}

#[test]
fn people_are_enrolled_and_found_while_the_key_is_rotated() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                let rotation = gallery.rotate_wrapping(|_| Ok(()), &mut |_, _| {});
                assert!(rotation.expect("nothing is wrong").old_key_destroyed);
            }
        });
        for n in 0..200 {
            enroll(&gallery, &one, &format!("p{n}"), &[n]).expect("enrolled");
            assert_eq!(found(&gallery, &one, n), [format!("p{n}")]);
        }
    });
    assert_eq!(wrapping_keys(&ring), 1);
}

#[test]
fn a_damaged_slot_keeps_the_old_key_until_the_person_is_erased() {
    let (disk, ring) = (FakeDisk::default(), ring());
    let gallery = opened(&disk, &ring);
    let one = create(&gallery, "one");
    enroll(&gallery, &one, "ada", &[1]).expect("enrolled");
    let slot = *disk.used_slots().last().expect("Ada's");
    disk.flip_slot_bit(slot, 500);
    let rotate = || {
        gallery
            .rotate_wrapping(|_| Ok(()), &mut |_, _| {})
            .expect("rotated")
    };
    let rotation = rotate();
    assert_eq!(
        (
            rotation.rewrapped,
            rotation.unreadable,
            rotation.old_key_destroyed
        ),
        (1, 1, false)
    );
    assert_eq!(wrapping_keys(&ring), 2);
    gallery.delete(&one, &id("ada"), REQUEST).expect("erased");
    assert!(rotate().old_key_destroyed);
    assert_eq!(wrapping_keys(&ring), 1);
}
