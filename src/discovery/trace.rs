//! What was asked, for the decision record.

use crate::model::DnsFact;

use super::dns::{Answer, Content, DnsTrouble, Question, Verdict};

/// The questions of one attempt, in order (REC family).
#[derive(Clone, Debug, Default)]
pub struct Trace(Vec<DnsFact>);

impl Trace {
    /// Nothing asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was asked.
    #[must_use]
    pub fn facts(&self) -> &[DnsFact] {
        &self.0
    }

    /// What was asked.
    #[must_use]
    pub fn into_facts(self) -> Vec<DnsFact> {
        self.0
    }

    /// Adds what was asked at the same time.
    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn note(&mut self, question: &Question, result: &Result<Answer, DnsTrouble>) {
        let (verdict, records, cached) = match result {
            Err(trouble) => (trouble.reason().as_str(), 0, false),
            Ok(answer) => {
                let verdict = match (&answer.content, answer.verdict) {
                    (Content::Records(_), Verdict::Secure) => "secure",
                    (Content::Records(_), Verdict::Insecure) => "insecure",
                    (Content::Absent(_), Verdict::Secure) => "secure_absent",
                    // A chain that was left at its insecure link says nothing about records.
                    (Content::Absent(_), Verdict::Insecure) if !answer.aliases.is_empty() => "insecure",
                    (Content::Absent(_), Verdict::Insecure) => "insecure_absent",
                };
                let records = match &answer.content {
                    Content::Records(records) => records.count(),
                    Content::Absent(_) => 0,
                };
                (verdict, records, answer.cached)
            }
        };
        self.0.push(DnsFact {
            name: question.name.to_string(),
            rtype: question.rtype.as_str().to_owned(),
            verdict: verdict.to_owned(),
            records,
            cached,
        });
    }
}
