//! What an operator's control asks for, from its body.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use serde::Deserialize;

use super::refusal::{Answer, Refusal};
use crate::room::name::RoomName;
use crate::room::policy::quoted;
use crate::room::rate::Rate;
use crate::room::state::{Control, Limits};
use crate::telemetry::metrics::label::OperatorCall;

/// The largest body read, in bytes.
const MAX_BODY: usize = 4 * 1024;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(5);

/// What is asked for. In words, for the audit log, it comes back in `asked`, also where it is then refused.
pub(super) fn control(
    call: OperatorCall,
    name: &RoomName,
    body: &[u8],
    asked: &mut Option<String>,
) -> Answer<Control> {
    match call {
        OperatorCall::Limits => {
            let stated: Stated = read(body, r#"{"capacity": 500, "rate": "50/s", "burst": 50}"#)?;
            *asked = Some(stated.in_words());
            let Stated { capacity, rate, burst } = stated;
            Limits::stated(capacity, rate, burst).map(Control::Limits).map_err(Refusal::wrong)
        }
        OperatorCall::Reset => {
            let example = format!(r#"{{"confirm": "{name}"}}"#);
            let Confirmed { confirm } = read(body, &example)?;
            *asked = Some(format!("confirm {}", quoted(&confirm)));
            if confirm != name.as_str() {
                let why = "everybody in line would lose their place, and everybody inside their pass";
                return Err(Refusal::wrong(format!("{why}: to do so, send {example}")));
            }
            Ok(Control::Reset)
        }
        _ if !body.trim_ascii().is_empty() => Err(Refusal::wrong("this call takes no body")),
        OperatorCall::Pause => Ok(Control::Pause),
        OperatorCall::Resume => Ok(Control::Resume),
        OperatorCall::Clear => Ok(Control::Limits(Limits::default())),
        OperatorCall::List
        | OperatorCall::Show
        | OperatorCall::DenyList
        | OperatorCall::DenyAdd
        | OperatorCall::DenyRemove
        | OperatorCall::Other => Err(Refusal::wrong("this call controls no room")),
    }
}

/// An operator's limits, as they are sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    capacity: Option<u32>,
    rate: Option<Rate>,
    burst: Option<u32>,
}

impl Stated {
    /// What is stated of them.
    fn in_words(&self) -> String {
        let words = [
            self.capacity.map(|capacity| format!("capacity {capacity}")),
            self.rate.map(|rate| format!("rate {rate}")),
            self.burst.map(|burst| format!("burst {burst}")),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// That a reset is meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    confirm: String,
}

pub(super) fn read<'b, T: Deserialize<'b>>(body: &'b [u8], example: &str) -> Answer<T> {
    let wrong = |why: String| {
        Refusal::wrong(format!("the body cannot be understood: {why}; send JSON like {example}"))
    };
    // serde takes a list for a struct as well, by the order of its fields: nobody means that.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is no JSON object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))
}

/// The body, once it is there.
pub(super) async fn whole(body: Body) -> Answer<Bytes> {
    let read = tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await;
    let incomplete = |_| Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        ..Refusal::wrong(format!("the body did not come whole within {} s", BODY_TIME.as_secs()))
    };
    let unread = |_| Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        ..Refusal::wrong(format!("the body is larger than {MAX_BODY} bytes, or broke off"))
    };
    read.map_err(incomplete)?.map_err(unread)
}
