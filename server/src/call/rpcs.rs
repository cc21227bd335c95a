//! Every RPC, and what it asks of its caller's key: the one table that calls are let in by, before their messages are
//! read, and that their handlers hold them to afterwards.

use likeness_engine::Scope;

use super::caller::Needs;
use crate::config::{MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};

/// One RPC.
#[derive(Debug, PartialEq, Eq)]
pub struct Rpc {
    /// The service, without its package.
    pub service: &'static str,
    /// Its name there, and in the logs.
    pub method: &'static str,
    /// What its caller's key must be good for.
    pub needs: Needs,
    /// Its request is a stream of messages.
    pub takes_stream: bool,
}

const PACKAGE: &str = "likeness.v1";

const fn rpc(service: &'static str, method: &'static str, needs: Needs) -> Rpc {
    Rpc {
        service,
        method,
        needs,
        takes_stream: false,
    }
}

const fn stream(service: &'static str, method: &'static str, needs: Needs) -> Rpc {
    Rpc {
        service,
        method,
        needs,
        takes_stream: true,
    }
}

const COLLECTIONS: &str = "CollectionService";
const PERSONS: &str = "PersonService";
const ERASURE: &str = "ErasureService";
const KEYS: &str = "KeyService";
const ACCOUNTS: &str = "AccountService";
const MATCHING: &str = "MatchingService";
const LOGS: &str = "LogService";

/// Of what concerns all accounts.
pub const OPERATOR: Needs = Needs::Operator(Scope::Admin);
const ADMIN: Needs = Needs::Of(Scope::Admin);
const WHOLE_ADMIN: Needs = Needs::WholeAccount(Scope::Admin);
const ENROL: Needs = Needs::Of(Scope::Enrol);
const READ: Needs = Needs::Of(Scope::Read);
const ERASE: Needs = Needs::Of(Scope::Erase);
const VERIFY: Needs = Needs::Of(Scope::Verify);
const SEARCH: Needs = Needs::Of(Scope::Search);
const AUDIT: Needs = Needs::Of(Scope::Audit);
const WHOLE_AUDIT: Needs = Needs::WholeAccount(Scope::Audit);

/// All of them, as the contract has them.
const RPCS: [Rpc; 46] = [
    rpc(COLLECTIONS, "CreateCollection", ADMIN),
    rpc(COLLECTIONS, "GetCollection", Needs::AnyKey),
    rpc(COLLECTIONS, "ListCollections", Needs::AnyKey),
    rpc(COLLECTIONS, "UpdateCollection", ADMIN),
    rpc(COLLECTIONS, "DeleteCollection", ADMIN),
    rpc(COLLECTIONS, "MeasureIndex", ADMIN),
    rpc(PERSONS, "EnrollPerson", ENROL),
    rpc(PERSONS, "AddFaces", ENROL),
    rpc(PERSONS, "GetPerson", READ),
    rpc(PERSONS, "ListPersons", READ),
    rpc(PERSONS, "UpdatePerson", ENROL),
    rpc(PERSONS, "DeleteFaces", ERASE),
    rpc(PERSONS, "DeletePerson", ERASE),
    rpc(PERSONS, "EraseEverywhere", Needs::WholeAccount(Scope::Erase)),
    stream(PERSONS, "DeletePersons", ERASE),
    stream(PERSONS, "ImportPersons", ENROL),
    rpc(PERSONS, "CopyPerson", ENROL),
    rpc(PERSONS, "RenamePerson", ENROL),
    rpc(PERSONS, "ExportPerson", Needs::WholeAccount(Scope::Read)),
    rpc(PERSONS, "ListConsents", READ),
    rpc(PERSONS, "WithdrawConsent", ERASE),
    rpc(ERASURE, "GetErasureReceipt", WHOLE_AUDIT),
    rpc(ERASURE, "ListErasureReceipts", WHOLE_AUDIT),
    rpc(ERASURE, "GetErasureStatus", WHOLE_AUDIT),
    rpc(ERASURE, "PrepareResidueAudit", AUDIT),
    rpc(KEYS, "RotateWrappingKey", OPERATOR),
    rpc(KEYS, "RotateSigningKey", OPERATOR),
    rpc(KEYS, "DestroyKeyGroup", WHOLE_ADMIN),
    rpc(ACCOUNTS, "CreateAccount", OPERATOR),
    rpc(ACCOUNTS, "GetAccount", WHOLE_ADMIN),
    rpc(ACCOUNTS, "ListAccounts", OPERATOR),
    rpc(ACCOUNTS, "UpdateAccount", OPERATOR),
    rpc(ACCOUNTS, "CloseAccount", OPERATOR),
    rpc(ACCOUNTS, "ListAuditLog", WHOLE_AUDIT),
    rpc(ACCOUNTS, "CreateApiKey", WHOLE_ADMIN),
    rpc(ACCOUNTS, "ListApiKeys", WHOLE_ADMIN),
    rpc(ACCOUNTS, "RevokeApiKey", WHOLE_ADMIN),
    rpc(MATCHING, "DetectFaces", Needs::AnyKey),
    rpc(MATCHING, "CompareFaces", VERIFY),
    rpc(MATCHING, "VerifyPerson", VERIFY),
    rpc(MATCHING, "SearchPersons", SEARCH),
    rpc(MATCHING, "FindDuplicates", Needs::Of(Scope::Duplicates)),
    rpc(LOGS, "ListRunningLog", AUDIT),
    rpc(LOGS, "ExportRunningLog", AUDIT),
    rpc(LOGS, "GetUsage", WHOLE_AUDIT),
    rpc(LOGS, "GetPolicy", Needs::AnyKey),
];

impl Rpc {
    /// The RPC that a request is for, by its path; none where the path is of no service of ours, or of nothing that
    /// there is.
    pub fn of(path: &str) -> Option<&'static Self> {
        let path = path.strip_prefix('/')?.strip_prefix(PACKAGE)?.strip_prefix('.')?;
        let (service, method) = path.split_once('/')?;
        RPCS.iter()
            .find(|rpc| rpc.method == method && rpc.service == service)
    }

    /// The RPC of this name.
    pub fn named(method: &str) -> &'static Self {
        let rpc = RPCS.iter().find(|rpc| rpc.method == method);
        rpc.expect("every kind of call is in the table, which a test compares with the contract")
    }

    /// Longest message.
    pub fn message_bytes_max(&self) -> usize {
        match self.service {
            COLLECTIONS | PERSONS | MATCHING => MESSAGE_BYTES_MAX,
            _ => SMALL_MESSAGE_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use likeness_proto::{Message as _, v1};
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn the_table_has_every_rpc_of_the_contract_and_no_other() {
        let set = FileDescriptorSet::decode(v1::DESCRIPTORS).expect("descriptors");
        let own = set.file.iter().filter(|file| file.package() == PACKAGE);
        let mut contract = Vec::new();
        for service in own.flat_map(|file| &file.service) {
            for method in &service.method {
                let path = format!("/{PACKAGE}.{}/{}", service.name(), method.name());
                let rpc = Rpc::of(&path).unwrap_or_else(|| panic!("{path} is not in the table"));
                assert_eq!(rpc.takes_stream, method.client_streaming(), "{path}");
                contract.push(rpc);
            }
        }
        assert_eq!(contract.len(), RPCS.len());
        for path in [
            "",
            "/",
            "/likeness.v1.PersonService/Nothing",
            "/grpc.health.v1.Health/Check",
        ] {
            assert_eq!(Rpc::of(path), None);
        }
    }
}
