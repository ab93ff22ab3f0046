//! The floor: bare HTTP/2 that reads a body, ignores it, and gives the no-op's answer, made ahead.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpListener;

use crate::question::framed;

/// Serves on any free port until the process ends.
pub(super) fn serve() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(address).await.map_err(|error| error.to_string())?;
        super::say(listener.local_addr().map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        let answer = Bytes::from(framed(&super::no_op::yes().encode_to_vec()));
        loop {
            let (socket, _) = listener.accept().await.map_err(|error| error.to_string())?;
            socket.set_nodelay(true).map_err(|error| error.to_string())?;
            let answer = answer.clone();
            let service = service_fn(move |request| give(request, answer.clone()));
            let mut server = http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(10_000);
            // It ends with its client, who hears of every failure that matters.
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    })
}

async fn give(
    request: Request<Incoming>,
    answer: Bytes,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(answer).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
