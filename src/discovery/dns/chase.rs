//! Chains of aliases, link by link (DNS-004).
//!
//! Each alias is an answer of its own with a verdict of its own; the verdict on the chain is the lowest of them. A
//! library that follows the chain inside its cache was seen to lose the verdict of a link whose target it knew.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Absence, AliasRule, Answer, Content, DnsTrouble, OwnerName, Question, RecordType, Records, TroubleKind,
    Verdict,
};

/// The most aliases that are followed. RFC 1034 gives no number; resolvers use 8 to 17, and a host behind more than two
/// is a mistake.
pub(super) const ALIASES_MAX: usize = 8;

/// What one answer says.
pub(super) struct Link {
    pub(super) verdict: Verdict,
    pub(super) says: Says,
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) proven_until: Option<Timestamp>,
}

/// The step that an answer makes.
pub(super) enum Says {
    Records(Records),
    Alias(OwnerName),
    Absent(Absence),
}

/// Somebody who can judge one answer.
#[async_trait]
pub(super) trait Judge: Send + Sync {
    /// Asks, and judges what comes.
    async fn link(&self, name: &OwnerName, rtype: RecordType) -> Result<Link, DnsTrouble>;
}

/// Follows the question to its records.
pub(super) async fn chase(judge: &impl Judge, question: &Question) -> Result<Answer, DnsTrouble> {
    let mut answer = Answer {
        verdict: Verdict::Secure,
        content: Content::Absent(Absence::Type),
        aliases: Vec::new(),
        ttl: Duration::from_secs(u64::from(u32::MAX)),
        proven_until: None,
        cached: false,
    };
    let mut name = question.name.clone();
    loop {
        let link = judge.link(&name, question.rtype).await?;
        answer.verdict = answer.verdict.and(link.verdict);
        answer.ttl = answer.ttl.min(Duration::from_secs(u64::from(link.ttl)));
        answer.proven_until = match (answer.proven_until, link.proven_until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        match link.says {
            Says::Records(records) => answer.content = Content::Records(records),
            Says::Absent(absence) => answer.content = Content::Absent(absence),
            Says::Alias(target) => {
                let circle = target == question.name || answer.aliases.contains(&target);
                if circle || answer.aliases.len() == ALIASES_MAX {
                    let what = if circle { "comes back to" } else { "is longer than 8 links at" };
                    let detail = format!("the chain of aliases from {} {what} {target}", question.name);
                    return Err(DnsTrouble::new(TroubleKind::AliasChain, detail));
                }
                answer.aliases.push(target.clone());
                if answer.verdict == Verdict::Insecure && question.aliases == AliasRule::WhileSecure {
                    return Ok(answer);
                }
                name = target;
                continue;
            }
        }
        return Ok(answer);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;

    /// Aliases by name, with the verdict on each; a name without one has an address.
    struct Script(HashMap<String, (Verdict, String)>);

    impl Script {
        fn of(links: &[(&str, Verdict, &str)]) -> Self {
            let link = |(from, verdict, to): &(&str, Verdict, &str)| {
                ((*from).to_owned(), (*verdict, (*to).to_owned()))
            };
            Self(links.iter().map(link).collect())
        }
    }

    #[async_trait]
    impl Judge for Script {
        async fn link(&self, name: &OwnerName, _: RecordType) -> Result<Link, DnsTrouble> {
            let (verdict, says) = match self.0.get(&name.to_string()) {
                Some((verdict, target)) => (*verdict, Says::Alias(target.parse().unwrap())),
                None => (Verdict::Secure, Says::Records(Records::A(vec![[192, 0, 2, 1].into()]))),
            };
            Ok(Link { verdict, says, ttl: 60, proven_until: None })
        }
    }

    async fn run(script: &Script, rule: AliasRule) -> Result<Answer, DnsTrouble> {
        let question = Question { name: "a.nl".parse().unwrap(), rtype: RecordType::A, aliases: rule };
        chase(script, &question).await
    }

    /// Proves: +DNS-004
    #[tokio::test]
    async fn a_secure_chain_of_eight_is_followed() {
        let names: Vec<String> =
            (0..9).map(|n| if n == 0 { "a.nl".to_owned() } else { format!("n{n}.nl") }).collect();
        let links: Vec<_> = names.windows(2).map(|pair| (&*pair[0], Verdict::Secure, &*pair[1])).collect();
        let answer = run(&Script::of(&links), AliasRule::WhileSecure).await.unwrap();
        assert_eq!((answer.verdict, answer.aliases.len()), (Verdict::Secure, 8));
        assert!(matches!(answer.content, Content::Records(_)));

        let mut longer = links.clone();
        longer.push(("n8.nl", Verdict::Secure, "n9.nl"));
        let trouble = run(&Script::of(&longer), AliasRule::WhileSecure).await.unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::AliasChain);
    }

    /// Proves: -DNS-004
    #[tokio::test]
    async fn a_circle_and_an_insecure_link_are_not_secure() {
        let circle = Script::of(&[("a.nl", Verdict::Secure, "b.nl"), ("b.nl", Verdict::Secure, "A.nl")]);
        assert_eq!(run(&circle, AliasRule::WhileSecure).await.unwrap_err().kind, TroubleKind::AliasChain);

        // The last link and the records are secure; the answer is not.
        let weak = Script::of(&[("a.nl", Verdict::Insecure, "b.nl"), ("b.nl", Verdict::Secure, "c.nl")]);
        let strict = run(&weak, AliasRule::WhileSecure).await.unwrap();
        assert_eq!((strict.verdict, strict.aliases.len()), (Verdict::Insecure, 1));
        assert!(strict.into_secure().is_none());
        let lenient = run(&weak, AliasRule::ToTheEnd).await.unwrap();
        assert_eq!((lenient.verdict, lenient.aliases.len()), (Verdict::Insecure, 2));
        assert!(matches!(lenient.content, Content::Records(_)));
        assert!(lenient.into_secure().is_none());
    }
}
