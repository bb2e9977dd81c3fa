//! The body of a request to the platform: bounded by bytes, and compressed.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Summary, Worker, WorkerDrain};
use crate::pending::Untold;
use crate::state::Fleet;

/// Bytes of the changes in one request, before compression: with the summary it stays below 1 MiB, which servers and
/// proxies take without being told. A single change may be larger.
const CHANGES_BYTES: usize = 1_000_000;

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forward {
    /// Version of the body: 1.
    pub v: u32,
    /// The id of the fleet program, new at each start. Each program sends everything once and then only changes.
    pub program: String,
    /// The number of this request, from 1. It counts requests of this program that were accepted.
    pub seq: u64,
    /// The fleet in figures.
    pub summary: Summary,
    /// Workers that changed since the last request, as they are now.
    pub workers: Vec<Worker>,
    /// Ids of workers that are no longer listed.
    pub gone: Vec<Arc<str>>,
    /// Drains reported since the last request.
    pub drains: Vec<WorkerDrain>,
    /// Whether another request with more changes follows at once.
    pub more: bool,
}

/// Changes as they are sent.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub gone: Vec<Arc<str>>,
    pub drains: Vec<WorkerDrain>,
    pub workers: Vec<Worker>,
}

impl Content {
    /// The content of `taken` as far as there is room; it leaves in `taken` what is sent, and returns what is not.
    pub(super) fn of(taken: &mut Untold, fleet: &Fleet, summary: &Summary) -> (Self, Untold) {
        let mut content = Self::default();
        let mut room = Room(CHANGES_BYTES);
        let mut sent = 0;
        let mut fits = |bytes: usize| {
            let fits = room.take(bytes) || sent == 0;
            sent += usize::from(fits);
            fits
        };
        'all: {
            for id in &taken.gone {
                if !fits(size(id)) {
                    break 'all;
                }
                content.gone.push(Arc::clone(id));
            }
            for id in &taken.drains {
                let drain = fleet.drain(id);
                if !fits(drain.as_ref().map_or(0, size)) {
                    break 'all;
                }
                content.drains.extend(drain);
            }
            for id in &taken.workers {
                let worker = fleet.worker(id, summary.at);
                if !fits(worker.as_ref().map_or(0, size)) {
                    break 'all;
                }
                content.workers.extend(worker);
            }
        }
        let rest = taken.split_off(sent);
        (content, rest)
    }
}

/// What is left of a request's bytes.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// Bytes of `value` in a list of JSON.
fn size(value: &(impl Serialize + ?Sized)) -> usize {
    let mut counter = Counter(1);
    serde_json::to_writer(&mut counter, value).expect("what is told is plain data");
    counter.0
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of a body.
pub(super) fn encoded(body: &Forward, gzip: bool) -> Bytes {
    if !gzip {
        let plain = serde_json::to_vec(body);
        return plain.expect("what is told is plain data").into();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut encoder, body).expect("what is told is plain data");
    let compressed = encoder.finish();
    compressed.expect("memory takes every byte").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::state::{Limits, Message, Origin};

    const SUMMARY: &str = r#"{"at":"2026-11-23T10:00:00.000Z","program":{"version":"1","started_at":"2026-11-23T10:00:00.000Z"},
        "broker":{"connected":true,"caught_up":true,"events":false},"commands":false,"workers":{"starting":0,"running":0,
        "paused":0,"draining":0,"stopped":0,"lost":0,"silent":0},"nodes":0,"slots":0,"in_flight":0,"rate":0.0,"messages":
        {"beats_per_second":0.0,"states_per_second":0.0,"baseline_per_second":0.0,"share":null},"week":{"drains":0,
        "summed":0,"clean":0,"unconfirmed_drains":0,"interrupted":0,"aborted":0,"failed":0,"interrupted_deliveries":0,
        "unconfirmed":0,"lost":0,"duration_p50_ms":null,"duration_p99_ms":null}}"#;

    /// A fleet of workers that have all changed. Each has `nodes` nodes, with `letter` 200 times in their queues' names.
    fn fleet(workers: usize, nodes: usize, letter: &str) -> (Fleet, Untold) {
        let now = Moment::from_ms(1_800_000_000_000);
        let mut fleet = Fleet::new(Limits::default(), now);
        let letters = letter.repeat(200);
        let queues = (0..nodes).map(|node| {
            format!(
                r#"{{"queue":"{node}{letters}","in_flight":0,"oldest_ms":0,"done":1,"retried":0,"dead":0,"handed_back":0,"interrupted":0}}"#
            )
        });
        let queues = queues.collect::<Vec<_>>().join(",");
        for number in 0..workers {
            let id = format!("w-{number:04}");
            let beat = format!(
                r#"{{"v":1,"worker":"{id}","name":"w","seq":1,"at":"{now}","lease_ms":1000,"load":0.5,"full":true,"nodes":[{queues}]}}"#
            );
            let beat = Message::parse(&format!("beat.{id}"), beat.as_bytes()).unwrap();
            fleet.apply(beat, Origin::Live, now);
        }
        let workers = fleet.take_changes().workers.into_iter().collect();
        let untold = Untold {
            workers,
            ..Untold::default()
        };
        (fleet, untold)
    }

    #[test]
    fn a_request_is_bounded_by_bytes_and_the_rest_follows() {
        let (fleet, mut untold) = fleet(300, 50, "x");
        let summary: Summary = serde_json::from_str(SUMMARY).unwrap();
        let (mut told, mut requests) = (0, 0);
        while !untold.is_empty() {
            let (content, rest) = Content::of(&mut untold, &fleet, &summary);
            let bytes = serde_json::to_vec(&content.workers).unwrap().len();
            assert!(bytes <= CHANGES_BYTES + 2, "{bytes}");
            told += content.workers.len();
            requests += 1;
            untold = rest;
        }
        assert_eq!(told, 300);
        assert!((5..20).contains(&requests), "{requests}");
    }

    #[test]
    fn a_change_that_is_larger_than_a_request_goes_alone() {
        let (fleet, mut untold) = fleet(3, 1_000, "\\u0001");
        let summary: Summary = serde_json::from_str(SUMMARY).unwrap();
        let (content, rest) = Content::of(&mut untold, &fleet, &summary);
        assert!(size(&content.workers[0]) > CHANGES_BYTES);
        assert_eq!((content.workers.len(), rest.len()), (1, 2));
    }

    #[test]
    fn a_body_is_compressed_or_plain() {
        let body = Forward {
            v: 1,
            program: "fleet-1".into(),
            seq: 1,
            summary: serde_json::from_str(SUMMARY).unwrap(),
            workers: Vec::new(),
            gone: vec!["w-1".into()],
            drains: Vec::new(),
            more: false,
        };
        let plain = encoded(&body, false);
        let gzip = encoded(&body, true);
        assert!(gzip.len() < plain.len());
        let mut read = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&*gzip);
        io::Read::read_to_end(&mut decoder, &mut read).unwrap();
        assert_eq!(read, plain);
    }
}
