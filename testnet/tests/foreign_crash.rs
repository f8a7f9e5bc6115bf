//! The crash harness with another implementation: a few kills of a real Postfix.
#![allow(missing_docs)]

use testnet::crash::postfix::PostfixSubject;
use testnet::crash::random;
use testnet::crash::subject::Subject as _;
use testnet::foreign::isolated;

#[test]
fn what_postfix_acknowledged_is_there_after_a_kill() {
    isolated(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let mut subject = PostfixSubject::launch().await?;
            assert!(subject.about().product.starts_with("Postfix 3."), "{:?}", subject.about());
            let tally = random::run(&mut subject, 1, 5, |_| {}).await?;
            Box::new(subject).stop().await;
            assert!(tally.ok(), "{:#?}", tally.problems);
            assert_eq!(tally.kills, 5);
            assert!(tally.acknowledged > 0 && tally.delivered >= tally.acknowledged, "{tally:?}");
            Ok(())
        })
    });
}
