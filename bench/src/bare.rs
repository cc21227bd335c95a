//! gRPC by itself: a server that does nothing, asked with a message as large as a photograph. What a call costs
//! however little is done for it, on this machine: no service adds less.

use std::net::SocketAddr;

use likeness_server::STREAM_WINDOW_BYTES;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A health service alone, on threads of its own, and a client with a connection and a thread of its own.
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
    pub fn start(bytes: usize) -> Self {
        let server = Runtime::new().expect("threads can be made");
        let client = runtime::Builder::new_current_thread().enable_all().build();
        let client = client.expect("threads can be made");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = server
            .block_on(TcpListener::bind(address))
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        server.spawn(async move {
            let (_reporter, health) = tonic_health::server::health_reporter();
            let mut server = Server::builder().initial_stream_window_size(STREAM_WINDOW_BYTES);
            server
                .add_service(health)
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
