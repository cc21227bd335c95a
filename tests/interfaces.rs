//! Health and reflection: what a client that knows nothing can ask.

use likeness_proto::Message as _;
use likeness_server::config::HEALTH_BYTES_MAX;
use prost_types::FileDescriptorProto;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::server::Setup;
use crate::support::{Client, PATIENCE, Server};

const SERVICES: [&str; 6] = [
    "likeness.v1.AccountService",
    "likeness.v1.CollectionService",
    "likeness.v1.ErasureService",
    "likeness.v1.KeyService",
    "likeness.v1.MatchingService",
    "likeness.v1.PersonService",
];

pub fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

fn status(reply: HealthCheckResponse) -> ServingStatus {
    reply.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_each_service_are_healthy_and_no_other() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.client().await.channel);
    for service in SERVICES.iter().chain(&[""]) {
        let reply = health.check(check(service)).await.expect("answered");
        assert_eq!(status(reply.into_inner()), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(check("likeness.v1.Unknown")).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
    // Nobody is asked for a key here, so a longer question is not read.
    let long = health.check(check(&"x".repeat(HEALTH_BYTES_MAX))).await;
    assert_eq!(long.expect_err("too long").code(), Code::OutOfRange);
}

async fn reflect(client: &Client, ask: MessageRequest) -> MessageResponse {
    let mut reflection = ServerReflectionClient::new(client.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ask),
    };
    let replies = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let reply = replies.expect("answered").into_inner().next().await;
    let reply = reply.expect("one reply").expect("answered");
    reply.message_response.expect("a message")
}

async fn described_by(client: &Client, ask: MessageRequest) -> FileDescriptorProto {
    let MessageResponse::FileDescriptorResponse(described) = reflect(client, ask).await else {
        panic!("another reply");
    };
    let file = described.file_descriptor_proto.first().expect("a file");
    FileDescriptorProto::decode(&file[..]).expect("a description")
}

/// The contract, as the server describes it: its file, and those that it imports.
pub async fn described(client: &Client) -> Vec<FileDescriptorProto> {
    let name = |name: &str| MessageRequest::FileByFilename(name.to_owned());
    let root = described_by(client, name("likeness/v1/likeness.proto")).await;
    let mut files = Vec::new();
    for dependency in &root.dependency {
        files.push(described_by(client, name(dependency)).await);
    }
    files.push(root);
    files
}

/// The services that reflection lists.
pub async fn services(client: &Client) -> Vec<String> {
    let listed = reflect(client, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("another reply");
    };
    listed.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_and_describes_them() {
    let server = Server::start().await;
    let client = server.client().await;
    let names = services(&client).await;
    for service in SERVICES.iter().chain(&["grpc.health.v1.Health"]) {
        assert!(names.iter().any(|name| name == service), "{service} in {names:?}");
    }
    for service in SERVICES {
        let file = described_by(&client, MessageRequest::FileContainingSymbol(service.to_owned())).await;
        let described = file
            .service
            .iter()
            .find(|one| service.ends_with(&format!(".{}", one.name())));
        assert!(!described.expect(service).method.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_reflection_ends_although_its_client_does_not_end_it() {
    let mut setup = Setup::new();
    setup.config.call_seconds = 1;
    let server = setup.start().await;
    let mut reflection = ServerReflectionClient::new(server.client().await.channel);
    let (_silent, asked) = tokio::sync::mpsc::channel::<ServerReflectionRequest>(1);
    let replies = reflection
        .server_reflection_info(tokio_stream::wrappers::ReceiverStream::new(asked))
        .await;
    let mut replies = replies.expect("begun").into_inner();
    let end = tokio::time::timeout(PATIENCE, replies.next())
        .await
        .expect("it ends");
    assert!(!matches!(end, Some(Ok(_))), "nothing was asked");
}
