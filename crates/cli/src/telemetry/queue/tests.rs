//! The queue of log lines: what is lost, and what is said of it.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// An output that does with each write what the test says, and tells when a write begins.
struct Scripted {
    answers: Receiver<io::Result<()>>,
    begun: Sender<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.begun.send(());
        // Once the test has no more answers, every write works.
        self.answers.recv().unwrap_or(Ok(()))?;
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Scene {
    queue: LogQueue,
    answers: Sender<io::Result<()>>,
    begun: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

fn scene(limit: usize) -> Scene {
    let (answers, from_test) = channel();
    let (to_test, begun) = channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let output = Scripted {
        answers: from_test,
        begun: to_test,
        written: Arc::clone(&written),
    };
    let notice = |lost| format!("{lost} lost\n");
    let queue = LogQueue::with_limit(Box::new(output), notice, limit).unwrap();
    Scene {
        queue,
        answers,
        begun,
        written,
    }
}

impl Scene {
    /// What has been written once every write works.
    fn end(self) -> String {
        drop(self.answers);
        self.queue.flush(PATIENCE);
        // The notice follows the last line: wait for it by another line, after which nothing is lost.
        self.queue.push(b"end\n");
        self.queue.flush(PATIENCE);
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn a_reader_that_stalls_costs_lines_and_stops_nobody() {
    let scene = scene(10);
    scene.queue.push(b"one\n");
    scene.begun.recv_timeout(PATIENCE).unwrap();
    // The writer hangs in its first line from here on.
    scene.queue.push(b"two\n");
    for _ in 0..5 {
        scene.queue.push(b"three\n");
    }
    let begin = Instant::now();
    scene.queue.flush(Duration::from_millis(10));
    assert!(begin.elapsed() < PATIENCE, "the end does not wait for it");
    let text = scene.end();
    assert!(text.starts_with("one\n"), "{text}");
    assert!(text.contains("two\n"), "{text}");
    assert!(text.contains("5 lost\n"), "{text}");
    assert!(!text.contains("three"), "{text}");
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_said_once() {
    let before = log_lines_lost().get();
    let scene = scene(QUEUE_LIMIT);
    let full = || Err(io::ErrorKind::StorageFull.into());
    scene.queue.push(b"one\n");
    scene.begun.recv_timeout(PATIENCE).unwrap();
    scene.queue.push(b"two\n");
    // The first line fails, and so does the notice of it; then the second line works, and the notice with it.
    for answer in [full(), full(), Ok(()), Ok(())] {
        scene.answers.send(answer).unwrap();
    }
    scene.queue.flush(PATIENCE);
    let text = scene.end();
    assert_eq!(text.matches("1 lost\n").count(), 1, "{text}");
    assert!(text.starts_with("two\n"), "{text}");
    assert!(log_lines_lost().get() > before);
}

#[test]
fn an_output_in_non_blocking_mode_is_tried_again() {
    let scene = scene(QUEUE_LIMIT);
    scene.queue.push(b"one\n");
    let again = || Err(io::ErrorKind::WouldBlock.into());
    for answer in [again(), Err(io::ErrorKind::Interrupted.into()), again()] {
        scene.answers.send(answer).unwrap();
    }
    assert_eq!(scene.end(), "one\nend\n");
}
