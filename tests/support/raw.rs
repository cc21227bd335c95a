//! Calls by name, with messages as bytes: for whoever asks of every call the same.

use likeness_proto::Message as _;
use likeness_proto::v1;
use likeness_server::credential::KeyedChannel;
use prost_types::FileDescriptorSet;
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

/// Every call of the contract, as `service/Method`.
pub fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(v1::DESCRIPTORS).expect("descriptors");
    let own = set.file.iter().filter(|file| file.package() == "likeness.v1");
    let services = own.flat_map(|file| &file.service);
    let methods: Vec<_> = services
        .flat_map(|service| {
            let path = |name: &str| format!("likeness.v1.{}/{name}", service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
        .collect();
    assert!(methods.len() > 30, "{methods:?}");
    methods
}

/// Makes a call with this message, whatever its kind; answers the first message of the reply.
pub async fn call(channel: &KeyedChannel, method: &str, message: &[u8]) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = format!("/{method}").parse().expect("a path");
    let requests = Request::new(tokio_stream::once(message.to_vec()));
    let mut replies = grpc.streaming(requests, path, Bytes).await?.into_inner();
    // An empty stream is a reply too.
    replies.next().await.unwrap_or_else(|| Ok(Vec::new()))
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Default)]
pub struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        likeness_proto::bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; likeness_proto::bytes::Buf::remaining(from)];
        likeness_proto::bytes::Buf::copy_to_slice(from, &mut bytes);
        Ok(Some(bytes))
    }
}
