//! An `ext_authz` service as it is usually written: tonic's own server, the official messages, and a yes.

use std::net::SocketAddr;

use envoy_types::pb::envoy::service::auth::v3 as official;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::google::rpc::Status;
use official::authorization_server::{Authorization, AuthorizationServer};
use tonic::transport::server::TcpIncoming;

/// More streams on a connection than tonic's 200, so that a stall queues in the service and not in the client.
const STREAMS: u32 = 10_000;

struct NoOp;

#[tonic::async_trait]
impl Authorization for NoOp {
    async fn check(
        &self,
        _question: tonic::Request<official::CheckRequest>,
    ) -> Result<tonic::Response<official::CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(yes()))
    }
}

/// The shortest yes there is.
pub(crate) fn yes() -> official::CheckResponse {
    official::CheckResponse {
        status: Some(Status::default()),
        http_response: Some(HttpResponse::OkResponse(official::OkHttpResponse::default())),
        ..Default::default()
    }
}

/// Serves on any free port until the process ends.
pub(super) fn serve() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let bound = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|e| e.to_string())?;
        let incoming = bound.with_nodelay(Some(true));
        super::say(incoming.local_addr().map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        let mut server = tonic::transport::Server::builder().max_concurrent_streams(Some(STREAMS));
        let served = server.add_service(AuthorizationServer::new(NoOp)).serve_with_incoming(incoming);
        served.await.map_err(|error| error.to_string())
    })
}
