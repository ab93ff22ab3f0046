//! The gates before admission, in their fixed order. Whoever is refused here takes no number and costs no store call.

use tokio::time::Instant;

use super::Gate;
use super::request::Question;
use crate::room::decision::Refusal;
use crate::room::deny::Asker;
use crate::room::gates::Gates;

impl Gate {
    /// Who turns a request away before it comes to its room; `None`: nobody does. Counted. `is_stated`: whether anything
    /// is stated for it at all; waits until `deadline` at most.
    pub(super) async fn turned_away(
        &self,
        question: &Question<'_>,
        gates: &Gates,
        is_stated: bool,
        deadline: Instant,
    ) -> Option<Refusal> {
        if self.is_denied(question, gates) {
            return Some(Refusal::Denied);
        }
        let was_known = question.user().is_some();
        if let Err(reason) = self.identify(question, gates.anonymous, deadline).await
            && is_stated
        {
            return Some(reason);
        }
        let is_news = !was_known && question.user().is_some();
        (is_news && self.is_denied(question, gates)).then_some(Refusal::Denied)
    }

    fn is_denied(&self, question: &Question<'_>, gates: &Gates) -> bool {
        let may_be = gates.deny && !self.denials.is_empty();
        may_be && self.denials.refuses(&self.asker(question), self.rooms.now())
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
