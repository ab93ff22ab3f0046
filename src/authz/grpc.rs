//! The Check as a gRPC service: tonic without a router, as that costs every call a tenth of its time.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::Status;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::service::Routes;
use tower::{BoxError, Service, service_fn};

use super::Gate;
use crate::pb::codec::RawCodec;

/// The service's name.
pub const NAME: &str = crate::pb::envoy::service::auth::v3::authorization_server::SERVICE_NAME;

/// The path of a Check.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Answers Checks, and hands every other call on to `others`: health and reflection.
pub fn service<B>(
    gate: Arc<Gate>,
    others: Routes,
) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    service_fn(move |request: Request<B>| {
        let other = (request.uri().path() != CHECK).then(|| others.clone());
        let gate = gate.clone();
        async move {
            if let Some(mut others) = other {
                return others.call(request).await;
            }
            let gate = &*gate;
            let check = service_fn(async |message: tonic::Request<Bytes>| {
                let checked = gate.check(message.get_ref()).await;
                checked.map(tonic::Response::new).map_err(|unreadable| Status::internal(unreadable.to_string()))
            });
            Ok(Grpc::new(RawCodec).unary(check, request).await)
        }
    })
}
