//! What a client of the polling API sends: fields in the query, in a form or in a JSON object.

use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;

use crate::position::http::body;

/// The longest field, in bytes.
const MAX_FIELD: usize = 2 * 1024;

/// The fields of a poll; those that are not there are empty.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Form {
    pub(super) host: String,
    pub(super) ip: String,
    login_id: String,
    /// As it came, a text or a number.
    pub(super) port: Value,
    pub(super) page_url: String,
    pub(super) user_agent: String,
    /// `room` of the query: whoever routes the requests puts it there.
    pub(super) room: Option<String>,
}

/// The HTTP status and what is wrong.
type Refused = (StatusCode, String);

impl Form {
    /// Reads the query, and the body where there is one: its fields come before those of the query.
    pub(super) async fn read(request: Request) -> Result<Self, Refused> {
        let (parts, body) = request.into_parts();
        let body = body::whole(body).await.map_err(|error| (error.status(), error.to_string()))?;
        let mut form = Self { port: Value::String(String::new()), ..Self::default() };
        let query = parts.uri.query().unwrap_or_default();
        form.take_pairs(query.as_bytes(), true)?;
        form.take_body(&body)?;
        if form.user().is_empty() {
            return Err(refused("loginId or ip is needed to know whose place it is"));
        }
        Ok(form)
    }

    /// Who it is: `loginId`, else the client's address.
    pub(super) fn user(&self) -> &str {
        if self.login_id.is_empty() { &self.ip } else { &self.login_id }
    }

    /// Old clients label their bodies in many ways: what begins with a brace is JSON, and everything else a form.
    fn take_body(&mut self, body: &[u8]) -> Result<(), Refused> {
        if !body.trim_ascii_start().starts_with(b"{") {
            return self.take_pairs(body, false);
        }
        let no_object = |error| refused(&format!("the body is no JSON object: {error}"));
        let fields: HashMap<String, &RawValue> = serde_json::from_slice(body).map_err(no_object)?;
        for (name, raw) in fields {
            // Fields that are not ours may hold anything.
            if !self.has(&name) {
                continue;
            }
            match serde_json::from_str(raw.get()).map_err(no_object)? {
                Value::Null => {}
                // With all its digits: two long numbers must not become one user because both are rounded to the same.
                Value::Number(_) if name != "port" => self.take(&name, raw.get().into(), false)?,
                value @ (Value::String(_) | Value::Number(_)) => self.take(&name, value, false)?,
                _ => return Err(refused(&format!("{name} is a text or a number"))),
            }
        }
        Ok(())
    }

    fn take_pairs(&mut self, pairs: &[u8], query: bool) -> Result<(), Refused> {
        for (name, value) in form_urlencoded::parse(pairs) {
            self.take(&name, value.into_owned().into(), query)?;
        }
        Ok(())
    }

    fn has(&mut self, name: &str) -> bool {
        name == "port" || self.text(name).is_some()
    }

    fn text(&mut self, name: &str) -> Option<&mut String> {
        Some(match name {
            "host" => &mut self.host,
            "ip" => &mut self.ip,
            "loginId" => &mut self.login_id,
            "pageUrl" => &mut self.page_url,
            "userAgent" => &mut self.user_agent,
            _ => return None,
        })
    }

    fn take(&mut self, name: &str, value: Value, query: bool) -> Result<(), Refused> {
        let is_room = query && name == "room";
        if !is_room && !self.has(name) {
            return Ok(());
        }
        let text = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if text.len() > MAX_FIELD {
            return Err(refused(&format!("{name} has more than {MAX_FIELD} bytes")));
        }
        // What stands for bytes that are no UTF-8: two users must not become one because neither can be read.
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(refused(&format!("{name} is not UTF-8")));
        }
        if is_room {
            self.room = Some(text);
        } else if name == "port" {
            self.port = value;
        } else if let Some(field) = self.text(name) {
            *field = text;
        }
        Ok(())
    }
}

fn refused(detail: &str) -> Refused {
    (StatusCode::BAD_REQUEST, detail.to_owned())
}
