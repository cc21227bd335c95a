//! Calls by name, with messages as bytes: for tests that make every call alike.

use std::collections::HashMap;

use likeness_proto::Message as _;
use likeness_proto::credential::KeyedChannel;
use likeness_proto::v1;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
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

/// Makes a call with these messages for its requests; answers every message of the reply.
pub async fn exchange(
    channel: &KeyedChannel,
    path: &str,
    messages: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = path.parse().expect("a path");
    let requests = Request::new(tokio_stream::iter(messages));
    let mut replies = grpc.streaming(requests, path, Bytes).await?.into_inner();
    let mut all = Vec::new();
    while let Some(reply) = replies.next().await {
        all.push(reply?);
    }
    Ok(all)
}

/// A method found by reflection.
#[derive(Debug, Clone)]
pub struct Method {
    /// As in `/likeness.v1.PersonService/EnrollPerson`.
    pub path: String,
    pub name: String,
    input: String,
}

/// The contract, as the server describes itself.
pub struct Contract {
    pub methods: Vec<Method>,
    messages: HashMap<String, DescriptorProto>,
}

impl Contract {
    pub fn of(files: &[FileDescriptorProto]) -> Self {
        let (mut methods, mut messages) = (Vec::new(), HashMap::new());
        for file in files {
            for message in &file.message_type {
                messages.insert(format!(".{}.{}", file.package(), message.name()), message.clone());
            }
            for service in &file.service {
                for method in &service.method {
                    methods.push(Method {
                        path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                        name: method.name().to_owned(),
                        input: method.input_type().to_owned(),
                    });
                }
            }
        }
        Self { methods, messages }
    }

    /// A request in which every text and every field of bytes is the marker.
    pub fn marked(&self, method: &Method, text: &str, bytes: &[u8]) -> Vec<u8> {
        self.message(&method.input, text, bytes, 4)
    }

    fn message(&self, name: &str, text: &str, bytes: &[u8], depth: usize) -> Vec<u8> {
        let mut encoded = Vec::new();
        let Some(message) = self.messages.get(name).filter(|_| depth > 0) else {
            return encoded;
        };
        for field in &message.field {
            let value = match field.r#type() {
                Type::String => text.as_bytes().to_vec(),
                Type::Bytes => bytes.to_vec(),
                Type::Message => self.message(field.type_name(), text, bytes, depth - 1),
                // A packed list of two floats.
                Type::Float if field.label() == Label::Repeated => vec![0, 0, 128, 63, 0, 0, 0, 64],
                _ => continue,
            };
            let tag = u32::try_from(field.number()).expect("a number") << 3 | 2;
            varint(u64::from(tag), &mut encoded);
            varint(value.len() as u64, &mut encoded);
            encoded.extend(value);
        }
        encoded
    }
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value > 127 {
        into.push(value.to_le_bytes()[0] | 128);
        value >>= 7;
    }
    into.push(value.to_le_bytes()[0]);
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
