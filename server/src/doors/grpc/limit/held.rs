//! Answers that hold the places of their calls, until their clients have taken them or have had long enough for it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;

use crate::call::places::Place;

/// Places whose clients were given something and have not taken it yet, by when they must have.
///
/// The transport asks an answer for no more before its client lets it, and has no clock for that. One task has the
/// clock of all of them: a task for each answer would wake a thread for each.
#[derive(Clone)]
pub(super) struct Given {
    /// How long a client may take for what it is given.
    patience: Duration,
    places: Arc<Mutex<BTreeMap<Due, Place>>>,
}

/// When a place is given back, and which of those of one moment it is.
type Due = (Instant, u64);

impl Given {
    /// Must be called where tasks can be spawned; the one that gives places back ends with the last of these.
    pub fn new(patience: Duration) -> Self {
        let given = Self {
            patience,
            places: Arc::default(),
        };
        tokio::spawn(give_back(Arc::downgrade(&given.places), patience));
        given
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Due, Place>> {
        lock(&self.places)
    }

    fn put(&self, place: Place) -> Due {
        let at = Instant::now() + self.patience;
        let mut places = self.places();
        let of_that_moment = places.range((at, 0)..=(at, u64::MAX)).next_back();
        let due = (at, of_that_moment.map_or(0, |((_, last), _)| last + 1));
        places.insert(due, place);
        due
    }

    /// None where it was given back.
    fn take(&self, due: Due) -> Option<Place> {
        self.places().remove(&due)
    }
}

fn lock<T>(places: &Mutex<T>) -> MutexGuard<'_, T> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives back what is due, for as long as anybody waits. Whatever comes while it sleeps is due a whole patience later,
/// so that nobody has to wake it.
async fn give_back(places: Weak<Mutex<BTreeMap<Due, Place>>>, patience: Duration) {
    loop {
        let next = {
            let Some(places) = places.upgrade() else { return };
            let (mut places, now) = (lock(&places), Instant::now());
            let later = places.split_off(&(now, u64::MAX));
            drop(std::mem::replace(&mut *places, later));
            let first = places.first_key_value().map(|((at, _), _)| *at);
            first.unwrap_or(now + patience)
        };
        tokio::time::sleep_until(next).await;
    }
}

/// An answer, with the place of its call.
pub(super) struct Held {
    body: Body,
    given: Given,
    /// Of a call whose client has taken all that it was given.
    place: Option<Place>,
    /// Where it is otherwise.
    due: Option<Due>,
}

impl Held {
    pub fn new(body: Body, place: Place, given: Given) -> Self {
        Self {
            body,
            given,
            place: Some(place),
            due: None,
        }
    }

    /// The transport has something to send.
    fn give(&mut self) {
        self.due = self.place.take().map(|place| self.given.put(place));
    }

    /// It has sent that.
    fn taken(&mut self) {
        if let Some(due) = self.due.take() {
            self.place = self.given.take(due);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.taken();
    }
}

impl HttpBody for Held {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        self.taken();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && frame.is_data()
        {
            self.give();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use tonic::codegen::Bytes;

    use super::*;
    use crate::call::places::Places;

    const PATIENCE: Duration = Duration::from_millis(400);

    /// An answer of one piece.
    struct One(Option<Bytes>);

    impl HttpBody for One {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn held(all: &Places, given: &Given) -> Held {
        let answer = Body::new(One(Some(Bytes::from_static(b"an answer"))));
        let place = all.take(None).expect("one is free");
        Held::new(answer, place, given.clone())
    }

    /// Whether the transport was given a piece.
    fn is_asked(held: &mut Held) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        matches!(Pin::new(held).poll_frame(&mut context), Poll::Ready(Some(Ok(_))))
    }

    #[tokio::test]
    async fn a_place_is_given_back_when_its_client_has_had_long_enough() {
        let (all, given) = (Places::new(48), Given::new(PATIENCE));
        let mut stalled = [(); 2].map(|()| held(&all, &given));
        let unasked = held(&all, &given);
        // While whoever gives places back sleeps, for nothing is due.
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(stalled.iter_mut().all(is_asked));
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(all.taken_count(), 3, "half of the time is left");
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(all.taken_count(), 1, "nothing was given to the third");
        drop((stalled, unasked));
        assert_eq!(all.taken_count(), 0, "each is given back once");
    }

    #[tokio::test]
    async fn a_client_that_takes_what_it_is_given_has_its_place_until_the_answer_is_over() {
        let (all, given) = (Places::new(1), Given::new(PATIENCE));
        let mut held = held(&all, &given);
        assert!(is_asked(&mut held));
        assert!(!is_asked(&mut held), "that was all");
        tokio::time::sleep(PATIENCE * 2).await;
        assert_eq!(all.taken_count(), 1);
        drop(held);
        assert_eq!(all.taken_count(), 0);
        assert!(given.places().is_empty());
    }

    #[tokio::test]
    async fn whoever_gives_places_back_ends_with_the_server() {
        let given = Given::new(PATIENCE);
        let places = Arc::downgrade(&given.places);
        drop(given);
        let ended = tokio::time::timeout(PATIENCE * 4, give_back(places, PATIENCE));
        assert!(ended.await.is_ok());
    }
}
