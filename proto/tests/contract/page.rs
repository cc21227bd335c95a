//! The page of the API: what is written by hand, then every service, call, message and field with its comment.

use std::collections::HashMap;
use std::fmt::Write as _;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, ServiceDescriptorProto};

use super::PACKAGE;
use super::listing::{kind, streamed};

/// Everything after this line is generated.
const MARK: &str = "<!-- Generated from proto/likeness/v1 by `make api`: edit the comments there. -->";

// Numbers of fields in the descriptors of descriptors, of which the paths to comments are made.
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const SERVICE: i32 = 6;
const SYNTAX: i32 = 12;
/// Of a message, an enumeration and a service alike: its fields, values and methods.
const MEMBER: i32 = 2;

/// The page, with everything that stands before the mark in the page before.
pub fn page(before: &str, files: &[FileDescriptorProto]) -> String {
    let head = before.split(MARK).next().unwrap_or_default();
    let mut page = format!("{}\n\n{MARK}\n\n", head.trim_end());
    let (root, parts) = files.split_first().expect("the contract");
    page += "## Rules for every call\n\n```text\n";
    page += Comments::of(root).text(&[SYNTAX]).trim_end();
    page += "\n```\n\n";
    add_index(files, &mut page);
    for file in std::iter::once(root).chain(parts) {
        add_file(file, &mut page);
    }
    format!("{}\n", page.trim_end())
}

/// The comments of a file, by the path to what they stand above.
struct Comments<'a>(HashMap<&'a [i32], &'a str>);

impl<'a> Comments<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments =
            locations.filter_map(|place| Some((&place.path[..], place.leading_comments.as_deref()?)));
        Self(comments.collect())
    }

    /// The comment as it is written, without the space before each line.
    fn text(&self, path: &[i32]) -> String {
        let text = self.0.get(path).copied().unwrap_or_default();
        let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
        lines.map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// The comment as paragraphs and lists of Markdown.
    fn markdown(&self, path: &[i32]) -> String {
        let mut paragraphs: Vec<String> = Vec::new();
        let mut open = false;
        for line in self.text(path).lines() {
            let words = escaped(line.trim());
            match paragraphs.last_mut() {
                _ if words.is_empty() => open = false,
                Some(last) if open && !words.starts_with("- ") && !words.starts_with("Key: ") => {
                    *last += " ";
                    *last += &words;
                }
                _ => {
                    paragraphs.push(words);
                    open = true;
                }
            }
        }
        paragraphs.join("\n\n")
    }

    /// The comment as one cell of a table.
    fn cell(&self, path: &[i32]) -> String {
        self.markdown(path).replace("\n\n", " ").replace('|', "\\|")
    }

    /// What a call asks of the API key.
    fn key(&self, path: &[i32]) -> String {
        let text = self.markdown(path);
        let key = text.split("\n\n").find_map(|line| line.strip_prefix("Key: "));
        key.unwrap_or_default().trim_end_matches('.').to_owned()
    }
}

/// The text with what Markdown would take for tags written out, and with links to the pages it names.
fn escaped(line: &str) -> String {
    let parts = line.split('`').enumerate().map(|(number, part)| {
        let code = number % 2 == 1;
        if code {
            part.to_owned()
        } else {
            linked(&part.replace('<', "&lt;"))
        }
    });
    parts.collect::<Vec<_>>().join("`")
}

/// `docs/NAME.md` as a link from the page of the API.
fn linked(text: &str) -> String {
    let mut parts = text.split("docs/");
    let mut linked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(".md") {
            Some((name, rest)) if !name.contains(' ') => {
                let _ = write!(linked, "[docs/{name}.md]({name}.md){rest}");
            }
            _ => {
                let _ = write!(linked, "docs/{part}");
            }
        }
    }
    linked
}

/// A name without the package that all of them are in.
fn short(name: &str) -> String {
    name.replace(&format!("{PACKAGE}."), "")
}

fn add_index(files: &[FileDescriptorProto], page: &mut String) {
    *page += "## Services\n\n| call | key |\n|---|---|\n";
    for file in files {
        let comments = Comments::of(file);
        for (number, service) in (0..).zip(&file.service) {
            for (place, method) in (0..).zip(&service.method) {
                let (service, method) = (service.name(), method.name());
                let key = comments
                    .key(&[SERVICE, number, MEMBER, place])
                    .replace('|', "\\|");
                let _ = writeln!(
                    page,
                    "| {service}/[{method}](#{}) | {key} |",
                    method.to_lowercase()
                );
            }
        }
    }
    *page += "\n";
}

fn add_file(file: &FileDescriptorProto, page: &mut String) {
    let comments = Comments::of(file);
    let is_root = file.name() == super::ROOT;
    if !is_root {
        let name = file.name().rsplit('/').next().unwrap_or_default();
        let _ = writeln!(page, "## {name}\n");
        add_paragraphs(&comments.markdown(&[SYNTAX]), page);
    }
    for (number, service) in (0..).zip(&file.service) {
        add_service(service, &comments, number, page);
    }
    for (number, message) in (0..).zip(&file.message_type) {
        add_message(message, &comments, number, page);
    }
    for (number, declared) in (0..).zip(&file.enum_type) {
        add_enum(declared, &comments, number, page);
    }
}

fn add_paragraphs(text: &str, page: &mut String) {
    if !text.is_empty() {
        let _ = writeln!(page, "{text}\n");
    }
}

fn add_service(service: &ServiceDescriptorProto, comments: &Comments<'_>, number: i32, page: &mut String) {
    let _ = writeln!(page, "### {}\n", service.name());
    add_paragraphs(&comments.markdown(&[SERVICE, number]), page);
    for (place, method) in (0..).zip(&service.method) {
        let _ = writeln!(
            page,
            "#### {0}\n\n`rpc {0}({1}) returns ({2})`\n",
            method.name(),
            short(&streamed(method.client_streaming(), method.input_type())),
            short(&streamed(method.server_streaming(), method.output_type())),
        );
        add_paragraphs(&comments.markdown(&[SERVICE, number, MEMBER, place]), page);
    }
}

fn add_message(message: &DescriptorProto, comments: &Comments<'_>, number: i32, page: &mut String) {
    let _ = writeln!(page, "#### {}\n", message.name());
    add_paragraphs(&comments.markdown(&[MESSAGE, number]), page);
    if message.field.is_empty() {
        *page += "No fields.\n\n";
        return;
    }
    *page += "| field | number | type | |\n|---|---|---|---|\n";
    for (place, field) in (0..).zip(&message.field) {
        let said = comments.cell(&[MESSAGE, number, MEMBER, place]);
        let one_of = match field.oneof_index {
            Some(index) if !field.proto3_optional() => {
                let index = usize::try_from(index).expect("an index");
                format!("one of `{}`. ", message.oneof_decl[index].name())
            }
            _ => String::new(),
        };
        let (name, at, kind) = (field.name(), field.number(), short(&kind(field)));
        let said = format!("{one_of}{said}");
        let _ = writeln!(page, "| `{name}` | {at} | {kind} | {} |", said.trim_end());
    }
    *page += "\n";
}

fn add_enum(declared: &EnumDescriptorProto, comments: &Comments<'_>, number: i32, page: &mut String) {
    let _ = writeln!(page, "#### {}\n", declared.name());
    add_paragraphs(&comments.markdown(&[ENUM, number]), page);
    *page += "| value | number | |\n|---|---|---|\n";
    for (place, value) in (0..).zip(&declared.value) {
        let said = comments.cell(&[ENUM, number, MEMBER, place]);
        let _ = writeln!(page, "| `{}` | {} | {said} |", value.name(), value.number());
    }
    *page += "\n";
}
