//! Operators' entries of the deny list: what is on it, who is put on it, who is taken off.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;

use super::body::{read, whole};
use super::record::{Asked, Record};
use super::refusal::{Answer, Refusal};
use super::{Operators, Shared};
use crate::admin::denied::{Done, Page, Told};
use crate::guard::deny::shared::{Change, ChangeError};
use crate::room::deny::written::Written;
use crate::telemetry::metrics::label::{OperatorCall, OperatorResult};

/// Entries on a page, unless told otherwise, and at most.
const PAGE: usize = 1_000;

pub(super) fn router() -> Router<Arc<Operators>> {
    Router::new().route("/", get(list).post(add).delete(remove))
}

async fn list(
    State(operators): State<Arc<Operators>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let asked = Asked::new(OperatorCall::DenyList, String::new(), &request);
    let listed = operators.denied(&asked, &query.unwrap_or_default());
    operators.tell(&asked, listed)
}

async fn add(operators: Shared, request: Request) -> Response {
    change(operators, OperatorCall::DenyAdd, request).await
}

async fn remove(operators: Shared, request: Request) -> Response {
    change(operators, OperatorCall::DenyRemove, request).await
}

async fn change(State(operators): Shared, call: OperatorCall, request: Request) -> Response {
    let asked = Asked::new(call, String::new(), &request);
    let done = operators.change_denied(&asked, request.into_body()).await;
    operators.tell(&asked, done)
}

impl Operators {
    fn denied(&self, asked: &Asked, query: &str) -> Answer<Page> {
        self.admit(asked)?;
        let (mut after, mut limit) = (0, PAGE);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = value.parse().ok();
            match (&*key, number) {
                ("after", Some(number)) => after = number,
                ("limit", Some(number)) if (1..=PAGE).contains(&number) => limit = number,
                ("after" | "limit", _) => {
                    return Err(Refusal::wrong(format!("after is a number, limit one from 1 to {PAGE}")));
                }
                _ => return Err(Refusal::wrong("only after and limit can be asked for")),
            }
        }
        let _slot = self.slot()?;
        let (listed, known) = self.denials.listed(after, limit);
        let now = self.rooms.now();
        let next = after.saturating_add(listed.len());
        let next = (!listed.is_empty() && next < known).then_some(next);
        Ok(Page { entries: listed.iter().map(|listed| Told::new(listed, now)).collect(), next, known })
    }

    async fn change_denied(&self, asked: &Asked, body: Body) -> Answer<Done> {
        self.admit(asked)?;
        let mut record = Record::of(asked, self.rooms.metrics());
        let done = self.changed(asked, body, &mut record).await;
        record.write(&done);
        done
    }

    async fn changed(&self, asked: &Asked, body: Body, record: &mut Record<'_>) -> Answer<Done> {
        let _slot = self.slot()?;
        let written: Written = read(&whole(body).await?, r#"{"ip": "192.0.2.0/24"}"#)?;
        let entry = written.entry().map_err(|mistake| Refusal::wrong(mistake.to_string()))?;
        record.asked = Some(entry.whom.to_string());
        let told = Done { entry: Written::from(&entry) };
        let change = match asked.call {
            OperatorCall::DenyRemove => Change::Remove(entry.whom),
            _ => Change::Add(entry),
        };
        self.guard.change_shared(&change, &self.denials, self.rooms.now()).await?;
        Ok(told)
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        match error {
            ChangeError::NotThere(_) => {
                Self { status: StatusCode::NOT_FOUND, counted: OperatorResult::NoEntry, detail }
            }
            ChangeError::TooMany | ChangeError::Over | ChangeError::TooLong(_) | ChangeError::Deny(_) => {
                Self::wrong(detail)
            }
            ChangeError::Unread(_) | ChangeError::Busy | ChangeError::Unheard(_) => Self::unavailable(detail),
            // Others have it: to be told that nothing was done would be wrong.
            ChangeError::NotHere(_) => Self::unsure(detail),
            ChangeError::Store(why) => Self::unsure(format!(
                "the store does not answer ({why}): this may have been done or not; look at the list"
            )),
        }
    }
}
