//! Scrapes: one small page over HTTP, for a few clients at once, each for a short time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections at once; more are closed as they come.
pub const CONNECTIONS_MAX: usize = 16;
/// A scrape takes milliseconds.
const TIME_MAX: Duration = Duration::from_secs(10);
/// A request of whoever scrapes is a few lines long; hyper takes no smaller limit.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// After an error of the listener, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(50);
const PATH: &str = "/metrics";
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Shows these metrics to whoever comes, until it is dropped.
pub async fn serve(listener: TcpListener, registry: Registry) {
    let registry = Arc::new(registry);
    let mut scrapes = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a scrape of the metrics failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while scrapes.try_join_next().is_some() {}
        if scrapes.len() < CONNECTIONS_MAX {
            scrapes.spawn(tokio::time::timeout(
                TIME_MAX,
                scrape(stream, Arc::clone(&registry)),
            ));
        }
    }
}

async fn scrape(stream: TcpStream, registry: Arc<Registry>) {
    let answering = service_fn(|request| answer(request, Arc::clone(&registry)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(REQUEST_BYTES_MAX)
        // A place is for one scrape.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering);
    if let Err(error) = serving.await {
        // Anybody who reaches the port can make these, as often as they like.
        tracing::debug!(%error, "a scrape of the metrics failed");
    }
}

async fn answer(request: Request<Incoming>, registry: Arc<Registry>) -> Result<Response<String>, Infallible> {
    if request.uri().path() != PATH {
        return Ok(said(StatusCode::NOT_FOUND, "expected /metrics\n".to_owned()));
    }
    if request.method() != Method::GET {
        let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n".to_owned());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return Ok(response);
    }
    // Counting people waits for an index that is being changed.
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).map(|()| text)
    });
    Ok(match text.await {
        Ok(Ok(text)) => {
            let mut response = said(StatusCode::OK, text);
            let format = HeaderValue::from_static(FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        _ => said(StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    })
}

fn said(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}
