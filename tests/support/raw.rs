//! Any call of the contract, by its name alone: messages made from descriptors, and bytes on the wire.

use std::collections::HashMap;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorProto};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use bytes::{Buf as _, BufMut as _};

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

/// Makes a call with these messages for its requests, and takes every answer.
pub async fn call(channel: &Channel, path: &str, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("connected");
    let path = path.parse().expect("a path");
    let request = Request::new(tokio_stream::iter(messages));
    let mut answers = client.streaming(request, path, Bytes).await?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await? {
        all.push(answer);
    }
    Ok(all)
}

/// Messages as they are on the wire.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
