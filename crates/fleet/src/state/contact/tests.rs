//! Tests of the contact with one worker.

use super::*;

const LEASE: Duration = Duration::from_secs(30);

fn at(ms: i64) -> Moment {
    Moment::from_ms(ms)
}

fn heard() -> Contact {
    let mut contact = Contact::unknown();
    contact.heard(at(0), LEASE);
    contact
}

fn lost(mut contact: Contact) -> Contact {
    contact.queue_gone(at(1_000));
    contact.look(at(1_500), None);
    contact.ask(at(1_500), false);
    contact.queue_gone(at(1_502));
    assert_eq!(contact.verdict(), Verdict::Lost);
    contact
}

#[test]
fn a_worker_is_asked_shortly_before_its_lease_runs_out() {
    let mut contact = heard();
    contact.look(at(24_999), None);
    assert!(!contact.wants_asking());
    contact.look(at(25_000), None);
    assert!(contact.wants_asking());
    assert_eq!(contact.verdict(), Verdict::Fine, "asking is no verdict");
    assert_eq!(contact.held_until(), Some(at(30_000)));
    contact.ask(at(25_000), false);
    assert_eq!(contact.held_until(), Some(at(30_000)));
    contact.answered(at(25_005), LEASE);
    assert_eq!(contact, {
        let mut fresh = Contact::unknown();
        fresh.heard(at(25_005), LEASE);
        fresh
    });
}

#[test]
fn a_crash_shows_within_the_lease() {
    for lease in [3_600, 30_000, 180_000] {
        let mut contact = Contact::unknown();
        contact.heard(at(0), Duration::from_millis(lease));
        let asked = contact.next_look(None).unwrap();
        contact.look(asked, None);
        contact.ask(asked, false);
        contact.queue_gone(asked.shifted(20));
        let again = contact.next_look(None).unwrap();
        contact.look(again, None);
        contact.ask(again, false);
        contact.queue_gone(again.shifted(20));
        assert_eq!(contact.verdict(), Verdict::Lost);
        let lease = i64::try_from(lease).unwrap();
        assert!(again.shifted(20) < at(lease), "{lease}: {again:?}");
    }
}

#[test]
fn the_shortest_leases_are_not_asked_about_at_once() {
    let mut contact = Contact::unknown();
    contact.heard(at(0), Duration::from_secs(1));
    assert_eq!(contact.next_look(None), Some(at(500)));
}

#[test]
fn nobody_is_silent_whose_lease_holds() {
    let lease = Duration::from_secs(180);
    let mut contact = Contact::unknown();
    contact.heard(at(0), lease);
    contact.look(at(150_000), None);
    contact.ask(at(150_000), false);
    contact.look(at(155_000), None);
    assert!(!contact.is_asked(), "others may be asked");
    assert_eq!(contact.verdict(), Verdict::Fine);
    contact.look(at(180_000), None);
    assert!(contact.wants_asking());
    contact.ask(at(180_000), false);
    contact.look(at(185_000), None);
    assert_eq!(contact.verdict(), Verdict::Silent);
}

#[test]
fn a_worker_whose_queue_is_gone_is_asked_once_more_before_it_is_lost() {
    let mut contact = heard();
    contact.queue_gone(at(1_000));
    assert_eq!(contact.verdict(), Verdict::Fine);
    assert_eq!(contact.next_look(None), Some(at(1_500)));
    contact.queue_gone(at(1_200));
    assert_eq!(contact.verdict(), Verdict::Fine, "twice told is not asked");
    lost(heard());
}

#[test]
fn a_worker_that_connected_anew_is_never_called_lost() {
    let mut contact = heard();
    contact.queue_gone(at(1_000));
    contact.look(at(1_500), None);
    contact.ask(at(1_500), false);
    contact.answered(at(1_502), LEASE);
    assert_eq!(contact.verdict(), Verdict::Fine);
    assert_eq!(contact.next_look(None), Some(at(26_502)));
    assert_eq!(contact.held_until(), Some(at(31_502)));
}

#[test]
fn a_late_message_does_not_revive_a_lost_worker_but_asks_it() {
    let mut contact = lost(heard());
    contact.heard(at(2_000), LEASE);
    assert_eq!(contact.verdict(), Verdict::Lost);
    assert!(contact.wants_asking());
    contact.ask(at(2_000), false);
    contact.queue_gone(at(2_001));
    assert_eq!(contact.verdict(), Verdict::Lost);
    assert!(!contact.wants_asking());
    contact.heard(at(30_000), LEASE);
    assert_eq!(
        contact.verdict(),
        Verdict::Fine,
        "no message is as late as that"
    );
}

#[test]
fn a_worker_that_does_not_answer_is_silent_until_it_does_or_its_queue_is_gone() {
    let mut contact = heard();
    contact.look(at(30_000), None);
    contact.ask(at(30_000), false);
    contact.look(at(34_999), None);
    assert_eq!(contact.verdict(), Verdict::Fine);
    contact.look(at(35_000), None);
    assert_eq!(contact.verdict(), Verdict::Silent);
    contact.look(at(65_000), None);
    assert!(contact.wants_asking());
    let asked = {
        contact.ask(at(65_000), false);
        contact
    };
    let mut back = asked;
    back.heard(at(65_001), LEASE);
    assert_eq!(back.verdict(), Verdict::Fine);
    let mut gone = asked;
    gone.queue_gone(at(65_001));
    assert_eq!(gone.verdict(), Verdict::Silent);
    gone.look(at(65_501), None);
    gone.ask(at(65_501), false);
    gone.queue_gone(at(65_502));
    assert_eq!(gone.verdict(), Verdict::Lost);
}

#[test]
fn a_question_that_was_not_sent_is_asked_again() {
    let mut contact = Contact::unknown();
    contact.ask(at(0), false);
    assert!(contact.is_asked());
    contact.unasked();
    assert!(contact.wants_asking());
    let mut rested = heard();
    rested.unasked();
    assert_eq!(rested, heard());
}

const CHECK: Option<Duration> = Some(Duration::from_secs(80));

/// A worker with a long lease that was heard at 0 and is being looked for at 80 s.
fn checked() -> Contact {
    let mut contact = Contact::unknown();
    contact.heard(at(0), Duration::from_mins(30));
    assert_eq!(contact.next_look(None), Some(at(1_500_000)));
    assert_eq!(contact.next_look(CHECK), Some(at(80_000)));
    contact.look(at(79_999), CHECK);
    assert!(!contact.wants_asking());
    contact.look(at(80_000), CHECK);
    assert!(contact.wants_asking());
    assert_eq!(contact.ask(at(80_000), false), Question::Present);
    assert!(contact.is_asked());
    contact
}

#[test]
fn without_events_a_crash_shows_long_before_a_long_lease_ends() {
    let mut contact = checked();
    contact.present(at(80_010));
    assert_eq!(contact.next_look(CHECK), Some(at(160_010)));
    contact.look(at(160_010), CHECK);
    assert_eq!(contact.ask(at(160_010), false), Question::Present);
    contact.queue_gone(at(160_020));
    contact.look(at(160_520), CHECK);
    assert_eq!(contact.ask(at(160_520), false), Question::Ping);
    contact.queue_gone(at(160_530));
    assert_eq!(contact.verdict(), Verdict::Lost);
}

#[test]
fn a_check_is_no_word_from_the_worker() {
    let mut contact = checked();
    contact.present(at(80_010));
    assert_eq!(contact.held_until(), Some(at(1_800_000)));
    assert_eq!(
        contact.next_look(None),
        Some(at(1_500_000)),
        "it is asked as before"
    );
}

#[test]
fn a_check_that_fails_is_made_again_and_a_report_takes_its_place() {
    let mut contact = checked();
    contact.unasked();
    assert!(contact.wants_asking());
    assert_eq!(contact.ask(at(81_000), false), Question::Present);
    contact.look(at(86_000), CHECK);
    assert!(contact.wants_asking(), "the broker has not answered");
    assert_eq!(contact.ask(at(86_000), true), Question::Report);
    contact.answered(at(86_010), LEASE);
    assert_eq!(contact.held_until(), Some(at(116_010)));
}
