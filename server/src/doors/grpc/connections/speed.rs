//! How fast the frames of a connection are read: a client that only sends frames about the connection itself (settings,
//! pings, resets) is read slowly, and nothing is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What every HTTP/2 client says first, in bytes.
const PREFACE_BYTES: usize = 24;
/// Of a frame.
const HEADER_BYTES: usize = 9;
/// The type of frames that carry messages.
const DATA: u8 = 0;
/// Where no valid key was shown, so many bytes cost as much as a frame.
const BYTES_OF_A_FRAME: f64 = 4096.0;

/// Frames that a connection may send at its beginning, before any key was shown on it.
const FIRST_FRAMES: f64 = 64.0;
/// Frames of all connections of an address on which no valid key was shown: at once, and in a second.
const KEYLESS_FRAMES: f64 = 512.0;
const KEYLESS_FRAMES_PER_SECOND: f64 = 256.0;
/// Frames of a connection on which a valid key was shown, but for those that carry messages: at once, and in a second.
const KEYED_FRAMES: f64 = 16_384.0;
const KEYED_FRAMES_PER_SECOND: f64 = 16_384.0;
/// From one look to the next while a connection is not read.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Tokens that come back with time.
#[derive(Debug)]
pub(super) struct Bucket {
    most: f64,
    per_second: f64,
    /// May be negative: what came was read already.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub fn new(most: f64, per_second: f64) -> Self {
        Self {
            most,
            per_second,
            level: Mutex::new((most, Instant::now())),
        }
    }

    fn after(&self, cost: f64) -> f64 {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = now.saturating_duration_since(level.1).as_secs_f64();
        *level = ((level.0 + since * self.per_second).min(self.most) - cost, now);
        level.0
    }

    /// Takes so many, which may be more than there are.
    pub fn charge(&self, cost: f64) {
        self.after(cost);
    }

    /// Takes one if there is one.
    pub fn take(&self) -> bool {
        let there_is = self.after(0.0) >= 1.0;
        if there_is {
            self.charge(1.0);
        }
        there_is
    }

    /// How long until nothing is owed.
    pub fn wait(&self) -> Option<Duration> {
        let level = self.after(0.0);
        (level < 0.0).then(|| Duration::from_secs_f64(-level / self.per_second))
    }

    /// Whether all that were taken have come back.
    pub fn is_full(&self) -> bool {
        self.after(0.0) >= self.most
    }
}

/// What all connections of an address may send together, before a valid key is shown.
pub(super) fn of_an_address() -> Arc<Bucket> {
    Arc::new(Bucket::new(KEYLESS_FRAMES, KEYLESS_FRAMES_PER_SECOND))
}

/// The speed of one connection.
#[derive(Debug)]
pub(super) struct Speed {
    first: Bucket,
    of_the_address: Arc<Bucket>,
    keyed: Bucket,
}

impl Speed {
    pub fn new(of_the_address: Arc<Bucket>) -> Self {
        Self {
            first: Bucket::new(FIRST_FRAMES, 0.0),
            of_the_address,
            keyed: Bucket::new(KEYED_FRAMES, KEYED_FRAMES_PER_SECOND),
        }
    }

    /// These came.
    pub fn charge(&self, came: Came, is_keyed: bool) {
        if is_keyed {
            return self.keyed.charge(came.control as f64);
        }
        let cost = came.frames as f64 + came.bytes as f64 / BYTES_OF_A_FRAME;
        if self.first.after(0.0) > 0.0 {
            self.first.charge(cost);
        } else {
            self.of_the_address.charge(cost);
        }
    }

    /// How long the connection is not to be read, if it is not.
    pub fn wait(&self, is_keyed: bool) -> Option<Duration> {
        let wait = if is_keyed {
            self.keyed.wait()
        } else if self.first.after(0.0) > 0.0 {
            None
        } else {
            self.of_the_address.wait()
        };
        wait.map(|wait| wait.min(PAUSE_MAX))
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Came {
    pub bytes: usize,
    pub frames: usize,
    /// Of the frames, those that carry no part of a message.
    pub control: usize,
}

/// Where in a client's frames the reading is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that belong to no header: of the preface at first, then of payloads.
    skipped: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skipped: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
        }
    }
}

impl Frames {
    /// Counts the frames that begin in these bytes, which follow those before.
    pub fn read(&mut self, mut bytes: &[u8]) -> Came {
        let mut came = Came {
            bytes: bytes.len(),
            ..Came::default()
        };
        loop {
            let skipped = self.skipped.min(bytes.len());
            self.skipped -= skipped;
            bytes = &bytes[skipped..];
            let some = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            if some == 0 {
                return came;
            }
            self.header[self.header_bytes..][..some].copy_from_slice(&bytes[..some]);
            self.header_bytes += some;
            bytes = &bytes[some..];
            if self.header_bytes < HEADER_BYTES {
                return came;
            }
            let [high, middle, low, kind, ..] = self.header;
            self.header_bytes = 0;
            self.skipped = u32::from_be_bytes([0, high, middle, low]) as usize;
            came.frames += 1;
            came.control += usize::from(kind != DATA || self.skipped == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, and so many bytes behind it.
    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("small").to_be_bytes();
        let header = [length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
        [&header[..], &vec![7; payload]].concat()
    }

    #[test]
    fn frames_are_counted_however_they_are_cut_into_pieces() {
        let sent = [
            vec![7; PREFACE_BYTES],
            frame(4, 0),
            frame(1, 300),
            frame(DATA, 70_000),
            frame(DATA, 0),
            frame(6, 8),
        ]
        .concat();
        for piece in [1, 2, 9, 10, 33, 1000, sent.len()] {
            let mut frames = Frames::default();
            let (mut count, mut control) = (0, 0);
            for bytes in sent.chunks(piece) {
                let came = frames.read(bytes);
                count += came.frames;
                control += came.control;
            }
            assert_eq!((count, control), (5, 4), "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn without_a_key_an_address_is_slowed_down_and_with_one_a_connection_is_fast() {
        let address = of_an_address();
        let flood = Speed::new(Arc::clone(&address));
        let came = Came {
            bytes: 0,
            frames: 100,
            control: 100,
        };
        let mut read = 0;
        while flood.wait(false).is_none() {
            flood.charge(came, false);
            read += 100;
        }
        assert!((500..1000).contains(&read), "{read}");
        assert!(
            Speed::new(Arc::clone(&address)).wait(false).is_none(),
            "another one begins"
        );
        assert!(flood.wait(true).is_none(), "a key was shown");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(flood.wait(false).is_none());
    }
}
