//! What of the contract clients depend on, one fact a line.

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// Every field, value of an enumeration and call; in which file each is declared does not matter.
pub fn lines(files: &[FileDescriptorProto]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in files {
        for message in &file.message_type {
            add_message(message, file.package(), &mut lines);
        }
        for declared in &file.enum_type {
            add_enum(declared, file.package(), &mut lines);
        }
        for service in &file.service {
            for method in &service.method {
                lines.insert(format!(
                    "call {}.{}/{}({}) returns ({})",
                    file.package(),
                    service.name(),
                    method.name(),
                    streamed(method.client_streaming(), method.input_type()),
                    streamed(method.server_streaming(), method.output_type()),
                ));
            }
        }
    }
    lines
}

/// The name of a message as contracts write it, with the word that makes it a stream.
pub fn streamed(stream: bool, name: &str) -> String {
    let name = name.trim_start_matches('.');
    if stream {
        format!("stream {name}")
    } else {
        name.to_owned()
    }
}

fn add_message(message: &DescriptorProto, within: &str, lines: &mut BTreeSet<String>) {
    let name = format!("{within}.{}", message.name());
    lines.insert(format!("message {name}"));
    for field in &message.field {
        let mut line = format!(
            "field {name}.{} = {} {}",
            field.name(),
            field.number(),
            kind(field)
        );
        if let (Some(index), false) = (field.oneof_index, field.proto3_optional()) {
            let index = usize::try_from(index).expect("an index");
            line += &format!(" of {}", message.oneof_decl[index].name());
        }
        lines.insert(line);
    }
    for nested in &message.nested_type {
        add_message(nested, &name, lines);
    }
    for nested in &message.enum_type {
        add_enum(nested, &name, lines);
    }
}

fn add_enum(declared: &EnumDescriptorProto, within: &str, lines: &mut BTreeSet<String>) {
    for value in &declared.value {
        let name = format!("{within}.{}", declared.name());
        lines.insert(format!("value {name}.{} = {}", value.name(), value.number()));
    }
}

/// A field's type, with `repeated` or `optional` before it.
pub fn kind(field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => field.type_name().trim_start_matches('.').to_owned(),
        plain => plain.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {kind}"),
        _ if field.proto3_optional() => format!("optional {kind}"),
        _ => kind,
    }
}
