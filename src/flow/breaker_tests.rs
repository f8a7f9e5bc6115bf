#![allow(clippy::unwrap_used)]
use super::*;

const START: i64 = 1_795_305_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

fn breakers() -> Breakers {
    Breakers::new(&Limits { host_failures: 3, ..Limits::default() })
}

fn host(name: &str) -> Post {
    Post::Host(name.parse().unwrap())
}

fn route(domain: &str) -> Route {
    Route::Federation(domain.parse().unwrap())
}

/// Fails `post` for `route` at that second; the spread of the pause is its middle.
fn fail(breakers: &Breakers, post: &Post, route: &Route, second: i64) {
    let interval = breakers.retry.interval(1).as_millis();
    let middle = u64::try_from(interval / 5).unwrap();
    breakers.failed(post, route, Reason::ConnectFailed, at(second), middle);
}

/// An attempt on `route` ended without a link.
fn no_link(breakers: &Breakers, route: &Route, hosts: &[Post], second: i64) {
    breakers.no_link(route, hosts, Reason::ConnectFailed, at(second), 0);
}

/// Everything on route b.nl, whose one host is nta.b.nl, has failed often enough, at the start.
fn closed() -> (Breakers, Post, Route) {
    let (breakers, post, route) = (breakers(), host("nta.b.nl"), route("b.nl"));
    for _ in 0..3 {
        fail(&breakers, &post, &route, 0);
        no_link(&breakers, &route, std::slice::from_ref(&post), 0);
    }
    (breakers, post, route)
}

/// Proves: +SMTP-027 -SMTP-027
#[test]
fn a_host_rests_after_failures_in_a_row_and_says_so() {
    let (breakers, post, route) = (breakers(), host("nta.b.nl"), route("b.nl"));
    fail(&breakers, &post, &route, 0);
    fail(&breakers, &post, &route, 1);
    // One success, and the count begins anew.
    breakers.reached(&post, &route, at(2));
    fail(&breakers, &post, &route, 2);
    fail(&breakers, &post, &route, 3);
    assert!(breakers.ask(&post, &route, at(3)).is_ok());
    fail(&breakers, &post, &route, 4);
    let refusal = breakers.ask(&post, &route, at(5)).unwrap_err();
    assert_eq!(refusal.reason, Reason::HostResting);
    assert!(refusal.detail.contains("3 times") && refusal.detail.contains("connect_failed"), "{refusal:?}");
    assert!(breakers.ask(&host("nta-2.b.nl"), &route, at(5)).is_ok(), "its neighbour does not");
    let resting = breakers.resting();
    assert_eq!((resting.len(), resting[0].0.what.as_str()), (1, "host nta.b.nl"));
    assert_eq!(resting[0].0.next_probe, at(4 + 60));
}

/// Proves: +SMTP-028 -SMTP-028
#[test]
fn a_closed_route_costs_no_attempt_but_one_probe_at_a_time() {
    let (breakers, post, b) = closed();
    assert_eq!(breakers.may_try(&b, at(1)), Err(at(60)));
    assert_eq!(breakers.may_try(&route("c.nl"), at(1)), Ok(()), "nobody else is closed");
    // Another domain of the same host, whose attempt found it resting.
    let other = route("b2.nl");
    no_link(&breakers, &other, std::slice::from_ref(&post), 1);
    // At its time one attempt of all routes has the probe.
    assert_eq!(breakers.may_try(&b, at(60)), Ok(()));
    let lease = breakers.may_try(&other, at(60)).unwrap_err();
    assert!(lease > at(60));
    assert_eq!(breakers.may_try(&b, at(60)), Err(lease));
    assert!(breakers.ask(&post, &b, at(61)).is_ok(), "it is the prober's");
    assert!(breakers.ask(&post, &other, at(61)).is_err());
    // It fails: the pause doubles, and who waited is told.
    breakers.news();
    fail(&breakers, &post, &b, 62);
    assert_eq!(breakers.news(), BTreeMap::from([(b.clone(), false), (other.clone(), false)]));
    let next = breakers.may_try(&other, at(63)).unwrap_err();
    assert!(next >= at(62 + 96) && next <= at(62 + 144), "{next}");
    // The other one probes next, and succeeds: both are open.
    assert_eq!(breakers.may_try(&other, next), Ok(()));
    breakers.reached(&post, &other, next);
    assert_eq!(breakers.news(), BTreeMap::from([(b.clone(), true), (other.clone(), true)]));
    assert_eq!((breakers.may_try(&b, next), breakers.may_try(&other, next)), (Ok(()), Ok(())));
    assert_eq!(breakers.count(), 0);
}

/// Proves: +SMTP-028
#[test]
fn a_probe_that_got_lost_does_not_close_a_route_for_good() {
    let (breakers, _, b) = closed();
    assert_eq!(breakers.may_try(&b, at(60)), Ok(()));
    let lease = breakers.may_try(&b, at(60)).unwrap_err();
    assert_eq!(breakers.may_try(&b, lease), Ok(()));
    // An attempt that ended before it came to the host gives the probe back at once.
    breakers.release(&b);
    assert_eq!(breakers.may_try(&b, lease), Ok(()));
}

/// Proves: +SMTP-028
#[test]
fn one_host_that_answers_keeps_its_route_open() {
    let (breakers, post, b) = (breakers(), host("nta-1.b.nl"), route("b.nl"));
    for _ in 0..9 {
        fail(&breakers, &post, &b, 0);
        no_link(&breakers, &b, &[post.clone(), host("nta-2.b.nl")], 0);
    }
    assert_eq!(breakers.may_try(&b, at(1)), Ok(()));
}

/// Proves: +SMTP-029 -SMTP-029
#[test]
fn a_host_that_was_here_is_tried_at_once_but_not_at_every_knock() {
    let (breakers, post, b) = closed();
    breakers.news();
    let names: [DomainName; 2] = ["nta.c.nl".parse().unwrap(), "nta.b.nl".parse().unwrap()];
    breakers.contact(&names[..1], at(5));
    assert!(breakers.news().is_empty(), "another host's contact says nothing");
    breakers.contact(&names, at(10));
    assert_eq!(breakers.news(), BTreeMap::from([(b.clone(), true)]));
    assert_eq!(breakers.may_try(&b, at(10)), Ok(()));
    assert!(breakers.may_try(&b, at(10)).is_err(), "one probe, not all its mail");
    fail(&breakers, &post, &b, 11);
    breakers.news();
    breakers.contact(&names, at(20));
    assert!(
        breakers.news().is_empty() && breakers.may_try(&b, at(20)).is_err(),
        "it was hurried a moment ago"
    );
    breakers.contact(&names, at(71));
    assert_eq!(breakers.may_try(&b, at(71)), Ok(()));
}

/// Proves: +SMTP-029 -SMTP-029
#[test]
fn a_change_in_dns_is_tried_at_once_and_silence_is_no_change() {
    let (breakers, _, b) = closed();
    let domain: DomainName = "b.nl".parse().unwrap();
    assert!(breakers.to_look_up(at(10)).is_empty(), "not more often than probes begin");
    assert_eq!(breakers.to_look_up(at(60)), std::slice::from_ref(&domain));
    assert!(breakers.to_look_up(at(60)).is_empty());
    breakers.looked_up(&domain, Some(Digest::of(b"old")), at(60));
    breakers.news();
    for same in [Some(Digest::of(b"old")), None] {
        breakers.looked_up(&domain, same, at(61));
        assert!(breakers.news().is_empty());
    }
    assert!(breakers.may_try(&b, at(59)).is_err());
    breakers.looked_up(&domain, Some(Digest::of(b"new")), at(59));
    assert_eq!(breakers.news(), BTreeMap::from([(b.clone(), true)]));
    assert_eq!(breakers.may_try(&b, at(59)), Ok(()));
}

#[test]
fn faults_of_ours_close_nothing_and_old_trouble_is_forgotten() {
    let (breakers, post, b) = (breakers(), host("nta.b.nl"), route("b.nl"));
    for _ in 0..9 {
        breakers.failed(&post, &b, Reason::LocalFault, at(0), 0);
    }
    assert!(breakers.ask(&post, &b, at(1)).is_ok());
    let (breakers, _, b) = closed();
    breakers.tidy(at(60));
    assert!(breakers.may_try(&b, at(1)).is_err());
    breakers.tidy(at(25 * 3600));
    assert_eq!((breakers.count(), breakers.may_try(&b, at(1))), (0, Ok(())));
}

/// The environment is a post like any other.
/// Proves: +SMTP-028
#[test]
fn an_environment_that_is_down_closes_its_own_route() {
    let breakers = breakers();
    for _ in 0..3 {
        fail(&breakers, &Post::Environment, &Route::Environment, 0);
        no_link(&breakers, &Route::Environment, &[], 0);
    }
    assert_eq!(breakers.may_try(&Route::Environment, at(1)), Err(at(60)));
    assert_eq!(breakers.may_try(&Route::Fallback, at(1)), Ok(()));
    assert_eq!(breakers.may_try(&Route::Environment, at(60)), Ok(()));
    breakers.reached(&Post::Environment, &Route::Environment, at(60));
    assert_eq!(breakers.may_try(&Route::Environment, at(60)), Ok(()));
}

/// First DNS did not answer for the domain; then it does, and its host does not.
/// Proves: -SMTP-028
#[test]
fn a_probe_that_fails_in_another_way_is_a_probe_that_failed() {
    let (breakers, post, b) = (breakers(), host("nta.b.nl"), route("b.nl"));
    for _ in 0..3 {
        fail(&breakers, &Post::of(&b), &b, 0);
        no_link(&breakers, &b, &[], 0);
    }
    assert_eq!(breakers.may_try(&b, at(60)), Ok(()));
    fail(&breakers, &post, &b, 61);
    no_link(&breakers, &b, &[post], 61);
    assert!(breakers.may_try(&b, at(62)).is_err(), "it does not go round without a pause");
}

/// Proves: +SPOOL-041 -SPOOL-041
#[test]
fn mail_is_hurried_after_an_outage_and_not_by_a_host_that_comes_and_goes() {
    let (breakers, post, b, b2) = (breakers(), host("nta.b.nl"), route("b.nl"), route("b2.nl"));
    for second in 0..50 {
        fail(&breakers, &post, &b, second);
        breakers.reached(&post, &b, at(second));
        assert!(breakers.news().is_empty(), "{second}");
    }
    fail(&breakers, &post, &b, 100);
    fail(&breakers, &post, &b2, 110);
    breakers.reached(&post, &b, at(160));
    assert_eq!(breakers.news(), BTreeMap::from([(b, true), (b2, true)]));
}

#[test]
fn an_operator_who_retries_has_the_probe_at_once() {
    let (breakers, _, b) = closed();
    breakers.news();
    breakers.hurry(&b, at(5));
    assert_eq!(breakers.news(), BTreeMap::from([(b.clone(), false)]));
    assert_eq!(breakers.may_try(&b, at(5)), Ok(()));
    breakers.hurry(&route("c.nl"), at(5));
    assert!(breakers.news().is_empty(), "nothing to hurry there");
}

#[test]
fn hosts_are_probed_at_least_as_often_as_messages_are_tried() {
    let limits = Limits { retry_first_seconds: 2, retry_longest_seconds: 4, ..Limits::default() };
    let retry = Breakers::new(&limits).retry;
    assert_eq!((retry.interval(1).as_secs(), retry.interval(9).as_secs()), (2, 4));
    let retry = Breakers::new(&Limits::default()).retry;
    assert_eq!((retry.interval(1).as_secs(), retry.interval(9).as_secs()), (60, 300));
}
