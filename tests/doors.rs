//! Every call of the contract is in the engine's table of what calls do with stored templates, field by field.

use std::collections::{BTreeMap, BTreeSet};

use likeness_engine::{Counted, Door, Reads, doors};
use likeness_proto::Message as _;
use likeness_proto::v1;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The files of the contract as one.
fn contract() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(v1::DESCRIPTORS).expect("descriptors");
    let mut whole = FileDescriptorProto::default();
    for file in set
        .file
        .into_iter()
        .filter(|file| file.package() == "likeness.v1")
    {
        whole.message_type.extend(file.message_type);
        whole.service.extend(file.service);
    }
    whole
}

/// The fields of each call's request, by the call's name.
fn calls() -> BTreeMap<String, BTreeSet<String>> {
    let file = contract();
    let methods = file.service.iter().flat_map(|service| &service.method);
    let fields = |message: &str| {
        let name = message.rsplit('.').next().expect("a name");
        let message = file.message_type.iter().find(|message| message.name() == name);
        let fields = &message.expect("a message").field;
        fields.iter().map(|field| field.name().to_owned()).collect()
    };
    methods
        .map(|method| (method.name().to_owned(), fields(method.input_type())))
        .collect()
}

#[test]
fn every_call_is_in_the_table_once_and_the_table_names_no_other() {
    let names: Vec<_> = doors::CALLS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let once: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(once.len(), names.len(), "a call is there twice");
    assert_eq!(once, calls().into_keys().collect());
}

#[test]
fn every_field_of_a_call_that_compares_is_said_to_ask_or_not_to() {
    let calls = calls();
    for (name, reads) in doors::CALLS {
        let Reads::Compares(Door {
            rpc,
            asks,
            beside,
            answers,
            ..
        }) = reads
        else {
            continue;
        };
        assert_eq!(rpc, name);
        assert!(!answers.is_empty());
        let said: Vec<_> = asks
            .iter()
            .chain(*beside)
            .map(|field| (*field).to_owned())
            .collect();
        let once: BTreeSet<_> = said.iter().cloned().collect();
        assert_eq!(once.len(), said.len(), "a field of {name} is there twice");
        assert_eq!(once, calls[*name], "{name}");
    }
}

#[test]
fn every_way_of_counting_is_that_of_some_call() {
    let counted = |way| {
        let mut doors = doors::CALLS.iter();
        doors.any(|(_, reads)| matches!(reads, Reads::Compares(door) if door.counted == way))
    };
    for way in [
        Counted::Compared,
        Counted::Named,
        Counted::ComparedOrNamed,
        Counted::Paired,
        Counted::Figures,
    ] {
        assert!(counted(way), "{way:?}");
    }
}
