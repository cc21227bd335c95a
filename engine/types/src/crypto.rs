//! Cryptographic primitives: random keys, one AEAD, one keyed digest.
//!
//! XChaCha20-Poly1305 because its 24-byte nonces may be drawn at random for life; BLAKE3 in its
//! keyed mode for digests, with a hard-coded context for every use.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use postcard::ser_flavors::Size;
use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

use crate::swap;

/// Bytes of a nonce of the AEAD.
pub const NONCE_BYTES: usize = 24;
/// Bytes the AEAD adds to what it seals.
pub const TAG_BYTES: usize = 16;

/// A 256-bit key: cannot be cloned or printed, and is wiped when it goes.
pub struct Secret(Place);

/// Where a key lies in memory.
enum Place {
    Heap(Box<[u8; 32]>),
    /// A page of its own that is never written to swap, for keys that live as long as the process.
    /// ORDER: the lock first, since fields are dropped in their order: a page given back may be another key's when it is
    /// unlocked.
    Locked(
        #[allow(dead_code, reason = "held for its lock")] Option<region::LockGuard>,
        Box<Page>,
    ),
}

/// Locking works by the page: a shared page would be unlocked with the first key in it that goes.
#[repr(align(4096))]
struct Page([u8; 4096]);

impl Secret {
    /// A key drawn from the operating system.
    pub fn random() -> Self {
        let mut bytes = Box::new([0; 32]);
        fill_random(&mut *bytes);
        Self(Place::Heap(bytes))
    }

    /// Takes over a key read from somewhere; the source is wiped.
    pub fn take(bytes: &mut [u8; 32]) -> Self {
        let secret = Self(Place::Heap(Box::new(*bytes)));
        bytes.zeroize();
        secret
    }

    /// The same key on a page of its own that the system may not write to swap. Where the system's
    /// limit on locked memory forbids it, the log says so, and the key serves all the same.
    pub fn locked(self) -> Self {
        let mut page = Box::new(Page([0; 4096]));
        let guard = swap::keep_out(&page.0);
        page.0[..32].copy_from_slice(self.expose());
        Self(Place::Locked(guard, page))
    }

    /// The bytes of the key.
    pub fn expose(&self) -> &[u8; 32] {
        match &self.0 {
            Place::Heap(bytes) => bytes,
            Place::Locked(_, page) => page.0.first_chunk().expect("a page is longer than a key"),
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        match &mut self.0 {
            Place::Heap(bytes) => bytes.zeroize(),
            Place::Locked(_, page) => page.0[..32].zeroize(),
        }
    }
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

fn fill_random(bytes: &mut [u8]) {
    // Without randomness nothing may be sealed or named, so there is nothing to continue with.
    getrandom::fill(bytes).expect("the operating system provides randomness");
}

/// Seals `plain` under `key`; the result is `TAG_BYTES` longer.
pub fn seal(key: &Secret, nonce: &[u8; NONCE_BYTES], plain: &[u8], bound: &[u8]) -> Vec<u8> {
    cipher(key)
        .encrypt(
            &XNonce::from(*nonce),
            Payload {
                msg: plain,
                aad: bound,
            },
        )
        .expect("a message in memory is far below the cipher's limit of 256 GiB")
}

/// Opens what [`seal`] made, or `None` when key, nonce, bytes or binding differ in any bit.
pub fn open(
    key: &Secret,
    nonce: &[u8; NONCE_BYTES],
    sealed: &[u8],
    bound: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    cipher(key)
        .decrypt(
            &XNonce::from(*nonce),
            Payload {
                msg: sealed,
                aad: bound,
            },
        )
        .ok()
        .map(Zeroizing::new)
}

fn cipher(key: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(<&Key>::from(key.expose()))
}

/// Joins parts so that no two different lists of parts give the same bytes: each is preceded by its
/// length (u32, little endian).
pub fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(parts.iter().map(|p| 4 + p.len()).sum());
    for part in parts {
        let length = u32::try_from(part.len()).expect("no bound part comes near 4 GiB");
        joined.extend_from_slice(&length.to_le_bytes());
        joined.extend_from_slice(part);
    }
    joined
}

/// Plain values as bytes, wiped when they go. They are measured first, because a vector that grows leaves
/// copies behind.
pub fn plain_bytes(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let size = postcard::serialize_with_flavor(value, Size::default()).expect("plain values serialise");
    let mut bytes = Zeroizing::new(vec![0; size]);
    postcard::to_slice(value, &mut bytes).expect("they have the size they were measured at");
    bytes
}

/// A keyed digest of several parts, for one purpose named by `context`.
pub fn keyed_digest<const N: usize>(key: &Secret, context: &'static str, parts: &[&[u8]]) -> [u8; N] {
    let mut output = [0; N];
    blake3::Hasher::new_keyed(key.expose())
        .update(&length_prefixed(&[context.as_bytes()]))
        .update(&length_prefixed(parts))
        .finalize_xof()
        .fill(&mut output);
    output
}

/// A digest that commits to a key without revealing it.
pub fn commitment<const N: usize>(key: &Secret) -> [u8; N] {
    let mut output = [0; N];
    blake3::Hasher::new_derive_key("likeness v1 commitment to a data key")
        .update(key.expose())
        .finalize_xof()
        .fill(&mut output);
    output
}

/// Lower-case hex, for identifiers.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
}

/// The bytes of exactly `2 * N` hex digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_the_same_key_nonce_and_binding() {
        let (key, nonce) = (Secret::random(), random());
        let sealed = seal(&key, &nonce, b"templates", b"person 1");
        assert_eq!(sealed.len(), b"templates".len() + TAG_BYTES);
        let opened = open(&key, &nonce, &sealed, b"person 1").expect("nothing differs");
        assert_eq!(&*opened, b"templates");
        assert!(open(&Secret::random(), &nonce, &sealed, b"person 1").is_none());
        assert!(open(&key, &random(), &sealed, b"person 1").is_none());
        assert!(open(&key, &nonce, &sealed, b"person 2").is_none());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &nonce, &flipped, b"person 1").is_none());
        }
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_digest() {
        let key = Secret::random();
        let one: [u8; 16] = keyed_digest(&key, "test", &[b"ab", b"c"]);
        let other: [u8; 16] = keyed_digest(&key, "test", &[b"a", b"bc"]);
        assert_ne!(one, other);
    }

    #[test]
    fn hex_and_back_is_the_same_and_anything_else_is_refused() {
        assert_eq!(unhex::<3>(&hex(&[0, 171, 255])), Some([0, 171, 255]));
        assert_eq!(unhex::<3>("00abf"), None);
        assert_eq!(unhex::<3>("00abfg"), None);
        assert_eq!(unhex::<1>("é"), None);
    }
}
