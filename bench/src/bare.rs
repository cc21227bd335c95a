//! gRPC by itself: a server that does nothing of its own, asked with a message as large as a photograph. What a call costs
//! however little is done for it, on this machine: no service adds less, and none that computes on threads of its own
//! adds less than one that does nothing but to have the same work done on such a thread.

use std::net::SocketAddr;
use std::sync::Arc;

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

/// What a call does.
#[derive(Clone)]
pub enum Doing {
    /// Nothing, on the thread that read it.
    Nothing,
    /// This, on a thread for blocking work, as everything that computes must be. Meanwhile client and network sleep, and to
    /// wake a processor from a long sleep takes longer than from a short one; and the caches hold what the work left there.
    Work(Arc<dyn Fn() + Send + Sync>),
}

#[tonic::async_trait]
impl Health for Doing {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if let Self::Work(work) = self.clone() {
            spawn_blocking(move || work())
                .await
                .expect("the work does not panic");
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
}

impl Bare {
    /// Starts both; messages will have so many bytes.
    ///
    /// # Panics
    /// Loopback has no free port, or threads cannot be made.
    pub fn start(bytes: usize, doing: Doing) -> Self {
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
                .add_service(HealthServer::new(doing))
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
        }
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
