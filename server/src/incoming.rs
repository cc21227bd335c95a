//! Connections as they come, encrypted or not; a handshake takes a place and a time, and both end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

use crate::tls::Certificate;

/// Handshakes at once; whoever comes beyond them is cut off, and may come again.
const HANDSHAKES_MAX: usize = 128;
/// Longest time a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections that may wait for the server after their handshake.
const READY_MAX: usize = 16;
/// After an error of the listener, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection.
pub enum Connection {
    /// Nothing is encrypted.
    Plain(TcpStream),
    /// Everything is.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections, one after the other, for as long as it lives.
pub struct Incoming {
    ready: Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>,
    /// Ended with it.
    _accepting: JoinSet<()>,
}

impl Incoming {
    /// Without a certificate, in the clear.
    pub fn new(listener: TcpListener, certificate: Option<Arc<Certificate>>) -> Self {
        let mut accepting = JoinSet::new();
        let ready: Pin<Box<dyn Stream<Item = _> + Send>> = match certificate {
            None => {
                // Without it every reply waits for the client's delayed acknowledgement: 40 ms.
                let plain = TcpIncoming::from(listener).with_nodelay(Some(true));
                Box::pin(plain.map(|stream| stream.map(Connection::Plain)))
            }
            Some(certificate) => {
                let (shaken, ready) = mpsc::channel(READY_MAX);
                accepting.spawn(Arc::clone(&certificate).keep_fresh());
                accepting.spawn(accept(listener, certificate, shaken));
                Box::pin(tokio_stream::wrappers::ReceiverStream::new(ready).map(Ok))
            }
        };
        Self {
            ready,
            _accepting: accepting,
        }
    }
}

async fn accept(listener: TcpListener, certificate: Arc<Certificate>, shaken: mpsc::Sender<Connection>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut shaking = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while shaking.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let acceptor = TlsAcceptor::from(certificate.serving());
        let shaken = shaken.clone();
        shaking.spawn(async move {
            // As for plain connections.
            let _ = stream.set_nodelay(true);
            let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => {
                    // It has its place no longer: what waits now is the server's own.
                    drop(place);
                    drop(shaken.send(Connection::Tls(Box::new(stream))).await);
                }
                // Anybody can make these, as often as they like.
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.as_mut().poll_next(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Self::Plain(stream) => stream.connect_info(),
            Self::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
