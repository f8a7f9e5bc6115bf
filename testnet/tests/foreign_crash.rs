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
            // On a busy machine five lives may be too short for anything to be acknowledged.
            for seed in 1..=10 {
                let tally = random::run(&mut subject, seed, 5, |_| {}).await?;
                assert!(tally.ok(), "{:#?}", tally.problems);
                assert_eq!(tally.kills, 5);
                if tally.acknowledged > 0 {
                    Box::new(subject).stop().await;
                    return Ok(());
                }
            }
            Err("nothing was acknowledged in fifty lives".into())
        })
    });
}
