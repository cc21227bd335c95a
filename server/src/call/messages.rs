//! What the calls have in common in their messages: a reply says something about its call, a request may name its
//! write.

use likeness_proto::{Message, v1};

use super::outputs;
use crate::logs::Output;

/// A reply that says something about its call.
pub trait Answer: Message {
    fn set_call(&mut self, info: v1::CallInfo);

    /// What is in it, in counts.
    fn output(&self) -> Output {
        Output {
            bytes: self.encoded_len() as u64,
            ..Output::default()
        }
    }
}

macro_rules! answers {
    ($($reply:ident $(=> $count:path)?),* $(,)?) => {
        $(impl Answer for v1::$reply {
            fn set_call(&mut self, info: v1::CallInfo) {
                self.call = Some(info);
            }

            fn output(&self) -> Output {
                let output = Output {
                    bytes: self.encoded_len() as u64,
                    ..Output::default()
                };
                $(let output = $count(self, output);)?
                output
            }
        })*
    };
}

answers!(
    CreateAccountResponse,
    GetAccountResponse,
    ListAccountsResponse,
    UpdateAccountResponse,
    CreateApiKeyResponse,
    ListApiKeysResponse,
    RevokeApiKeyResponse,
    CloseAccountResponse,
    ListAuditLogResponse,
    CreateCollectionResponse,
    GetCollectionResponse,
    ListCollectionsResponse,
    UpdateCollectionResponse,
    DeleteCollectionResponse,
    EnrollPersonResponse => outputs::enrolled,
    AddFacesResponse => outputs::added,
    GetPersonResponse,
    ListPersonsResponse => outputs::listed,
    UpdatePersonResponse,
    DeleteFacesResponse,
    DeletePersonResponse,
    DetectFacesResponse => outputs::detected,
    CompareFacesResponse => outputs::compared,
    VerifyPersonResponse => outputs::verified,
    SearchPersonsResponse => outputs::searched,
    EraseEverywhereResponse,
    GetErasureReceiptResponse,
    ListErasureReceiptsResponse,
    GetErasureStatusResponse,
    DestroyKeyGroupResponse,
    RotateSigningKeyResponse,
    PrepareResidueAuditResponse,
    CopyPersonResponse,
    RenamePersonResponse,
    ExportPersonResponse,
    ListConsentsResponse,
    WithdrawConsentResponse,
    ListRunningLogResponse => outputs::logged,
    GetUsageResponse,
    GetPolicyResponse,
);

/// A request that may name its write by an idempotency token.
pub trait Tokened: Message {
    fn take_token(&mut self) -> String;
}

macro_rules! tokened {
    ($($request:ident),* $(,)?) => {
        $(impl Tokened for v1::$request {
            fn take_token(&mut self) -> String {
                std::mem::take(&mut self.idempotency_token)
            }
        })*
    };
}

tokened!(
    CreateCollectionRequest,
    UpdateCollectionRequest,
    DeleteCollectionRequest,
    EnrollPersonRequest,
    AddFacesRequest,
    UpdatePersonRequest,
    DeleteFacesRequest,
    DeletePersonRequest,
    EraseEverywhereRequest,
    CopyPersonRequest,
    RenamePersonRequest,
    WithdrawConsentRequest,
);

/// Messages of a stream say nothing about their call.
macro_rules! streamed {
    ($($reply:ident),* $(,)?) => {
        $(impl Answer for v1::$reply {
            fn set_call(&mut self, _: v1::CallInfo) {}
        })*
    };
}

streamed!(
    ImportPersonsResponse,
    DeletePersonsResponse,
    RotateWrappingKeyResponse,
    ExportRunningLogResponse,
    FindDuplicatesResponse,
    MeasureIndexResponse,
);
