//! `anteroom.v1.WaitingRoom`: the same ways over gRPC.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status as GrpcStatus};

use super::entrance::BadToken;
use super::watching::{Watching, Word};
use super::{Desk, NONCE_HEADER, nonce};
use crate::cookie::TokenCookie;
use crate::listen::Progress;
use crate::pb::anteroom::v1 as pb;
use crate::pb::anteroom::v1::waiting_room_server::WaitingRoom;
use crate::room::decision::Refusal;
use crate::room::name::RoomName;
use crate::room::standing::{Standing, Status};
use crate::rooms::Room;
use crate::rooms::visit::{Answer, Shown, VisitError};
use crate::store::StoreError;
use crate::telemetry::metrics::label::StreamKind;

#[tonic::async_trait]
impl WaitingRoom for Desk {
    type WatchPositionStream = Answers;

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, GrpcStatus> {
        let shown = self
            .shown(&request, BadToken::Refused, &request.get_ref().ticket, &request.get_ref().pass)
            .await?;
        let room = self.room(&request.get_ref().room).await?;
        let answer = self.rooms.join(&room, &shown).await.map_err(|error| refused(&error))?;
        Ok(Response::new(pb::JoinResponse {
            expires: expires(&answer),
            standing: Some(standing(&answer.standing)),
            ticket: answer.ticket.map(|ticket| ticket.token),
            pass: answer.pass.map(|pass| pass.token),
        }))
    }

    async fn get_position(
        &self,
        request: Request<pb::GetPositionRequest>,
    ) -> Result<Response<pb::GetPositionResponse>, GrpcStatus> {
        let shown = self.shown(&request, BadToken::RefusedInHeader, &request.get_ref().ticket, "").await?;
        let room = self.room(&request.get_ref().room).await?;
        let answer = self.rooms.position(&room, &shown).await.map_err(|error| refused(&error))?;
        Ok(Response::new(pb::GetPositionResponse { standing: Some(standing(&answer.standing)) }))
    }

    async fn watch_position(
        &self,
        request: Request<pb::WatchPositionRequest>,
    ) -> Result<Response<Self::WatchPositionStream>, GrpcStatus> {
        let shown = self.shown(&request, BadToken::RefusedInHeader, &request.get_ref().ticket, "").await?;
        let room = self.room(&request.get_ref().room).await?;
        let watch = self.rooms.watch(&room, &shown).await.map_err(|error| refused(&error))?;
        let watching = Watching::new(self.streaming.clone(), StreamKind::Grpc, watch, None);
        let progress = Progress::of_this_stream(watching.stall());
        Ok(Response::new(Answers { watching, progress }))
    }

    async fn enter(
        &self,
        request: Request<pb::EnterRequest>,
    ) -> Result<Response<pb::EnterResponse>, GrpcStatus> {
        let mut shown = self.shown(&request, BadToken::Refused, &request.get_ref().ticket, "").await?;
        let nonces = request.metadata().get_all(NONCE_HEADER);
        shown.nonce = nonce(nonces.iter().map(MetadataValue::as_encoded_bytes));
        let room = self.room(&request.get_ref().room).await?;
        let answer = self.let_in(&room, &shown).await.map_err(|error| refused(&error))?;
        Ok(Response::new(pb::EnterResponse {
            expires: expires(&answer),
            standing: Some(standing(&answer.standing)),
            pass: answer.pass.map(|pass| pass.token).unwrap_or_default(),
        }))
    }

    async fn leave(
        &self,
        request: Request<pb::LeaveRequest>,
    ) -> Result<Response<pb::LeaveResponse>, GrpcStatus> {
        let shown = self
            .shown(&request, BadToken::RefusedInHeader, &request.get_ref().ticket, &request.get_ref().pass)
            .await?;
        let room = self.room(&request.get_ref().room).await?;
        if !self.rooms.leave_altogether(&room, &shown).await.map_err(|error| refused(&error))? {
            return Err(refused(&VisitError::NoToken));
        }
        Ok(Response::new(pb::LeaveResponse {}))
    }
}

/// A visitor's stream as gRPC messages.
pub struct Answers {
    watching: Watching,
    progress: Progress,
}

impl Stream for Answers {
    type Item = Result<pb::WatchPositionResponse, GrpcStatus>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let polled = Pin::new(&mut self.watching).poll_next(cx);
            self.progress.made_until(self.watching.wants_to_speak_at());
            return Poll::Ready(match ready!(polled) {
                Some(Word::Standing(told)) => {
                    Some(Ok(pb::WatchPositionResponse { standing: Some(standing(&told)) }))
                }
                // Only where the store is asked and does not answer: there is nothing to tell, and no comments.
                Some(Word::Heartbeat) => continue,
                Some(Word::Draining) => Some(Err(GrpcStatus::unavailable(
                    "this replica is draining; your place is kept: watch again after a random moment",
                ))),
                None => None,
            });
        }
    }
}

impl Desk {
    async fn room(&self, name: &str) -> Result<Arc<Room>, GrpcStatus> {
        let name = RoomName::parse(name).ok_or_else(|| {
            GrpcStatus::invalid_argument(format!("room: a room name is {}", RoomName::RULE))
        })?;
        self.rooms.room_named(&name).await.map_err(|error| refused(&error.into()))
    }

    /// What a request shows: the field, and after it the metadata.
    async fn shown<T: Sync>(
        &self,
        request: &Request<T>,
        bad_token: BadToken,
        ticket: &str,
        pass: &str,
    ) -> Result<Shown, GrpcStatus> {
        let metadata = request.metadata();
        let visitor = self.entrance.visitor(metadata.as_ref(), bad_token);
        let visitor = visitor.await.map_err(|error| refused(&error))?;
        let tokens = |field: &str, kind: TokenCookie| {
            let by_metadata = metadata.get(kind.header()).and_then(|value| value.to_str().ok());
            let given = Some(field).filter(|field| !field.is_empty());
            given.into_iter().chain(by_metadata).map(str::to_owned).collect()
        };
        // All are stated; there are no cookies.
        Ok(Shown {
            tickets: tokens(ticket, TokenCookie::Ticket),
            passes: tokens(pass, TokenCookie::Pass),
            ticket_stated: true,
            pass_stated: true,
            ..visitor
        })
    }
}

/// When the answer's pass ends, in seconds since the epoch; 0 without one.
fn expires(answer: &Answer) -> u64 {
    answer.pass.as_ref().map_or(0, |pass| pass.ends_at / 1_000)
}

fn refused(error: &VisitError) -> GrpcStatus {
    let message = error.told().into_owned();
    match error {
        VisitError::NoToken | VisitError::NoSubject => GrpcStatus::unauthenticated(message),
        VisitError::Refused(reason) => turned_away(reason, message),
        VisitError::NoNonce => GrpcStatus::invalid_argument(message),
        VisitError::UsedNonce => GrpcStatus::already_exists(message),
        VisitError::NotCalled(_) => GrpcStatus::failed_precondition(message),
        VisitError::Gone(_) => GrpcStatus::aborted(message),
        VisitError::TooManyStreams | VisitError::Store(StoreError::TooManyRooms { .. }) => {
            GrpcStatus::resource_exhausted(message)
        }
        VisitError::Store(StoreError::NoRoom(_)) => GrpcStatus::not_found(message),
        VisitError::Store(StoreError::Unavailable(_)) => GrpcStatus::unavailable(message),
        VisitError::Signing(_) => GrpcStatus::internal(message),
    }
}

/// What the gates say, in gRPC's words; when to come back is in the metadata.
fn turned_away(reason: &Refusal, message: String) -> GrpcStatus {
    let code = match reason {
        Refusal::Denied => Code::PermissionDenied,
        Refusal::NoUser | Refusal::BadToken | Refusal::NoSubject => Code::Unauthenticated,
        Refusal::UserUnknown | Refusal::Outage => Code::Unavailable,
        Refusal::Limited(_) => Code::ResourceExhausted,
        Refusal::NoKey => Code::InvalidArgument,
        Refusal::Repeated => Code::AlreadyExists,
    };
    let mut metadata = MetadataMap::new();
    if let Refusal::Limited(limited) = reason {
        for (name, value) in limited.headers() {
            // Our own texts and numbers.
            if let Ok(value) = MetadataValue::try_from(value) {
                metadata.insert(name, value);
            }
        }
    }
    GrpcStatus::with_metadata(code, message, metadata)
}

fn standing(standing: &Standing) -> pb::Standing {
    let status = match standing.status {
        Status::Waiting => pb::Status::Waiting,
        Status::Called => pb::Status::Called,
        Status::Admitted => pb::Status::Admitted,
        Status::Gone => pb::Status::Gone,
    };
    pb::Standing {
        status: status.into(),
        room: standing.room.to_string(),
        number: standing.number,
        position: standing.position,
        waiting: standing.waiting,
        eta: standing.eta.map(|eta| pb::Eta {
            seconds: eta.seconds,
            low: eta.low,
            high: eta.high,
            confidence: eta.confidence,
        }),
        poll_after: standing.poll_after,
    }
}
