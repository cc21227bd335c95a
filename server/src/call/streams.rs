//! Streams that last: a bounded number for each account, and each says how it ended.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use likeness_engine::Account;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::config::{IMPORTS_PER_ACCOUNT_MAX, STREAMS_PER_ACCOUNT_MAX};
use crate::refusal::{Refusal, Refused};

/// A stream ends when it ends: this is a guess.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// From one look for a place to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How many streams each account has open.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<(Account, Kind), usize>>>);

/// What is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Holds large messages.
    Import,
    /// Any other.
    Other,
}

impl Kind {
    const fn most(self) -> usize {
        match self {
            Self::Import => IMPORTS_PER_ACCOUNT_MAX,
            Self::Other => STREAMS_PER_ACCOUNT_MAX,
        }
    }
}

impl Streams {
    /// One more stream of an account, until what is returned is dropped.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn open(&self, account: &Account, kind: Kind) -> Result<OpenStream, Refusal> {
        let key = (account.clone(), kind);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key.clone()).or_default();
        if *count >= kind.most() {
            return Err(Refusal::Busy(RETRY_AFTER));
        }
        *count += 1;
        Ok(OpenStream {
            streams: self.clone(),
            key,
        })
    }
}

impl Streams {
    /// The same, for as long as `wait` after it was asked for: a stream that was cut takes a moment to end what it
    /// had begun.
    ///
    /// # Errors
    /// None of the account's ended meanwhile.
    pub async fn open_within(
        &self,
        account: &Account,
        kind: Kind,
        wait: Duration,
    ) -> Result<OpenStream, Refusal> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            match self.open(account, kind) {
                Err(_) if tokio::time::Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                opened => return opened,
            }
        }
    }
}

/// A stream that counts.
pub struct OpenStream {
    streams: Streams,
    key: (Account, Kind),
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

/// Answers of a stream, and after them the refusal that it ends with, if any.
pub struct Answers<T> {
    answers: mpsc::Receiver<Result<T, Refused>>,
    last: LastWord,
}

/// The refusal that a stream ends with, once its answers are taken. It needs no room among them: a client that takes
/// none is told all the same, should it ever ask.
#[derive(Clone, Default)]
pub struct LastWord(Arc<Mutex<Option<Refused>>>);

impl LastWord {
    /// ORDER: said before the last sender of answers goes.
    pub fn say(&self, refused: Refused) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }
}

impl<T> Answers<T> {
    /// These answers, then the last word.
    pub fn new(answers: mpsc::Receiver<Result<T, Refused>>) -> (Self, LastWord) {
        let last = LastWord::default();
        let answers = Self {
            answers,
            last: last.clone(),
        };
        (answers, last)
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Refused>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.answers.poll_recv(context));
        Poll::Ready(answer.or_else(|| {
            let mut last = self.last.0.lock().unwrap_or_else(PoisonError::into_inner);
            last.take().map(Err)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_streams_and_takes_nobody_elses() {
        let (streams, [one, other]) = (
            Streams::default(),
            ["a", "b"].map(|name| Account::parse(name).expect("a name")),
        );
        let open: Vec<_> = (0..IMPORTS_PER_ACCOUNT_MAX)
            .map(|_| streams.open(&one, Kind::Import).expect("a place"))
            .collect();
        assert!(matches!(streams.open(&one, Kind::Import), Err(Refusal::Busy(_))));
        assert!(streams.open(&one, Kind::Other).is_ok());
        assert!(streams.open(&other, Kind::Import).is_ok());
        drop(open);
        assert!(streams.open(&one, Kind::Import).is_ok());
        assert!(
            streams.0.lock().expect("whole").is_empty(),
            "nobody is remembered"
        );
    }
}
