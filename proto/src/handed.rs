//! Messages handed to their decoder whole, in memory of their own, past the buffer of the transport's library.
//!
//! tonic's decoder reserves what a client announces, ends the process where there is no memory for it, and keeps
//! what it has decoded until its stream ends. A server that collects each message itself (fallibly, in memory that is
//! overwritten) gives it to a [`Hand`], and passes tonic the frame that the hand answers: a number in place of the
//! message. The decoder takes the message for the number. Where no message was given, as in every client, it decodes
//! what it is shown.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// Of the number that stands for a message.
const NUMBER_BYTES: usize = 8;
/// Of a frame's head: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// No message has the number of another, whatever stream it came in.
static NEXT: AtomicU64 = AtomicU64::new(0);

type Slot = Mutex<Option<Bytes>>;

thread_local! {
    /// The last message given on this thread. tonic decodes a frame on the thread that polled for it, before it
    /// polls for the next.
    static GIVEN: RefCell<Option<(u64, Weak<Slot>)>> = const { RefCell::new(None) };
}

/// Holds a message between a body and its decoder, one at a time; what no decoder takes goes with the hand.
#[derive(Default)]
pub struct Hand(Arc<Slot>);

impl Hand {
    /// Holds the message; answers the frame to pass to tonic in its place, at once and on this thread.
    pub fn give(&self, message: Bytes) -> Bytes {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        GIVEN.set(Some((number, Arc::downgrade(&self.0))));
        let mut frame = BytesMut::with_capacity(HEAD_BYTES + NUMBER_BYTES);
        frame.put_u8(0);
        frame.put_u32(NUMBER_BYTES as u32);
        frame.put_u64(number);
        frame.freeze()
    }
}

/// The message that these bytes stand for, if they stand for one.
fn given_for(shown: &[u8]) -> Option<Bytes> {
    let shown = u64::from_be_bytes(shown.try_into().ok()?);
    let slot = GIVEN.with_borrow_mut(|given| match given {
        Some((number, _)) if *number == shown => given.take(),
        _ => None,
    });
    let slot = slot?.1.upgrade()?;
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Messages of protocol buffers, which a server may have been handed.
#[derive(Clone)]
pub struct HandedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for HandedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for HandedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = HandedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> HandedDecoder<U> {
        HandedDecoder(PhantomData)
    }
}

/// Decodes the message that was handed over, or else what it is shown.
pub struct HandedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for HandedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, shown: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let decoded = match given_for(shown.chunk()) {
            Some(message) => {
                shown.advance(shown.remaining());
                U::decode(message)
            }
            None => U::decode(shown),
        };
        // As the library says it; it names fields, and nothing of what is in them.
        decoded
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once_by_its_number_and_by_no_other() {
        let hand = Hand::default();
        let frame = hand.give(Bytes::from_static(b"a message"));
        let number = &frame[HEAD_BYTES..];
        let mut other = <[u8; NUMBER_BYTES]>::try_from(number).expect("a number");
        other[0] ^= 1;
        assert!(given_for(&other).is_none() && given_for(b"short").is_none());
        assert_eq!(given_for(number).as_deref(), Some(&b"a message"[..]));
        assert!(given_for(number).is_none());
    }

    struct Shared(Arc<[u8; 9]>);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }

    #[test]
    fn a_message_that_no_decoder_takes_goes_with_the_hand() {
        let (hand, bytes) = (Hand::default(), Arc::new(*b"a message"));
        let frame = hand.give(Bytes::from_owner(Shared(Arc::clone(&bytes))));
        assert_eq!(Arc::strong_count(&bytes), 2);
        drop(hand);
        assert_eq!(Arc::strong_count(&bytes), 1);
        assert!(given_for(&frame[HEAD_BYTES..]).is_none());
    }
}
