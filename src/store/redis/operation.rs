//! The operations that are gathered: what each says to its script, and what it makes of the answer.

use bytes::Bytes;
use fred::types::Value;

use super::decode::{self, Garbled};
use super::encode;
use super::lane::Gathered;
use super::script::Script;
use super::scripts::Scripts;
use crate::room::policy::Millis;
use crate::room::standing::Place;
use crate::room::state::{Call, Newcomer, Outcome};

/// An operation on several visitors of a room at once.
pub(super) trait Operation: Gathered<Call = Call> {
    /// Its script.
    fn script(scripts: &Scripts) -> &Script;
    /// The script's arguments.
    fn arguments(items: &[Self::Item], args: &mut Vec<Bytes>);
    /// The answers, one for each of the items.
    fn answers(value: Value, count: usize) -> Result<Vec<Self::Answer>, Garbled>;
}

/// `arrive`
pub(super) struct Arrive;
/// `enter`
pub(super) struct Enter;
/// `touch`
pub(super) struct Touch;
/// `leave`
pub(super) struct Leave;
/// `away`
pub(super) struct Away;

impl Gathered for Arrive {
    type Call = Call;
    type Item = Newcomer;
    type Answer = Outcome;
}

impl Operation for Arrive {
    fn script(scripts: &Scripts) -> &Script {
        &scripts.arrive
    }

    fn arguments(items: &[Newcomer], args: &mut Vec<Bytes>) {
        for run in items.chunk_by(|one, next| one.subject.is_none() && next.subject.is_none()) {
            args.push(match run {
                [Newcomer { subject: Some(subject), anew }] => {
                    let mut known = vec![if *anew { b'+' } else { b'=' }];
                    known.extend_from_slice(&subject.0);
                    known.into()
                }
                unknown => format!("*{}", unknown.len()).into(),
            });
        }
    }

    fn answers(value: Value, count: usize) -> Result<Vec<Outcome>, Garbled> {
        decode::outcomes(value, count)
    }
}

impl Gathered for Enter {
    type Call = Call;
    type Item = Place;
    type Answer = Outcome;
}

impl Operation for Enter {
    fn script(scripts: &Scripts) -> &Script {
        &scripts.enter
    }

    fn arguments(items: &[Place], args: &mut Vec<Bytes>) {
        args.extend(items.iter().copied().map(encode::place));
    }

    fn answers(value: Value, count: usize) -> Result<Vec<Outcome>, Garbled> {
        decode::outcomes(value, count)
    }
}

impl Gathered for Touch {
    type Call = Call;
    type Item = (Place, Millis);
    type Answer = Option<Millis>;
}

impl Operation for Touch {
    fn script(scripts: &Scripts) -> &Script {
        &scripts.touch
    }

    fn arguments(items: &[(Place, Millis)], args: &mut Vec<Bytes>) {
        for (place, until) in items {
            args.extend([encode::place(*place), until.to_string().into()]);
        }
    }

    fn answers(value: Value, count: usize) -> Result<Vec<Option<Millis>>, Garbled> {
        decode::ends(value, count)
    }
}

impl Gathered for Leave {
    type Call = Call;
    type Item = (Place, Option<Millis>);
    type Answer = bool;
}

impl Operation for Leave {
    fn script(scripts: &Scripts) -> &Script {
        &scripts.leave
    }

    fn arguments(items: &[(Place, Option<Millis>)], args: &mut Vec<Bytes>) {
        for (place, until) in items {
            let until = until.map(|until| until.to_string()).unwrap_or_default();
            args.extend([encode::place(*place), until.into()]);
        }
    }

    fn answers(value: Value, count: usize) -> Result<Vec<bool>, Garbled> {
        decode::truths(value, count)
    }
}

impl Gathered for Away {
    type Call = Call;
    type Item = (Place, Millis);
    type Answer = bool;
}

impl Operation for Away {
    fn script(scripts: &Scripts) -> &Script {
        &scripts.away
    }

    fn arguments(items: &[(Place, Millis)], args: &mut Vec<Bytes>) {
        // A place and a time each, as for `touch`.
        Touch::arguments(items, args);
    }

    fn answers(value: Value, count: usize) -> Result<Vec<bool>, Garbled> {
        decode::truths(value, count)
    }
}
