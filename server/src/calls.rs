//! The calls: each takes the context of its call and a message, and returns a reply or a refusal. The table below says
//! which message is which call's; a door needs no other list of them.

pub mod accounts;
pub mod collections;
pub mod disclosed;
pub mod duplicates;
pub mod enroll;
pub mod erasure;
pub mod import;
pub mod keys;
pub mod lifecycle;
pub mod logs;
pub mod matching;
#[cfg(feature = "graph")]
pub mod measure;
#[cfg(not(feature = "graph"))]
#[path = "calls/no_graph.rs"]
pub mod measure;
pub mod persons;

use likeness_proto::v1;

use crate::call::context::{Answered, CallContext};
use crate::call::kinds::{ReplyStreamCall, RequestStreamCall, Requests, UnaryCall};
use crate::call::slices::Slices;
use crate::call::streams::Answers;
use crate::refusal::{Refusal, Refused};

macro_rules! unary {
    ($($method:literal: $request:ident -> $reply:ident = $run:path;)*) => {
        $(impl UnaryCall for v1::$request {
            const METHOD: &'static str = $method;
            type Reply = v1::$reply;

            async fn run(self, call: &mut CallContext) -> Result<Self::Reply, Refusal> {
                $run(call, self).await
            }
        })*
    };
}

unary! {
    "CreateCollection": CreateCollectionRequest -> CreateCollectionResponse = collections::create;
    "GetCollection": GetCollectionRequest -> GetCollectionResponse = collections::get;
    "ListCollections": ListCollectionsRequest -> ListCollectionsResponse = collections::list;
    "UpdateCollection": UpdateCollectionRequest -> UpdateCollectionResponse = collections::update;
    "DeleteCollection": DeleteCollectionRequest -> DeleteCollectionResponse = collections::delete;
    "EnrollPerson": EnrollPersonRequest -> EnrollPersonResponse = enroll::enroll;
    "AddFaces": AddFacesRequest -> AddFacesResponse = enroll::add_faces;
    "GetPerson": GetPersonRequest -> GetPersonResponse = persons::get;
    "ListPersons": ListPersonsRequest -> ListPersonsResponse = persons::list;
    "UpdatePerson": UpdatePersonRequest -> UpdatePersonResponse = persons::update;
    "DeleteFaces": DeleteFacesRequest -> DeleteFacesResponse = persons::delete_faces;
    "DeletePerson": DeletePersonRequest -> DeletePersonResponse = persons::delete;
    "EraseEverywhere": EraseEverywhereRequest -> EraseEverywhereResponse = persons::erase_everywhere;
    "CopyPerson": CopyPersonRequest -> CopyPersonResponse = lifecycle::copy;
    "RenamePerson": RenamePersonRequest -> RenamePersonResponse = lifecycle::rename;
    "ExportPerson": ExportPersonRequest -> ExportPersonResponse = lifecycle::export;
    "ListConsents": ListConsentsRequest -> ListConsentsResponse = lifecycle::list_consents;
    "WithdrawConsent": WithdrawConsentRequest -> WithdrawConsentResponse = lifecycle::withdraw_consent;
    "GetErasureReceipt": GetErasureReceiptRequest -> GetErasureReceiptResponse = erasure::get;
    "ListErasureReceipts": ListErasureReceiptsRequest -> ListErasureReceiptsResponse = erasure::list;
    "GetErasureStatus": GetErasureStatusRequest -> GetErasureStatusResponse = erasure::status;
    "PrepareResidueAudit": PrepareResidueAuditRequest -> PrepareResidueAuditResponse = erasure::prepare;
    "RotateSigningKey": RotateSigningKeyRequest -> RotateSigningKeyResponse = keys::rotate_signing;
    "DestroyKeyGroup": DestroyKeyGroupRequest -> DestroyKeyGroupResponse = keys::destroy;
    "CreateAccount": CreateAccountRequest -> CreateAccountResponse = accounts::create;
    "GetAccount": GetAccountRequest -> GetAccountResponse = accounts::get;
    "ListAccounts": ListAccountsRequest -> ListAccountsResponse = accounts::list;
    "UpdateAccount": UpdateAccountRequest -> UpdateAccountResponse = accounts::update;
    "CloseAccount": CloseAccountRequest -> CloseAccountResponse = accounts::close;
    "ListAuditLog": ListAuditLogRequest -> ListAuditLogResponse = accounts::list_audit;
    "CreateApiKey": CreateApiKeyRequest -> CreateApiKeyResponse = accounts::create_key;
    "ListApiKeys": ListApiKeysRequest -> ListApiKeysResponse = accounts::list_keys;
    "RevokeApiKey": RevokeApiKeyRequest -> RevokeApiKeyResponse = accounts::revoke_key;
    "DetectFaces": DetectFacesRequest -> DetectFacesResponse = matching::detect;
    "CompareFaces": CompareFacesRequest -> CompareFacesResponse = matching::compare;
    "VerifyPerson": VerifyPersonRequest -> VerifyPersonResponse = matching::verify;
    "SearchPersons": SearchPersonsRequest -> SearchPersonsResponse = matching::search;
    "ListRunningLog": ListRunningLogRequest -> ListRunningLogResponse = logs::list;
    "GetUsage": GetUsageRequest -> GetUsageResponse = logs::usage;
    "GetPolicy": GetPolicyRequest -> GetPolicyResponse = logs::policy;
}

macro_rules! reply_streams {
    ($($method:literal: $request:ident -> $replies:ty, $reply:ident = $run:path;)*) => {
        $(impl ReplyStreamCall for v1::$request {
            const METHOD: &'static str = $method;
            type Reply = v1::$reply;
            type Replies = $replies;

            async fn run(self, call: CallContext) -> Result<Answered<Self::Replies>, Refused> {
                $run(call, self).await
            }
        })*
    };
}

reply_streams! {
    "MeasureIndex": MeasureIndexRequest -> Slices<Self::Reply>, MeasureIndexResponse = measure::measure_index;
    "RotateWrappingKey": RotateWrappingKeyRequest -> keys::Progress, RotateWrappingKeyResponse = keys::rotate_wrapping;
    "FindDuplicates": FindDuplicatesRequest -> Slices<Self::Reply>, FindDuplicatesResponse = duplicates::find_duplicates;
    "ExportRunningLog": ExportRunningLogRequest -> Slices<Self::Reply>, ExportRunningLogResponse = logs::export;
}

macro_rules! request_streams {
    ($($method:literal: $request:ident -> $reply:ident = $run:path;)*) => {
        $(impl RequestStreamCall for v1::$request {
            const METHOD: &'static str = $method;
            type Reply = v1::$reply;
            type Replies = Answers<Self::Reply>;

            async fn run(
                call: CallContext,
                requests: Requests<Self>,
            ) -> Result<Answered<Self::Replies>, Refused> {
                $run(call, requests).await
            }
        })*
    };
}

request_streams! {
    "DeletePersons": DeletePersonsRequest -> DeletePersonsResponse = lifecycle::delete_persons;
    "ImportPersons": ImportPersonsRequest -> ImportPersonsResponse = import::import_persons;
}
