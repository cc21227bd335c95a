//! What a library keeps of bytes that it has read: the room behind them is overwritten.
//!
//! HTTP/2 and TLS libraries read into buffers of their own, which stay as long as their connections, and hand on what lay
//! in them. What was handed on is not overwritten: the buffer's next bytes are read over it, or over a part of it. A
//! library shows the free room of its buffer whenever it reads; so that is overwritten behind what was read.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads, and overwrites the room that is left.
pub fn poll_read(
    from: Pin<&mut impl AsyncRead>,
    context: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<Result<()>> {
    let read = from.poll_read(context, into);
    // A library that has read all there is asks once more, to be woken when there is more: so this is done after
    // whatever was read, too.
    into.initialize_unfilled().fill(0);
    read
}

/// A stream that a library reads into a buffer of its own.
pub struct Scrubbed<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Scrubbed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        poll_read(Pin::new(&mut self.0), context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Scrubbed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
