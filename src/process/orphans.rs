//! Reaps orphans when this process is process 1, as in a container without an init.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};

/// The interval of looks for orphans that have ended. One is reaped at the second look at the earliest.
const INTERVAL: Duration = Duration::from_secs(1);

/// The children that this process started and awaits itself. An orphan reaper belongs to the whole process, and
/// so does this.
static OWN_CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn own_children() -> MutexGuard<'static, BTreeSet<i32>> {
    OWN_CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn started(pid: Pid) {
    own_children().insert(pid.as_raw_nonzero().get());
}

pub(super) fn reaped(pid: Pid) {
    own_children().remove(&pid.as_raw_nonzero().get());
}

/// Reaps the orphans of this machine or container for as long as it is polled, if this process is process 1;
/// else it waits for ever. Handlers' children are left to whoever awaits them, and a child that somebody else in
/// this process started has at least a second to be awaited.
///
/// Cancel safe.
pub async fn reap_orphans() {
    let own_pid = std::process::id();
    if own_pid != 1 {
        return std::future::pending().await;
    }
    let mut seen = BTreeSet::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        seen = reap_once(own_pid, &seen, Path::new("/proc"));
    }
}

/// Reaps the zombies that were there at the last look, too. Returns the others.
fn reap_once(own_pid: u32, seen: &BTreeSet<i32>, proc: &Path) -> BTreeSet<i32> {
    let mut waiting = BTreeSet::new();
    for zombie in zombies(own_pid, proc) {
        if own_children().contains(&zombie) {
            continue;
        }
        if !seen.contains(&zombie) {
            waiting.insert(zombie);
        } else if let Some(pid) = Pid::from_raw(zombie) {
            // An error says that somebody else has reaped it.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            tracing::debug!(pid = zombie, "reaped an orphan");
        }
    }
    waiting
}

/// The ended children of process `parent` that nobody has reaped.
fn zombies(parent: u32, proc: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(proc) else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        fs::read_to_string(proc.join(pid.to_string()).join("stat"))
            .is_ok_and(|stat| is_zombie_of(parent, &stat))
    })
    .collect()
}

/// Whether `stat` (proc(5), `/proc/PID/stat`) is that of a zombie of `parent`. The program's name may contain
/// parentheses and spaces.
fn is_zombie_of(parent: u32, stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    fields.next() == Some("Z") && fields.next().and_then(|field| field.parse().ok()) == Some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_known_whatever_its_name_is() {
        assert!(is_zombie_of(1, "77 (sh) Z 1 77 77 0"));
        assert!(is_zombie_of(1, "77 (a) S 2 (b) Z 1 77 77 0"));
        assert!(!is_zombie_of(1, "77 (sh) S 1 77 77 0"));
        assert!(!is_zombie_of(1, "77 (sh) Z 12 77 77 0"));
        assert!(!is_zombie_of(1, ""));
    }

    #[test]
    fn a_zombie_is_reaped_at_the_second_look_unless_it_is_our_own_child() {
        let own_pid = std::process::id();
        let proc = Path::new("/proc");
        let mut orphan = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(orphan.id()).unwrap();
        let seen = BTreeSet::from([pid]);
        while !zombies(own_pid, proc).contains(&pid) {
            std::thread::yield_now();
        }
        assert!(reap_once(own_pid, &BTreeSet::new(), proc).contains(&pid));
        let own = Pid::from_raw(pid).unwrap();
        started(own);
        assert!(!reap_once(own_pid, &seen, proc).contains(&pid));
        reaped(own);
        assert!(
            zombies(own_pid, proc).contains(&pid),
            "an own child is not reaped"
        );
        assert!(!reap_once(own_pid, &seen, proc).contains(&pid));
        assert!(orphan.wait().is_err(), "it was reaped");
    }
}
