//! Rotating and destroying keys.

use likeness_engine::{Act, Engine, Rotation};
use likeness_proto::v1::key_service_server::KeyService;
use likeness_proto::v1::{
    DestroyKeyGroupRequest, DestroyKeyGroupResponse, RotateSigningKeyRequest, RotateSigningKeyResponse,
    RotateWrappingKeyRequest, RotateWrappingKeyResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Ongoing, Service, insert_id};
use crate::convert;
use crate::status::Refusal;

/// Messages of progress that may wait for a slow client; later ones are left out.
const PROGRESS_WAITING_MAX: usize = 16;

#[tonic::async_trait]
impl KeyService for Service {
    type RotateWrappingKeyStream = ReceiverStream<Result<RotateWrappingKeyResponse, Status>>;

    async fn rotate_wrapping_key(
        &self,
        request: Request<RotateWrappingKeyRequest>,
    ) -> Result<Response<Self::RotateWrappingKeyStream>, Status> {
        let mut call = self.begin("RotateWrappingKey", &request)?;
        let entry = call.own_act(Act::RotateWrappingKey, "");
        let (progress, stream) = mpsc::channel(PROGRESS_WAITING_MAX);
        let mut reply = Response::new(ReceiverStream::new(stream));
        insert_id(reply.metadata_mut(), &call.request_id);
        // The rotation goes on when the client goes away: half a rotation helps nobody.
        let patience = call.patience();
        // However many keys there are to wrap.
        call.deadline = None;
        tokio::spawn(async move {
            let telling = progress.clone();
            let outcome = call
                .store(move |work, _| {
                    let mut tell = |done, total| {
                        let _ = telling.try_send(Ok(RotateWrappingKeyResponse {
                            done,
                            total,
                            ..Default::default()
                        }));
                    };
                    Ok(work.audited(&entry, |engine| engine.rotate_wrapping(&mut tell))?)
                })
                .await;
            let last = call.finish(outcome.map(last_message)).map(Response::into_inner);
            // The client may have gone, or take nothing.
            let _ = tokio::time::timeout(patience, progress.send(last)).await;
        });
        Ok(reply)
    }

    async fn rotate_signing_key(
        &self,
        request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        let mut call = self.begin("RotateSigningKey", &request)?;
        let entry = call.own_act(Act::RotateSigningKey, "");
        let rotated = call
            .store(move |work, _| Ok(work.audited(&entry, Engine::rotate_signing)?))
            .await;
        call.finish(rotated.map(|public_key| RotateSigningKeyResponse {
            call: None,
            public_key: public_key.to_vec(),
        }))
    }

    async fn destroy_key_group(
        &self,
        request: Request<DestroyKeyGroupRequest>,
    ) -> Result<Response<DestroyKeyGroupResponse>, Status> {
        let mut call = self.begin("DestroyKeyGroup", &request)?;
        let answer = destroy(&mut call, request.into_inner()).await;
        call.finish(answer)
    }
}

fn last_message(rotation: Rotation) -> RotateWrappingKeyResponse {
    RotateWrappingKeyResponse {
        done: 0,
        total: 0,
        finished: true,
        rewrapped: rotation.rewrapped,
        unreadable: rotation.unreadable,
        old_key_destroyed: rotation.old_key_destroyed,
    }
}

async fn destroy(
    call: &mut Ongoing,
    request: DestroyKeyGroupRequest,
) -> Result<DestroyKeyGroupResponse, Refusal> {
    let entry = call.own_act(Act::DestroyKeyGroup, "");
    let erased = call
        .store(move |work, call| {
            convert::own_key_group(&request.key_group, &work.account)?;
            Ok(work.audited(&entry, |engine| engine.destroy_key_group(&work.account, call))?)
        })
        .await?;
    Ok(DestroyKeyGroupResponse {
        call: None,
        persons_erased: erased.iter().map(|erasure| erasure.persons as u64).sum(),
        receipts: erased
            .into_iter()
            .flat_map(convert::collection_receipts)
            .collect(),
    })
}
