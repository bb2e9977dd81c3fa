//! `tidegate health`: asks a running worker whether it is ready, for images that hold no other HTTP client.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use url::Url;

use super::Exit;
use crate::output::{conclude, print};

/// How long the answer's status line may be, in bytes.
const ANSWER_LIMIT: u64 = 1024;

/// Asks a running worker whether it is ready
///
/// Exits with 0 when the answer is 2xx, else with 1: made for container health checks.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// What to ask: `/readyz` for ready to take messages, `/livez` for alive
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8079/readyz")]
    url: Url,
    /// How long to wait for each of the connection and the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Asks once, and says what the answer was.
///
/// # Errors
/// When there is no answer: the address is wrong, nobody listens, or nothing comes in time.
pub(super) fn run(args: &HealthArgs) -> anyhow::Result<Exit> {
    ensure!(
        args.url.username().is_empty() && args.url.password().is_none(),
        "a user or password in the URL is of no use here"
    );
    let status =
        ask(&args.url, args.timeout).with_context(|| format!("no answer from {}", args.url))?;
    let exit = if (200..300).contains(&status) {
        Exit::Clean
    } else {
        Exit::Failure
    };
    Ok(conclude(print(format!("{status}\n")), exit)?)
}

fn ask(url: &Url, timeout: Duration) -> anyhow::Result<u16> {
    ensure!(
        url.scheme() == "http",
        "only http is spoken here, not {}",
        url.scheme()
    );
    ensure!(!timeout.is_zero(), "the timeout must not be zero");
    let host = url.host_str().context("the URL names no host")?;
    let port = url.port_or_known_default().unwrap_or(80);
    let address = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .context("cannot resolve the host")?
        .next()
        .context("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n"
    )?;
    // The status line is enough: a server may keep the connection open although it was asked not to.
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER_LIMIT))
        .read_until(b'\n', &mut line)
        .map_err(|error| match error.kind() {
            // What a read that timed out is called differs between systems.
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })?;
    status(&line)
}

/// The status code in the first line of an HTTP/1 answer (RFC 9112, section 4).
fn status(line: &[u8]) -> anyhow::Result<u16> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    match (words.next(), words.next().map(str::parse)) {
        (Some(version), Some(Ok(code))) if version.starts_with("HTTP/1.") => Ok(code),
        _ => bail!("the answer is not HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answering(answer: &'static str) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readyz?verbose", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut request).unwrap();
            assert_eq!(request, "GET /readyz?verbose HTTP/1.1\r\n");
            while request != "\r\n" {
                request.clear();
                reader.read_line(&mut request).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            // It keeps the connection open, as a server may, until the client has gone.
            std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        });
        url.parse().unwrap()
    }

    fn health(url: Url) -> anyhow::Result<Exit> {
        run(&HealthArgs {
            url,
            timeout: Duration::from_secs(30),
        })
    }

    #[test]
    fn a_ready_worker_is_healthy() {
        let url = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(health(url).unwrap(), Exit::Clean);
    }

    #[test]
    fn a_draining_worker_is_not() {
        let url =
            answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\ndraining");
        assert_eq!(health(url).unwrap(), Exit::Failure);
    }

    #[test]
    fn an_answer_that_is_not_http_is_an_error_that_names_the_url() {
        let url = answering("220 mail.example ESMTP\r\n");
        let expected = format!("no answer from {url}: the answer is not HTTP");
        assert_eq!(format!("{:#}", health(url).unwrap_err()), expected);
    }

    #[test]
    fn nobody_listening_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        drop(listener);
        assert!(health(url).is_err());
    }

    #[test]
    fn silence_is_an_error_when_the_time_is_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let timeout = Duration::from_millis(20);
        let error = run(&HealthArgs {
            url: url.clone(),
            timeout,
        });
        let expected = format!("no answer from {url}: timed out");
        assert_eq!(format!("{:#}", error.unwrap_err()), expected);
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        let error = health("http://user:secret@localhost/".parse().unwrap()).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "a user or password in the URL is of no use here"
        );
    }

    #[test]
    fn only_http_is_asked() {
        let error = health("https://localhost/".parse().unwrap()).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "no answer from https://localhost/: only http is spoken here, not https"
        );
    }
}
