//! Rotating and destroying keys.

use likeness_engine::{Act, Engine, Rotation};
use likeness_proto::v1::{
    DestroyKeyGroupRequest, DestroyKeyGroupResponse, RotateSigningKeyRequest, RotateSigningKeyResponse,
    RotateWrappingKeyRequest, RotateWrappingKeyResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::call::context::{Answered, CallContext};
use crate::convert;
use crate::refusal::{Refusal, Refused};

/// Messages of progress that may wait for a slow client; later ones are left out.
const PROGRESS_WAITING_MAX: usize = 16;

/// The progress of a rotation, and then what came of it.
pub type Progress = ReceiverStream<Result<RotateWrappingKeyResponse, Refused>>;

pub async fn rotate_wrapping(
    mut call: CallContext,
    _: RotateWrappingKeyRequest,
) -> Result<Answered<Progress>, Refused> {
    let entry = call.own_act(Act::RotateWrappingKey, "");
    let (progress, stream) = mpsc::channel(PROGRESS_WAITING_MAX);
    let answered = Answered {
        request_id: call.request_id.clone(),
        reply: ReceiverStream::new(stream),
    };
    // The rotation goes on when the client goes away: half a rotation helps nobody.
    let patience = call.patience();
    // However many keys there are to wrap.
    call.deadline = None;
    tokio::spawn(async move {
        let telling = progress.clone();
        let outcome = call
            .on_storage_pool(move |work, _| {
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
        let last = call
            .finish(outcome.map(last_message))
            .map(|answered| answered.reply);
        // The client may have gone, or take nothing.
        let _ = tokio::time::timeout(patience, progress.send(last)).await;
    });
    Ok(answered)
}

pub async fn rotate_signing(
    call: &mut CallContext,
    _: RotateSigningKeyRequest,
) -> Result<RotateSigningKeyResponse, Refusal> {
    let entry = call.own_act(Act::RotateSigningKey, "");
    let public_key = call
        .on_storage_pool(move |work, _| Ok(work.audited(&entry, Engine::rotate_signing)?))
        .await?;
    Ok(RotateSigningKeyResponse {
        call: None,
        public_key: public_key.to_vec(),
    })
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

pub async fn destroy(
    call: &mut CallContext,
    request: DestroyKeyGroupRequest,
) -> Result<DestroyKeyGroupResponse, Refusal> {
    let entry = call.own_act(Act::DestroyKeyGroup, "");
    let erased = call
        .on_storage_pool(move |work, call| {
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
