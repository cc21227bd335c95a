//! Connections as they come, encrypted or not: one loop takes them all, and each has a task that sees to its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tonic::transport;

use crate::doors::grpc::connections::{self, Closed, Roster, Seat, Times};
use crate::doors::grpc::scrub::Scrubbed;
use crate::doors::grpc::socket::Socket;
use crate::tls::Certificate;

/// Longest time until the first byte of a handshake.
const FIRST_BYTE_TIME_MAX: Duration = Duration::from_secs(2);
/// Longest time a handshake may take from then on.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// After an error of the listener, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// From one warning of such an error to the next.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// While many connections are about to end, one is taken in this time.
const CROWDED: Duration = Duration::from_millis(1);
/// How long a connection that is to end may stay without a call.
const GRACE: Duration = Duration::from_secs(2);

/// Where connections come, and how long they may stay.
pub struct Incoming {
    /// Bound already.
    pub listener: TcpListener,
    /// Without one nothing is encrypted.
    pub certificate: Option<Arc<Certificate>>,
    /// Who is connected.
    pub roster: Roster,
    /// How long a connection may go without a call.
    pub times: Times,
    /// How long it may stand still.
    pub stall_max: Duration,
}

/// The one connection that a server is asked to serve, and none after it.
pub struct Only(Option<connections::Connection>);

/// Ready when a connection is to end.
pub type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Incoming {
    /// Takes connections and has each served, until the shutdown; then waits until the last has ended.
    ///
    /// A server is asked for each connection by itself, with the moment when this connection is to end: then it tells
    /// the client, and finishes the calls under way.
    pub async fn serve<S, F>(self, server: S, shutdown: impl Future<Output = ()>)
    where
        S: FnOnce(Only, Over) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), transport::Error>> + Send + 'static,
    {
        let Self {
            listener,
            certificate,
            roster,
            times,
            stall_max,
        } = self;
        let (mut attending, mut keeping) = (JoinSet::new(), JoinSet::new());
        if let Some(certificate) = &certificate {
            keeping.spawn(Arc::clone(certificate).keep_fresh());
        }
        let mut shutdown = std::pin::pin!(shutdown);
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            while attending.try_join_next().is_some() {}
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The same for hours, where something is wrong.
                    if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                        tracing::warn!(%error, "accepting a connection failed");
                        warned = Some(Instant::now());
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if roster.is_crowded() {
                tokio::time::sleep(CROWDED).await;
            }
            // Without a place it is closed here, and its client sees that at once.
            match roster.admit(address) {
                Ok(seat) => {
                    let serving = Attended {
                        seat,
                        stream,
                        certificate: certificate.clone(),
                        times,
                        stall_max,
                    };
                    attending.spawn(serving.attend(server.clone()));
                }
                Err(closed) => tracing::debug!(?closed, "a connection was not taken"),
            }
        }
        // ORDER: no more are taken before those that are there are asked to end: none is overlooked.
        drop(listener);
        roster.close();
        while attending.join_next().await.is_some() {}
    }
}

/// A connection that was taken.
struct Attended {
    seat: Seat,
    stream: TcpStream,
    certificate: Option<Arc<Certificate>>,
    times: Times,
    stall_max: Duration,
}

impl Attended {
    async fn attend<S, F>(self, server: S)
    where
        S: FnOnce(Only, Over) -> F,
        F: Future<Output = Result<(), transport::Error>>,
    {
        let Self {
            seat,
            stream,
            certificate,
            times,
            stall_max,
        } = self;
        // Without it every reply waits for the client's delayed acknowledgement: 40 ms.
        let _ = stream.set_nodelay(true);
        let link = seat.link().clone();
        let begun = async {
            link.until_its_turn().await;
            match certificate {
                None => begin(stream, stall_max)
                    .await
                    .map_err(|error| (Closed::Stalled, error)),
                Some(certificate) => {
                    let shaken = shake_hands(stream, &certificate).await;
                    shaken.map_err(|error| (Closed::Handshake, error))
                }
            }
        };
        let begun = tokio::select! {
            () = link.until_unwanted() => return,
            begun = begun => begun,
        };
        let stream = match begun {
            Ok(stream) => stream,
            Err((closed, error)) => {
                // Anybody can make these, as often as they like.
                tracing::debug!(%error, ?closed, "a connection did not begin");
                // Otherwise the client closed it.
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    seat.note(closed);
                }
                return;
            }
        };
        let connection = connections::Connection::new(stream, seat, stall_max);
        let (told, ending) = tokio::sync::oneshot::channel();
        let over = {
            let link = link.clone();
            async move {
                link.until_over(times).await;
                let _ = told.send(());
            }
        };
        let mut serving = std::pin::pin!(server(Only(Some(connection)), Box::pin(over)));
        let overdue = async {
            // Dropped without a word, the server has ended.
            let _ = ending.await;
            link.until_quiet(GRACE).await;
        };
        let served = tokio::select! {
            served = &mut serving => served,
            () = overdue => {
                link.cut();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection was not served");
        }
    }
}

/// Looks rather than waits for readiness, which the runtime takes for granted of a stream that was just accepted.
async fn first_byte(stream: &TcpStream) -> io::Result<()> {
    match stream.peek(&mut [0]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Waits for the first byte: a client that says nothing costs no more than its socket.
async fn begin(stream: TcpStream, time_max: Duration) -> io::Result<Socket> {
    tokio::time::timeout(time_max, first_byte(&stream)).await??;
    Ok(Socket::Plain(stream))
}

async fn shake_hands(stream: TcpStream, certificate: &Certificate) -> io::Result<Socket> {
    tokio::time::timeout(FIRST_BYTE_TIME_MAX, first_byte(&stream)).await??;
    let handshake = TlsAcceptor::from(certificate.serving()).accept(Scrubbed(stream));
    let stream = tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake).await??;
    Ok(Socket::Tls(Box::new(stream)))
}

impl Stream for Only {
    type Item = io::Result<connections::Connection>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A stream that ends would end its connection too.
        self.0
            .take()
            .map_or(Poll::Pending, |only| Poll::Ready(Some(Ok(only))))
    }
}
