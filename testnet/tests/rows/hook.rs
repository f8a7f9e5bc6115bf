//! Rows of a provider's own filter in front of its environment.

use testnet::hook::{Answer, Hook};
use testnet::net::Net;

use super::support::{assert_record, assert_reported, configure, first_attempt, nodes, with};

/// A filter for the node of `b`, and the node knows it.
async fn hook(net: &Net, answer: Answer) -> Hook {
    let hook = Hook::start(&net.directory().join("b/hook.sock"), answer).unwrap();
    configure(net, "b", |text| format!("{text}{}", hook.section())).await;
    hook
}

/// Proves: +HOOK-003 -HOOK-003 -HOOK-001
#[test]
fn a_filter_without_an_answer_lets_nothing_pass() {
    with(&nodes("", ""), async |net| {
        // The time that is left for a message that waits is not up while this runs.
        let hook = hook(net, Answer::Raw(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec())).await;
        let node = net.node("b").unwrap();
        for answer in [
            None,
            Some(Answer::DieAfter(<[u8]>::to_vec, 300)),
            Some(Answer::Raw(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec())),
        ] {
            if let Some(answer) = answer {
                hook.answer(answer);
            }
            let before = node.printed().len();
            let (_, sent) = first_attempt(net, "waits@b.nl").await;
            assert_eq!(sent["outcome"], "delivered", "to the other provider: {sent}");
            let record = node.ended_attempt("handoff", "later", before).await.unwrap();
            assert_record(&record, "later", "hook_unavailable", "never");
            assert_eq!(record["content_hook"], "unavailable", "{record}");
        }
        assert_eq!(hook.questions().len(), 3);
        // Given up by the operator, they never came to the environment: `with` sees to that.
        let listed = node.ask(&["spool", "list"]).await.unwrap();
        for delivery in listed["deliveries"].as_array().unwrap() {
            let id = format!(
                "{}.{}",
                delivery["delivery"]["message"].as_str().unwrap(),
                delivery["delivery"]["route"]
            );
            assert!(node.command(&["spool", "return", &id]).await.unwrap().status.success());
        }
        node.idle().await.unwrap();
        hook.answer(Answer::Pass);
    });
}

/// Proves: +HOOK-009 -HOOK-009
#[test]
fn what_a_filter_rejects_goes_back_to_its_sender() {
    with(&nodes("", ""), async |net| {
        let hook = hook(net, Answer::Reject("Zulke bijlagen nemen wij niet aan.")).await;
        let node = net.node("b").unwrap();
        let before = node.printed().len();
        let (_, sent) = first_attempt(net, "bob@b.nl").await;
        assert_eq!(sent["outcome"], "delivered", "to the other provider: {sent}");
        let record = node.ended_attempt("handoff", "returned", before).await.unwrap();
        assert_record(&record, "returned", "hook_rejected", "never");
        let report = assert_reported(net, "bob@b.nl", "5.7.1").await;
        assert!(report.contains("550 5.7.1 Zulke bijlagen nemen wij niet aan."), "{report}");
        assert!(!report.contains("hook.sock"), "{report}");
        hook.answer(Answer::Pass);
    });
}
