//! How large requests are, for the logs: sizes and counts, and never a value.

use likeness_proto::v1;

use crate::logs::{Shape, Shaped};

fn photographs(photographs: &[v1::Photograph]) -> impl Iterator<Item = &[u8]> {
    photographs.iter().map(|photograph| &photograph.data[..])
}

/// Requests by the names in them.
macro_rules! shapes {
    ($($request:ident => $names:expr),* $(,)?) => {
        $(impl Shaped for v1::$request {
            fn shape(&self) -> Shape {
                Shape::of(self, std::iter::empty(), $names)
            }
        })*
    };
}

/// Requests with photographs, and the names in them.
macro_rules! photographed {
    ($($request:ident($field:ident) => $names:expr),* $(,)?) => {
        $(impl Shaped for v1::$request {
            fn shape(&self) -> Shape {
                Shape::of(self, photographs(self.$field.as_slice()), $names)
            }
        })*
    };
}

shapes!(
    CreateCollectionRequest => 1,
    GetCollectionRequest => 1,
    ListCollectionsRequest => 0,
    UpdateCollectionRequest => 1,
    DeleteCollectionRequest => 1,
    GetPersonRequest => 2,
    ListPersonsRequest => 1,
    UpdatePersonRequest => 2,
    DeleteFacesRequest => 2,
    DeletePersonRequest => 2,
    EraseEverywhereRequest => 1,
    DeletePersonsRequest => 2,
    CopyPersonRequest => 4,
    RenamePersonRequest => 3,
    ExportPersonRequest => 1,
    ListConsentsRequest => 1,
    WithdrawConsentRequest => 2,
    PrepareResidueAuditRequest => 2,
    RotateWrappingKeyRequest => 0,
    RotateSigningKeyRequest => 0,
    DestroyKeyGroupRequest => 0,
    CreateAccountRequest => 0,
    GetAccountRequest => 0,
    ListAccountsRequest => 0,
    UpdateAccountRequest => 0,
    CreateApiKeyRequest => 0,
    ListApiKeysRequest => 0,
    RevokeApiKeyRequest => 0,
    CloseAccountRequest => 0,
    ListAuditLogRequest => 0,
    GetErasureReceiptRequest => 0,
    ListErasureReceiptsRequest => 0,
    GetErasureStatusRequest => 0,
    FindDuplicatesRequest => 1,
    MeasureIndexRequest => 1,
    ListRunningLogRequest => 2,
    ExportRunningLogRequest => 1,
    GetUsageRequest => 0,
    GetPolicyRequest => 0,
);

photographed!(
    EnrollPersonRequest(photographs) => 2,
    AddFacesRequest(photographs) => 2,
    ImportItem(photographs) => 1,
    DetectFacesRequest(photograph) => 0,
    VerifyPersonRequest(photograph) => 2,
);

impl Shaped for v1::SearchPersonsRequest {
    fn shape(&self) -> Shape {
        let ids = self.filter.as_ref().map_or(0, |filter| filter.person_ids.len());
        let names = self.collections.len() + ids;
        Shape::of(self, photographs(self.photograph.as_slice()), names)
    }
}

impl Shaped for v1::CompareFacesRequest {
    fn shape(&self) -> Shape {
        let both = [&self.first, &self.second].into_iter().flatten();
        Shape::of(self, both.map(|photograph| &photograph.data[..]), 0)
    }
}
