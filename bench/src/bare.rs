//! gRPC by itself: a server that does nothing, asked with a message as large as a photograph. What a call costs
//! however little is done for it, on this machine: no service adds less, and none that computes on threads of its own
//! adds less than one that does nothing on such a thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use likeness_server::STREAM_WINDOW_BYTES;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::task::spawn_blocking;
use tokio_stream::Empty;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How a call does its nothing.
#[derive(Clone, Copy)]
pub enum Nothing {
    /// At once, on the thread that read it.
    AtOnce,
    /// For so long, on a thread for blocking work, as everything that computes must be. Meanwhile client and network
    /// sleep, and to wake a processor from a long sleep takes longer than from a short one.
    For(Duration),
}

impl Nothing {
    fn lasts(self) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::For(time) => time,
        }
    }
}

#[tonic::async_trait]
impl Health for Nothing {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if let Self::For(time) = *self {
            let work = move || {
                let began = Instant::now();
                while began.elapsed() < time {
                    std::hint::spin_loop();
                }
            };
            spawn_blocking(work).await.expect("nothing does not panic");
        }
        Err(Status::not_found(""))
    }

    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Such a server, on threads of its own, and a client with a connection and a thread of its own.
pub struct Bare {
    client: Runtime,
    _server: Runtime,
    health: HealthClient<Channel>,
    /// The name of a service that there is not.
    message: String,
    nothing: Nothing,
}

impl Bare {
    /// Starts both; messages will have so many bytes.
    ///
    /// # Panics
    /// Loopback has no free port, or threads cannot be made.
    pub fn start(bytes: usize, nothing: Nothing) -> Self {
        let server = Runtime::new().expect("threads can be made");
        let client = runtime::Builder::new_current_thread().enable_all().build();
        let client = client.expect("threads can be made");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = server
            .block_on(TcpListener::bind(address))
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        server.spawn(async move {
            let mut server = Server::builder().initial_stream_window_size(STREAM_WINDOW_BYTES);
            server
                .add_service(HealthServer::new(nothing))
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = client.block_on(endpoint.connect()).expect("the server listens");
        Self {
            client,
            _server: server,
            health: HealthClient::new(channel),
            message: "x".repeat(bytes),
            nothing,
        }
    }

    /// What calls take at least, in seconds.
    pub fn lasts(&self) -> f64 {
        self.nothing.lasts().as_secs_f64()
    }

    /// One call.
    ///
    /// # Panics
    /// The answer is not that there is no such service.
    pub fn call(&self) {
        let request = HealthCheckRequest {
            service: self.message.clone(),
        };
        let mut health = self.health.clone();
        let answer = self.client.block_on(health.check(request));
        assert_eq!(answer.expect_err("no such service").code(), Code::NotFound);
    }
}
