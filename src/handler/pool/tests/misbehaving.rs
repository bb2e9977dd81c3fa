//! Children that do what they should not.

use super::*;

/// The error of an outcome that must be a retry with reason `crash`.
fn crash(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry {
            delay: None,
            reason: Reason::Crash,
            error,
        } => error,
        other => panic!("{other:?}"),
    }
}

/// What a script does that fails at its first delivery, and behaves in its next life.
fn once(failing: &str) -> String {
    format!("if test -e failed; then {OBEDIENT}; exit; fi; next; touch failed\n{failing}")
}

/// The first delivery crashes for `expected`, and the next is done by another child.
async fn fails_once(failing: &str, expected: &str) -> Pool {
    let pool = pool(&once(failing), |_| {});
    let error = crash(pool.send("x").await);
    assert!(error.contains(expected), "{expected} in {error}");
    let failed = pool.pids()[0];
    assert!(error.contains(&format!("(pid {failed})")), "{error}");
    gone(failed).await;
    assert_eq!(pool.send("x").await, Outcome::Done);
    assert_eq!(pool.pids().len(), 2);
    pool
}

#[tokio::test]
async fn a_silent_child_is_killed_with_its_delivery() {
    let pool = pool("next; touch silent; sleep 1000", |_| {});
    tokio::select! {
        outcome = pool.send("x") => panic!("{outcome:?}"),
        () = eventually("the child is silent", || pool.file("silent").exists()) => {}
    }
    gone(pool.pids()[0]).await;
}

#[tokio::test]
async fn an_answer_after_its_time_is_never_taken_for_the_next() {
    let script = "if test -e late; then while next; do answer dead; done; fi
        next; touch late; sleep 0.2; answer done; next; answer done";
    let pool = pool(script, |settings| settings.size = Some(1));
    tokio::select! {
        outcome = pool.send("x") => panic!("{outcome:?}"),
        () = eventually("the child has it", || pool.file("late").exists()) => {}
    }
    let expected = Outcome::dead("the child gave no reason");
    assert_eq!(pool.send("x").await, expected, "by a new child");
}

#[tokio::test]
async fn an_answer_before_its_request_is_none() {
    // It guesses the ids of the first requests, and reads none.
    let script =
        r#"for id in 1 2 3; do printf '{"id":"%s","outcome":"done"}\n' $id; done; sleep 1000"#;
    let pool = pool(script, |_| {});
    crash(pool.send("x").await);
}

#[tokio::test]
async fn a_child_that_is_slow_to_start_is_waited_for() {
    let pool = pool(&format!("sleep 0.3; {OBEDIENT}"), |_| {});
    assert_eq!(pool.send("x").await, Outcome::Done);
    assert_eq!(pool.send("x").await, Outcome::Done);
    assert_eq!(pool.pids().len(), 1);
}

#[tokio::test]
async fn children_that_die_at_their_start_are_started_ever_more_rarely() {
    let pool = pool("exit 3", |_| {});
    let began = tokio::time::Instant::now();
    for _ in 0..4 {
        let error = crash(pool.send("x").await);
        assert!(error.contains("ended (exit status: 3)"), "{error}");
    }
    // At least half of 100, 200 and 400 ms.
    assert!(began.elapsed() >= Duration::from_millis(350));
    assert_eq!(pool.pids().len(), 4);
}

#[tokio::test]
async fn a_program_that_is_missing_costs_no_message() {
    let pool = pool("", |settings| {
        settings.command.command = vec!["/nowhere/to/be/found".into()];
    });
    let error = crash(pool.send("x").await);
    assert_eq!(
        error,
        "cannot run `/nowhere/to/be/found`: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn a_child_that_dies_in_the_middle_of_a_line_costs_one_retry() {
    fails_once(r#"printf '{"id":"'; exit 4"#, "ended (exit status: 4)").await;
    fails_once("kill -KILL $$", "ended (signal: 9 (SIGKILL))").await;
}

#[tokio::test]
async fn rubbish_costs_one_retry() {
    fails_once(
        "echo hello world; next",
        "sent a line that is not an answer",
    )
    .await;
    fails_once(
        r#"echo '{"no":"id"}'; next"#,
        "sent a line that nobody asked for",
    )
    .await;
    fails_once("answer perhaps; next", "sent a line that is not an answer").await;
    fails_once(
        r"printf '\377\n'; next",
        "sent a line that is not an answer",
    )
    .await;
}

#[tokio::test]
async fn an_answer_to_another_request_costs_one_retry() {
    fails_once(
        "id=999; answer done; next",
        "answered another request than its own",
    )
    .await;
}

#[tokio::test]
async fn a_second_answer_costs_the_next_delivery_nothing() {
    let pool = pool("while next; do answer done; answer dead; done", |_| {});
    for _ in 0..10 {
        assert_eq!(pool.send("x").await, Outcome::Done);
    }
    assert!(pool.pids().len() > 1, "it is replaced");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let expected = "sent a line of more than 1048576 bytes";
    fails_once("head -c 100000000 /dev/zero | tr '\\0' x; next", expected).await;
    fails_once("yes xxxxxxxxxxxxxxxxxxxx | tr -d '\\n'; next", expected).await;
    let long = "printf '{\"id\":\"'; head -c 2000000 /dev/zero | tr '\\0' x; echo '\"}'; next";
    fails_once(long, expected).await;
}

#[tokio::test]
async fn a_process_that_keeps_the_pipe_does_not_hold_up_the_retry_and_is_killed() {
    let failing = "sleep 1000 & echo $! > left; exit 5";
    let pool = fails_once(failing, "ended (exit status: 5)").await;
    dead(read_pid(&pool.file("left"))).await;
}

#[tokio::test]
async fn a_child_that_ignores_the_end_of_its_input_is_killed_with_its_group() {
    let script = "trap '' TERM HUP INT
        sleep 1000 & echo $! > left
        next; answer done; while true; do sleep 1000; done";
    let pool = pool(script, |_| {});
    assert_eq!(pool.send("x").await, Outcome::Done);
    // A worker whose time is up drops the release.
    tokio::select! {
        biased;
        () = pool.handler.release() => panic!("it has not ended by itself"),
        () = eventually("its time is up", || pool.file("left").exists()) => {}
    }
    gone(pool.pids()[0]).await;
    dead(read_pid(&pool.file("left"))).await;
}

#[tokio::test]
async fn a_stopped_child_is_killed() {
    let pool = pool("next; touch stopped; kill -STOP $$", |_| {});
    tokio::select! {
        outcome = pool.send("x") => panic!("{outcome:?}"),
        () = eventually("the child has stopped", || {
            let stat = pool.read("pids").trim().parse::<i32>().map(|pid| {
                fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
            });
            stat.is_ok_and(|stat| stat.contains(") T "))
        }) => {}
    }
    gone(pool.pids()[0]).await;
}

#[tokio::test]
async fn a_child_that_does_not_read_holds_up_its_own_delivery_alone() {
    let script = format!("if test -e deaf; then {OBEDIENT}; exit; fi; touch deaf; sleep 1000");
    let pool = pool(&script, |_| {});
    let large = vec![b'x'; 10_000_000];
    let deaf = pool.send(large.clone());
    let served = async {
        eventually("the child is deaf", || pool.file("deaf").exists()).await;
        pool.send("small").await
    };
    tokio::select! {
        outcome = deaf => panic!("{outcome:?}"),
        outcome = served => assert_eq!(outcome, Outcome::Done),
    }
    gone(pool.pids()[0]).await;
}

#[tokio::test]
async fn a_child_that_dies_while_nobody_asks_it_costs_nothing() {
    let pool = pool("next; answer done; exit 6", |_| {});
    for served in 1..=3 {
        assert_eq!(pool.send("x").await, Outcome::Done);
        let pids: BTreeSet<_> = pool.pids().into_iter().collect();
        assert_eq!(pids.len(), served);
        dead(pool.pids()[served - 1]).await;
    }
}

#[tokio::test]
async fn megabytes_of_body_reach_a_child_that_greets_late() {
    let script = r#"sleep 0.1; echo '{"hello":{}}'; while next; do printf %s "$line" | wc -c > size; answer done; done"#;
    let pool = pool(script, |_| {});
    let body = vec![b'x'; 300_000];
    assert_eq!(pool.send(body).await, Outcome::Done);
    let size: usize = pool.read("size").trim().parse().unwrap();
    assert!(size > 400_000, "base64 of the body, and more: {size}");
}
