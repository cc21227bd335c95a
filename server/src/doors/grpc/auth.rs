//! Who calls, as gRPC says it: a key is looked up as the call arrives, and a call without a valid key is refused before
//! its message is read.

use std::sync::Arc;

use likeness_engine::Engine;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use zeroize::Zeroizing;

use crate::call::caller::{ClientAddress, Identity};
use crate::call::front::Front;
use crate::doors::grpc::connections::Link;
use crate::doors::grpc::status;
use crate::refusal::Refusal;
use likeness_proto::credential::{AUTHORIZATION, SCHEME};

/// Looks up the key that a call shows, as it arrives. Refuses no call: health needs no key.
pub fn identify(
    engine: Arc<Engine>,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |mut request| {
        let identity = identity(request.metadata(), &engine);
        let link = Link::of(request.extensions()).cloned();
        if let (Some(link), Identity::Caller(caller)) = (&link, &identity) {
            link.show_key(&caller.account);
        }
        // What no later layer has, none of them can leak.
        request.metadata_mut().remove(AUTHORIZATION);
        if let Some(link) = link {
            request.extensions_mut().insert(ClientAddress(link.address()));
        }
        request.extensions_mut().insert(identity);
        Ok(request)
    }
}

fn identity(metadata: &MetadataMap, engine: &Engine) -> Identity {
    let mut values = metadata.get_all(AUTHORIZATION).iter();
    let (Some(value), rest) = (values.next(), values.next()) else {
        return Identity::KeyMissing;
    };
    let text = value.to_str().ok().filter(|_| rest.is_none());
    let key = text.and_then(|text| text.strip_prefix(SCHEME)).map(str::to_owned);
    match key.map(Zeroizing::new) {
        Some(key) => Identity::of_key(&key, engine),
        None => Identity::KeyNotValid,
    }
}

/// Why a request may not pass, if it shows no valid key.
pub fn keyless<T>(request: &Request<T>) -> Option<Refusal> {
    match request.extensions().get::<Identity>() {
        Some(identity) => identity.caller().err(),
        // Where the lookup was forgotten, no call is let in.
        None => Some(Refusal::KeyRequired),
    }
}

/// Lets a request pass, or refuses it, before its message is read.
#[derive(Clone)]
pub enum AuthInterceptor {
    /// Refuses none.
    Open,
    /// Refuses calls without a valid key.
    Keyed(Front),
}

impl AuthInterceptor {
    /// A service behind it.
    pub fn before<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }
}

impl Interceptor for AuthInterceptor {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match (&self, keyless(&request)) {
            (Self::Keyed(front), Some(refusal)) => {
                let client = request.extensions().get().copied();
                Err(status::of(front.reject("", refusal, client)))
            }
            _ => Ok(request),
        }
    }
}
