//! Bytes of a client's message, overwritten wherever they were: in the transport's frame, in the buffer that grows,
//! and in the whole message when it is done with.

use std::collections::TryReserveError;

use tonic::codegen::Bytes;

/// Overwrites the bytes, and makes the compiler believe that the zeros are read.
fn overwrite(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

/// A buffer whose bytes are overwritten when it moves and when it goes.
#[derive(Default)]
pub struct Wiped(Vec<u8>);

impl Wiped {
    /// How many bytes have come.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many have room.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Room for so many bytes in all.
    ///
    /// # Errors
    /// There is no memory for them; what has come is still here.
    pub fn grow(&mut self, capacity: usize) -> Result<(), TryReserveError> {
        let mut larger = Vec::new();
        larger.try_reserve_exact(capacity)?;
        larger.extend_from_slice(&self.0);
        overwrite(&mut self.0);
        self.0 = larger;
        Ok(())
    }

    /// As many of these bytes as have room; answers how many.
    pub fn fill(&mut self, from: &[u8]) -> usize {
        let room = self.0.capacity() - self.0.len();
        let taken = from.len().min(room);
        self.0.extend_from_slice(&from[..taken]);
        taken
    }
}

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        overwrite(&mut self.0);
    }
}

/// The payload of one DATA frame, as the HTTP/2 library gave it; overwritten in place when it goes.
pub struct Frame {
    /// All of it, until it goes.
    bytes: Bytes,
    /// So much of it has been read.
    read: usize,
}

impl Frame {
    /// Only for what [`super::frames::Frames`] reads from the transport: the bytes are written to.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, read: 0 }
    }

    /// What has not been read.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// So many more bytes have been read.
    pub fn advance(&mut self, bytes: usize) {
        self.read += bytes;
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        match std::mem::take(&mut self.bytes).try_into_mut() {
            // The last that is left of its read buffer.
            Ok(mut bytes) => overwrite(&mut bytes),
            Err(shared) => overwrite_shared(&shared),
        }
    }
}

/// Overwrites a slice of the HTTP/2 library's read buffer, which other slices of the same buffer keep alive.
///
/// Without it a photograph stays in the read buffer for as long as its connection is open: the buffer is freed, or
/// used again, only when every frame in it has gone.
#[allow(
    unsafe_code,
    reason = "`Bytes` gives write access to the owner of a whole buffer only, and here the buffer has several owners of \
              a part each; after a call every byte of its photograph was found in the process"
)]
fn overwrite_shared(frame: &Bytes) {
    let bytes = frame.as_ptr().cast_mut();
    // SAFETY: `frame` is the payload of one DATA frame as h2 hands it to the body of one stream, which only `Frames`
    // reads: h2 splits it off its read buffer (`BytesMut::split_to`), so that no other slice covers these bytes, and
    // keeps no copy of the handle; hyper and tonic pass it on by value; and nothing between here and them clones it.
    // The memory is h2's heap buffer, writable and alive for as long as `frame` is borrowed here. So no other thread
    // or handle reads or writes these bytes meanwhile, and after this nothing reads them through `frame`: it is about
    // to be dropped.
    unsafe { std::ptr::write_bytes(bytes, 0, frame.len()) };
    zeroize::optimization_barrier(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use likeness_proto::bytes::BytesMut;

    /// A read buffer with two frames in it, as h2 makes them: the second is still alive.
    fn frames() -> (Bytes, Bytes) {
        let mut buffer = BytesMut::from(&b"a photograph|another stream's"[..]);
        let first = buffer.split_to(12).freeze();
        (first, buffer.freeze())
    }

    /// What is at the place of the first frame, seen from the whole of its buffer again.
    fn seen_again(first: Bytes, second: Bytes) -> (Vec<u8>, Vec<u8>) {
        let (start, length) = (first.as_ptr() as usize, first.len());
        drop(Frame::new(first));
        // The last owner of the buffer has all of it back.
        let second = second.try_into_mut().expect("the only one that is left");
        let mut whole = second;
        let text = whole.to_vec();
        whole.clear();
        // Grows to the front: the place of the first frame is its own again, with what it held.
        assert!(whole.try_reclaim(length + text.len()));
        assert_eq!(whole.as_ptr() as usize, start);
        let spare = whole.spare_capacity_mut();
        // What lies there was written above, or by the test.
        let held = spare[..length]
            .iter()
            .map(|byte| {
                #[allow(unsafe_code, reason = "a test reads what is left in a buffer")]
                // SAFETY: written before the frame was split off.
                unsafe {
                    byte.assume_init()
                }
            })
            .collect();
        (held, text)
    }

    #[test]
    fn a_frame_is_overwritten_in_place_and_its_neighbour_is_not() {
        let (first, second) = frames();
        let (held, neighbour) = seen_again(first, second);
        assert_eq!(held, [0; 12]);
        assert_eq!(neighbour, b"|another stream's");
    }

    #[test]
    fn without_that_the_frame_would_be_found() {
        let (first, second) = frames();
        let length = first.len();
        let start = first.as_ptr() as usize;
        drop(first);
        let mut whole = second.try_into_mut().expect("the only one that is left");
        let text = whole.len();
        whole.clear();
        assert!(whole.try_reclaim(length + text));
        assert_eq!(whole.as_ptr() as usize, start);
        #[allow(unsafe_code, reason = "a test reads what is left in a buffer")]
        // SAFETY: written before the frame was split off.
        let held: Vec<_> = whole.spare_capacity_mut()[..length]
            .iter()
            .map(|byte| unsafe { byte.assume_init() })
            .collect();
        assert_eq!(held, b"a photograph");
    }

    #[test]
    fn a_buffer_keeps_what_has_come_when_it_grows_and_fills_no_more_than_its_room() {
        let mut buffer = Wiped::default();
        buffer.grow(4).expect("memory");
        assert_eq!(buffer.fill(b"abcdef"), 4);
        buffer.grow(6).expect("memory");
        assert_eq!(buffer.fill(b"ef"), 2);
        assert_eq!(buffer.as_ref(), b"abcdef");
        assert!(buffer.grow(usize::MAX).is_err());
        assert_eq!((buffer.as_ref(), buffer.capacity()), (&b"abcdef"[..], 6));
    }
}
