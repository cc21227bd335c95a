//! Connections: a bounded number, each with time limits.
//!
//! A connection is closed when its client does not begin in time or takes no bytes for as long, when it has no call for a
//! time, and when another connection displaces it (`roster`). In between, the limits of calls, of streams and of frames
//! (`speed`) apply; the transport closes a connection that answers no ping.

mod clients;
mod closed;
mod link;
mod roster;
mod speed;

use std::future::Future as _;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

pub use self::clients::{LEAVING_MAX, Most};
pub use self::closed::Closed;
pub use self::link::{Link, OpenCall, Times};
pub use self::roster::{Roster, Seat};
use self::speed::Frames;
use crate::doors::grpc::socket::Socket;

/// What every HTTP/2 client says first, in bytes. Under TLS it is less than the first message.
const PREFACE_BYTES: usize = 24;

/// One connection.
pub struct Connection {
    stream: Socket,
    seat: Seat,
    frames: Frames,
    /// While it is read slowly.
    pause: Option<Pin<Box<Sleep>>>,
    /// Read so far, up to the preface.
    begun_bytes: usize,
    beginning: Patience,
    writing: Patience,
}

impl Connection {
    /// With a place, and standing still for so long at most.
    pub fn new(stream: Socket, seat: Seat, stall_max: Duration) -> Self {
        Self {
            stream,
            seat,
            frames: Frames::default(),
            pause: None,
            begun_bytes: 0,
            beginning: Patience::of(stall_max),
            writing: Patience::of(stall_max),
        }
    }

    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        match written {
            Poll::Pending if self.seat.link.is_cut() => Poll::Ready(Err(given_way())),
            Poll::Pending => {
                let over = self.writing.or_over(context);
                if over.is_ready() {
                    self.seat.note(Closed::Stalled);
                }
                over
            }
            done => {
                self.writing.is_not_needed();
                done
            }
        }
    }
}

fn given_way() -> Error {
    Error::new(ErrorKind::ConnectionAborted, "it gave way to another")
}

impl Connection {
    /// Whether it is not to be read yet.
    fn is_slowed(&mut self, context: &mut Context<'_>) -> bool {
        let link = &self.seat.link;
        let Some(wait) = link.speed().wait(link.is_keyed()) else {
            self.pause = None;
            return false;
        };
        if self.pause.is_none() {
            self.seat.note_slowed();
        }
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        if pause.as_mut().poll(context).is_ready() {
            pause.as_mut().reset(Instant::now() + wait);
            // Polled once, it wakes this task.
            return pause.as_mut().poll(context).is_pending();
        }
        true
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        // ORDER: the waker before the look: a cut between the two would wake nothing.
        self.seat.link.wait(context);
        if self.seat.link.is_cut() {
            return Poll::Ready(Err(given_way()));
        }
        if self.is_slowed(context) {
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        let came = self.frames.read(&into.filled()[before..]);
        let link = &self.seat.link;
        link.speed().charge(came, link.is_keyed());
        if self.begun_bytes >= PREFACE_BYTES {
            return read;
        }
        self.begun_bytes += came.bytes;
        // ORDER: not by what is pending: a client that sends a byte now and then has not begun either.
        match self.beginning.or_over::<()>(context) {
            Poll::Ready(over) if self.begun_bytes < PREFACE_BYTES => {
                self.seat.note(Closed::Stalled);
                Poll::Ready(over)
            }
            _ => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.seat.link.clone()
    }
}

/// Time that begins when something is first waited for.
struct Patience {
    most: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn of(most: Duration) -> Self {
        Self { most, timer: None }
    }

    fn is_not_needed(&mut self) {
        self.timer = None;
    }

    fn or_over<T>(&mut self, context: &mut Context<'_>) -> Poll<Result<T>> {
        let most = self.most;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(Error::from(ErrorKind::TimedOut)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair(stall_max: Duration) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(address).await.expect("it listens");
        let (stream, address) = listener.accept().await.expect("it came");
        let most = Most {
            connections: 1,
            keyless: 1,
            keyless_per_address: 1,
            new_per_second: 1,
        };
        let seat = Roster::new(most).admit(address).expect("a place");
        let stream = Socket::Plain(stream);
        (Connection::new(stream, seat, stall_max), client)
    }

    #[tokio::test]
    async fn whoever_takes_no_bytes_is_given_up_and_whoever_takes_some_now_and_then_is_not() {
        let stall_max = Duration::from_millis(300);
        let (mut connection, mut client) = pair(stall_max).await;
        let block = vec![0; 1 << 20];
        let writing = async {
            loop {
                if let Err(error) = connection.write_all(&block).await {
                    break error.kind();
                }
            }
        };
        let reading = async {
            let mut taken = vec![0; 1 << 20];
            for _ in 0..30 {
                client.read_exact(&mut taken).await.expect("there is more");
                tokio::time::sleep(stall_max / 10).await;
            }
            tokio::time::Instant::now()
        };
        let (error, stopped) = tokio::join!(writing, reading);
        assert_eq!(error, ErrorKind::TimedOut);
        assert!(stopped.elapsed() >= stall_max / 2, "{:?}", stopped.elapsed());
    }

    #[tokio::test]
    async fn whoever_has_begun_may_be_silent() {
        let (mut connection, mut client) = pair(Duration::from_millis(100)).await;
        client.write_all(&[0; PREFACE_BYTES]).await.expect("written");
        let mut begun = [0; PREFACE_BYTES];
        connection.read_exact(&mut begun).await.expect("read");
        let silent = tokio::time::timeout(Duration::from_millis(400), connection.read_u8());
        assert!(silent.await.is_err(), "it waits");
        let (mut connection, _client) = pair(Duration::from_millis(100)).await;
        let error = connection.read_u8().await.expect_err("it has not begun");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
