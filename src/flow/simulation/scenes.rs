//! Lives in which one thing happens, and it is known when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::letters::Letter;
use super::life::Federation;
use super::{FAIR, lead_on};

/// A letter to a provider whose TLSA records name another key, for three hours; then they are corrected, and nobody
/// connects to us meanwhile. How long the letter takes from there.
async fn corrected(seed: u64) -> Duration {
    let mut federation = Federation::new(seed, FAIR);
    federation.providers[1].publish(true);
    for provider in &mut federation.providers {
        provider.start(false).unwrap();
    }
    let letters = Arc::new(vec![Letter::between(0, 1)]);
    let posted = federation.post(&letters).join_next().await.unwrap().unwrap().1;
    assert_eq!(posted.taken, letters[0].recipients);
    sleep(Duration::from_secs(3 * 3600)).await;
    let arrived = || federation.mailboxes.lock().unwrap().len();
    assert_eq!(arrived(), 0);
    federation.providers[1].publish(false);
    let begin = Instant::now();
    while arrived() == 0 {
        sleep(Duration::from_secs(1)).await;
    }
    begin.elapsed()
}

/// DNS is asked about a closed route every minute, and its records may be kept for the five that the table says. The
/// schedule alone would take half an hour.
///
/// Proves: +SMTP-029
#[test]
fn a_corrected_record_is_noticed_long_before_the_next_try() {
    for seed in 0..6 {
        let took = lead_on(corrected(seed));
        assert!(took < Duration::from_secs(7 * 60), "seed {seed}: {took:?}");
    }
}
