//! The services of the contract: every method hands its request to its call. The one list of the services is at the
//! end.

use likeness_proto::v1;
use likeness_proto::v1::account_service_server::{AccountService, AccountServiceServer};
use likeness_proto::v1::collection_service_server::{CollectionService, CollectionServiceServer};
use likeness_proto::v1::erasure_service_server::{ErasureService, ErasureServiceServer};
use likeness_proto::v1::key_service_server::{KeyService, KeyServiceServer};
use likeness_proto::v1::log_service_server::{LogService, LogServiceServer};
use likeness_proto::v1::matching_service_server::{MatchingService, MatchingServiceServer};
use likeness_proto::v1::person_service_server::{PersonService, PersonServiceServer};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::adapter::{Adapter, Replies, RequestReplies};
use super::auth::AuthInterceptor;
use crate::call::front::Front;
use crate::config::{MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};

#[tonic::async_trait]
impl CollectionService for Adapter {
    async fn create_collection(
        &self,
        request: Request<v1::CreateCollectionRequest>,
    ) -> Result<Response<v1::CreateCollectionResponse>, Status> {
        self.unary(request).await
    }

    async fn get_collection(
        &self,
        request: Request<v1::GetCollectionRequest>,
    ) -> Result<Response<v1::GetCollectionResponse>, Status> {
        self.unary(request).await
    }

    async fn list_collections(
        &self,
        request: Request<v1::ListCollectionsRequest>,
    ) -> Result<Response<v1::ListCollectionsResponse>, Status> {
        self.unary(request).await
    }

    async fn update_collection(
        &self,
        request: Request<v1::UpdateCollectionRequest>,
    ) -> Result<Response<v1::UpdateCollectionResponse>, Status> {
        self.unary(request).await
    }

    type MeasureIndexStream = Replies<v1::MeasureIndexRequest>;

    async fn measure_index(
        &self,
        request: Request<v1::MeasureIndexRequest>,
    ) -> Result<Response<Self::MeasureIndexStream>, Status> {
        self.reply_stream(request).await
    }

    async fn delete_collection(
        &self,
        request: Request<v1::DeleteCollectionRequest>,
    ) -> Result<Response<v1::DeleteCollectionResponse>, Status> {
        self.unary(request).await
    }
}

#[tonic::async_trait]
impl PersonService for Adapter {
    async fn enroll_person(
        &self,
        request: Request<v1::EnrollPersonRequest>,
    ) -> Result<Response<v1::EnrollPersonResponse>, Status> {
        self.unary(request).await
    }

    async fn add_faces(
        &self,
        request: Request<v1::AddFacesRequest>,
    ) -> Result<Response<v1::AddFacesResponse>, Status> {
        self.unary(request).await
    }

    async fn get_person(
        &self,
        request: Request<v1::GetPersonRequest>,
    ) -> Result<Response<v1::GetPersonResponse>, Status> {
        self.unary(request).await
    }

    async fn list_persons(
        &self,
        request: Request<v1::ListPersonsRequest>,
    ) -> Result<Response<v1::ListPersonsResponse>, Status> {
        self.unary(request).await
    }

    async fn update_person(
        &self,
        request: Request<v1::UpdatePersonRequest>,
    ) -> Result<Response<v1::UpdatePersonResponse>, Status> {
        self.unary(request).await
    }

    async fn delete_faces(
        &self,
        request: Request<v1::DeleteFacesRequest>,
    ) -> Result<Response<v1::DeleteFacesResponse>, Status> {
        self.unary(request).await
    }

    async fn delete_person(
        &self,
        request: Request<v1::DeletePersonRequest>,
    ) -> Result<Response<v1::DeletePersonResponse>, Status> {
        self.unary(request).await
    }

    async fn erase_everywhere(
        &self,
        request: Request<v1::EraseEverywhereRequest>,
    ) -> Result<Response<v1::EraseEverywhereResponse>, Status> {
        self.unary(request).await
    }

    type DeletePersonsStream = RequestReplies<v1::DeletePersonsRequest>;

    async fn delete_persons(
        &self,
        request: Request<Streaming<v1::DeletePersonsRequest>>,
    ) -> Result<Response<Self::DeletePersonsStream>, Status> {
        self.request_stream(request).await
    }

    type ImportPersonsStream = RequestReplies<v1::ImportPersonsRequest>;

    async fn import_persons(
        &self,
        request: Request<Streaming<v1::ImportPersonsRequest>>,
    ) -> Result<Response<Self::ImportPersonsStream>, Status> {
        self.request_stream(request).await
    }

    async fn copy_person(
        &self,
        request: Request<v1::CopyPersonRequest>,
    ) -> Result<Response<v1::CopyPersonResponse>, Status> {
        self.unary(request).await
    }

    async fn rename_person(
        &self,
        request: Request<v1::RenamePersonRequest>,
    ) -> Result<Response<v1::RenamePersonResponse>, Status> {
        self.unary(request).await
    }

    async fn export_person(
        &self,
        request: Request<v1::ExportPersonRequest>,
    ) -> Result<Response<v1::ExportPersonResponse>, Status> {
        self.unary(request).await
    }

    async fn list_consents(
        &self,
        request: Request<v1::ListConsentsRequest>,
    ) -> Result<Response<v1::ListConsentsResponse>, Status> {
        self.unary(request).await
    }

    async fn withdraw_consent(
        &self,
        request: Request<v1::WithdrawConsentRequest>,
    ) -> Result<Response<v1::WithdrawConsentResponse>, Status> {
        self.unary(request).await
    }
}

#[tonic::async_trait]
impl MatchingService for Adapter {
    async fn detect_faces(
        &self,
        request: Request<v1::DetectFacesRequest>,
    ) -> Result<Response<v1::DetectFacesResponse>, Status> {
        self.unary(request).await
    }

    async fn compare_faces(
        &self,
        request: Request<v1::CompareFacesRequest>,
    ) -> Result<Response<v1::CompareFacesResponse>, Status> {
        self.unary(request).await
    }

    async fn verify_person(
        &self,
        request: Request<v1::VerifyPersonRequest>,
    ) -> Result<Response<v1::VerifyPersonResponse>, Status> {
        self.unary(request).await
    }

    async fn search_persons(
        &self,
        request: Request<v1::SearchPersonsRequest>,
    ) -> Result<Response<v1::SearchPersonsResponse>, Status> {
        self.unary(request).await
    }

    type FindDuplicatesStream = Replies<v1::FindDuplicatesRequest>;

    async fn find_duplicates(
        &self,
        request: Request<v1::FindDuplicatesRequest>,
    ) -> Result<Response<Self::FindDuplicatesStream>, Status> {
        self.reply_stream(request).await
    }
}

#[tonic::async_trait]
impl ErasureService for Adapter {
    async fn get_erasure_receipt(
        &self,
        request: Request<v1::GetErasureReceiptRequest>,
    ) -> Result<Response<v1::GetErasureReceiptResponse>, Status> {
        self.unary(request).await
    }

    async fn list_erasure_receipts(
        &self,
        request: Request<v1::ListErasureReceiptsRequest>,
    ) -> Result<Response<v1::ListErasureReceiptsResponse>, Status> {
        self.unary(request).await
    }

    async fn get_erasure_status(
        &self,
        request: Request<v1::GetErasureStatusRequest>,
    ) -> Result<Response<v1::GetErasureStatusResponse>, Status> {
        self.unary(request).await
    }

    async fn prepare_residue_audit(
        &self,
        request: Request<v1::PrepareResidueAuditRequest>,
    ) -> Result<Response<v1::PrepareResidueAuditResponse>, Status> {
        self.unary(request).await
    }
}

#[tonic::async_trait]
impl KeyService for Adapter {
    type RotateWrappingKeyStream = Replies<v1::RotateWrappingKeyRequest>;

    async fn rotate_wrapping_key(
        &self,
        request: Request<v1::RotateWrappingKeyRequest>,
    ) -> Result<Response<Self::RotateWrappingKeyStream>, Status> {
        self.reply_stream(request).await
    }

    async fn rotate_signing_key(
        &self,
        request: Request<v1::RotateSigningKeyRequest>,
    ) -> Result<Response<v1::RotateSigningKeyResponse>, Status> {
        self.unary(request).await
    }

    async fn destroy_key_group(
        &self,
        request: Request<v1::DestroyKeyGroupRequest>,
    ) -> Result<Response<v1::DestroyKeyGroupResponse>, Status> {
        self.unary(request).await
    }
}

#[tonic::async_trait]
impl LogService for Adapter {
    async fn list_running_log(
        &self,
        request: Request<v1::ListRunningLogRequest>,
    ) -> Result<Response<v1::ListRunningLogResponse>, Status> {
        self.unary(request).await
    }

    type ExportRunningLogStream = Replies<v1::ExportRunningLogRequest>;

    async fn export_running_log(
        &self,
        request: Request<v1::ExportRunningLogRequest>,
    ) -> Result<Response<Self::ExportRunningLogStream>, Status> {
        self.reply_stream(request).await
    }

    async fn get_usage(
        &self,
        request: Request<v1::GetUsageRequest>,
    ) -> Result<Response<v1::GetUsageResponse>, Status> {
        self.unary(request).await
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        self.unary(request).await
    }
}

#[tonic::async_trait]
impl AccountService for Adapter {
    async fn create_account(
        &self,
        request: Request<v1::CreateAccountRequest>,
    ) -> Result<Response<v1::CreateAccountResponse>, Status> {
        self.unary(request).await
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        self.unary(request).await
    }

    async fn list_accounts(
        &self,
        request: Request<v1::ListAccountsRequest>,
    ) -> Result<Response<v1::ListAccountsResponse>, Status> {
        self.unary(request).await
    }

    async fn update_account(
        &self,
        request: Request<v1::UpdateAccountRequest>,
    ) -> Result<Response<v1::UpdateAccountResponse>, Status> {
        self.unary(request).await
    }

    async fn close_account(
        &self,
        request: Request<v1::CloseAccountRequest>,
    ) -> Result<Response<v1::CloseAccountResponse>, Status> {
        self.unary(request).await
    }

    async fn list_audit_log(
        &self,
        request: Request<v1::ListAuditLogRequest>,
    ) -> Result<Response<v1::ListAuditLogResponse>, Status> {
        self.unary(request).await
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        self.unary(request).await
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        self.unary(request).await
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        self.unary(request).await
    }
}

/// The one list of the services, each with the longest message that it takes.
macro_rules! services {
    ($($server:ident: $bytes_max:expr),* $(,)?) => {
        /// Their full names.
        pub const NAMES: [&str; [$(stringify!($server)),*].len()] =
            [$(<$server<Adapter> as NamedService>::NAME),*];

        /// Adds all of them, behind the look at their callers' keys.
        pub fn add_to(routes: Routes, front: &Front, keyed: &AuthInterceptor) -> Routes {
            let adapter = Adapter::new(front.clone());
            $(
                let service = $server::new(adapter.clone()).max_decoding_message_size($bytes_max);
                let routes = routes.add_service(keyed.before(service));
            )*
            routes
        }
    };
}

services!(
    CollectionServiceServer: MESSAGE_BYTES_MAX,
    PersonServiceServer: MESSAGE_BYTES_MAX,
    MatchingServiceServer: MESSAGE_BYTES_MAX,
    ErasureServiceServer: SMALL_MESSAGE_BYTES_MAX,
    KeyServiceServer: SMALL_MESSAGE_BYTES_MAX,
    LogServiceServer: SMALL_MESSAGE_BYTES_MAX,
    AccountServiceServer: SMALL_MESSAGE_BYTES_MAX,
);
