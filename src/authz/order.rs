//! The gates before admission, in their fixed order. Whoever is refused here takes no number and costs no store call.

use super::Gate;
use super::request::Question;
use crate::room::decision::Refusal;
use crate::room::deny::Asker;
use crate::room::gates::Gates;

impl Gate {
    /// Who turns a request away before it comes to its room; `None`: nobody does. Counted.
    pub(super) fn turned_away(&self, question: &Question<'_>, gates: &Gates) -> Option<Refusal> {
        let may_be = gates.deny && !self.denials.is_empty();
        let is_denied = may_be && self.denials.refuses(&self.asker(question), self.rooms.now());
        is_denied.then_some(Refusal::Denied)
    }

    /// Whether a request may be turned away, so that it must go the long way. Not counted.
    pub(super) fn is_suspect(&self, question: &Question<'_>, gates: &Gates) -> bool {
        let may_be = gates.deny && !self.denials.is_empty();
        may_be && self.denials.names(&self.asker(question), self.rooms.now())
    }

    fn asker<'q>(&self, question: &'q Question<'_>) -> Asker<'q> {
        Asker {
            address: question.client(self.trusted_hops),
            user_agent: question.user_agent(),
            subject: question.subject(None).map(|subject| (subject.issuer, subject.name)),
        }
    }
}
