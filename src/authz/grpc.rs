//! The Check as a gRPC service, framed by hand: one message comes, one goes.
//!
//! With tonic's codec and buffers in between, a Check with a pass took an eighth more of the CPU, most of it for moving
//! futures, boxes and buffers about. Errors are tonic's, and so is everything beside the Check: health and reflection.

use std::convert::Infallible;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{BoxError, Service, service_fn};

use super::Gate;

/// The service's name.
pub const NAME: &str = crate::pb::envoy::service::auth::v3::authorization_server::SERVICE_NAME;

/// The path of a Check.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// In which trace the caller asks.
const TRACEPARENT: &str = "traceparent";

/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The longest question, in bytes: as tonic has it for all others.
const MAX_MESSAGE: usize = 4 << 20;
/// Room for the answer to a pass: its token, and some 350 bytes around it.
const USUAL_ANSWER: usize = 768;

/// Answers Checks, and hands every other call on to `others`: health and reflection.
pub fn service<B>(
    gate: Arc<Gate>,
    others: Routes,
) -> impl Service<Request<B>, Response = Response<Reply>, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    service_fn(move |request: Request<B>| {
        let other = (request.uri().path() != CHECK).then(|| others.clone());
        let gate = gate.clone();
        async move {
            if let Some(mut others) = other {
                let called = Box::pin(async move { others.call(request).await });
                return Ok(called.await?.map(Reply::Other));
            }
            let trace = if gate.notes_traces() { request.headers().get(TRACEPARENT).cloned() } else { None };
            Ok(match answer(&gate, trace, request.into_body()).await {
                Ok(framed) => {
                    let mut response = Response::new(Reply::Message(framed.into()));
                    let grpc = HeaderValue::from_static("application/grpc");
                    response.headers_mut().insert(CONTENT_TYPE, grpc);
                    response
                }
                Err(status) => status.into_http(),
            })
        }
    })
}

/// The answer to a question, each with its prefix.
async fn answer<B>(gate: &Gate, trace: Option<HeaderValue>, body: B) -> Result<Vec<u8>, Status>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let framed = whole(body).await?;
    let mut answer = Vec::with_capacity(USUAL_ANSWER);
    answer.extend([0; PREFIX]);
    let trace = trace.as_ref().and_then(|trace| trace.to_str().ok());
    let checked = gate.check(message(&framed)?, trace, answer).await;
    let mut answer = checked.map_err(|unreadable| Status::internal(unreadable.to_string()))?;
    let len = u32::try_from(answer.len() - PREFIX);
    let len = len.map_err(|_| Status::internal("the answer is longer than gRPC can say"))?;
    answer[1..PREFIX].copy_from_slice(&len.to_be_bytes());
    Ok(answer)
}

/// A body to its end; nearly always it is one frame, which is taken as it is.
async fn whole<B>(body: B) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await else { break };
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > PREFIX + MAX_MESSAGE {
            return Err(Status::out_of_range(format!("the question is longer than {MAX_MESSAGE} bytes")));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The one message of a unary call.
fn message(framed: &[u8]) -> Result<&[u8], Status> {
    let (prefix, message) = framed
        .split_first_chunk::<PREFIX>()
        .ok_or_else(|| Status::internal("the question is missing or cut off"))?;
    let [compressed, len @ ..] = *prefix;
    if compressed != 0 {
        return Err(Status::unimplemented("the question is compressed: send it plain"));
    }
    if usize::try_from(u32::from_be_bytes(len)) != Ok(message.len()) {
        return Err(Status::internal("the question is not one whole message"));
    }
    Ok(message)
}

/// The body of an answer.
#[derive(Debug, Default)]
pub enum Reply {
    /// A message with its prefix, and then a good end.
    Message(Bytes),
    /// The good end.
    End,
    /// Nothing more.
    #[default]
    Nothing,
    /// What one of the other services says.
    Other(Body),
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let reply = self.get_mut();
        let frame = match mem::take(reply) {
            Self::Message(message) => {
                *reply = Self::End;
                Frame::data(message)
            }
            Self::End => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
                Frame::trailers(trailers)
            }
            Self::Nothing => return Poll::Ready(None),
            Self::Other(mut body) => {
                let polled = Pin::new(&mut body).poll_frame(cx);
                *reply = Self::Other(body);
                return polled;
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(_) | Self::End => false,
            Self::Nothing => true,
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tonic::Code;

    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
        result.unwrap_err().code()
    }

    #[test]
    fn one_whole_plain_message_is_taken_and_nothing_else() {
        assert_eq!(message(b"\0\0\0\0\0").unwrap(), b"");
        assert_eq!(message(b"\0\0\0\0\x02ab").unwrap(), b"ab");
        for broken in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x02abc", b"\0\xff\xff\xff\xffa"] {
            assert_eq!(code(message(broken)), Code::Internal, "{broken:?}");
        }
        assert_eq!(code(message(b"\x01\0\0\0\x02ab")), Code::Unimplemented);
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together_and_one_too_long_refused() {
        assert_eq!(whole(Full::new(Bytes::from_static(b"abc"))).await.unwrap(), "abc");
        let pieces = |pieces: Vec<Bytes>| {
            let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            StreamBody::new(futures_util::stream::iter(frames))
        };
        let three = ["a", "", "b", "c"].map(Bytes::from).to_vec();
        assert_eq!(whole(pieces(three)).await.unwrap(), "abc");
        let long = vec![Bytes::from(vec![0; 1 << 20]); 5];
        assert_eq!(code(whole(pieces(long)).await), Code::OutOfRange);
    }

    #[tokio::test]
    async fn a_reply_is_a_message_and_a_good_end() {
        let reply = Reply::Message(Bytes::from_static(b"yes"));
        let collected = reply.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "yes");
        assert!(Reply::default().is_end_stream());
    }
}
