//! A publisher that writes bytes which no client library would write.

use std::iter;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::wait::within;

/// A connection with one channel in confirm mode.
pub(crate) struct RawPublisher {
    stream: TcpStream,
}

/// A short string.
pub(crate) fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short string");
    iter::once(length).chain(text.iter().copied()).collect()
}

/// A long string, or a table or list as a whole.
pub(crate) fn long(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("it fits");
    [&length.to_be_bytes(), content].concat()
}

/// A list in a list in a list, `depth` times.
pub(crate) fn nested(depth: usize) -> Vec<u8> {
    let mut value = vec![b'V'];
    for _ in 0..depth {
        value = [&b"A"[..], &long(&value)].concat();
    }
    value
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let head = [&[kind][..], &channel.to_be_bytes(), &long(payload)];
    [&head.concat()[..], &[0xce]].concat()
}

impl RawPublisher {
    /// Connects to the virtual host of `url`.
    pub(crate) async fn connect(url: &Url) -> Self {
        let host = url.host_str().expect("a host");
        let stream = TcpStream::connect((host, url.port().unwrap_or(5672))).await;
        let mut raw = Self {
            stream: stream.expect("the broker listens"),
        };
        raw.write(b"AMQP\x00\x00\x09\x01").await;
        raw.until(10, 10).await;
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        let login = format!("\0{user}\0{password}");
        let start_ok = [
            &[0, 10, 0, 11][..],
            &long(b""),
            &short(b"PLAIN"),
            &long(login.as_bytes()),
            &short(b"en_US"),
        ];
        raw.method(0, &start_ok.concat()).await;
        raw.until(10, 30).await;
        let tune_ok = [
            &[0, 10, 0, 31, 0, 8][..],
            &131_072_u32.to_be_bytes(),
            &[0, 0],
        ];
        raw.method(0, &tune_ok.concat()).await;
        let vhost = url.path().trim_start_matches('/');
        let open = [&[0, 10, 0, 40][..], &short(vhost.as_bytes()), &[0, 0]];
        raw.method(0, &open.concat()).await;
        raw.until(10, 41).await;
        raw.method(1, &[0, 20, 0, 10, 0]).await;
        raw.until(20, 11).await;
        raw.method(1, &[0, 85, 0, 10, 0]).await;
        raw.until(85, 11).await;
        raw
    }

    /// Publishes `body` with these property flags and properties, and awaits the broker's confirm.
    pub(crate) async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        (flags, properties): (u16, &[u8]),
        body: &[u8],
    ) {
        let publish = [
            &[0, 60, 0, 40, 0, 0][..],
            &short(exchange.as_bytes()),
            &short(routing_key),
            &[0],
        ];
        self.method(1, &publish.concat()).await;
        let header = [
            &[0, 60, 0, 0][..],
            &(body.len() as u64).to_be_bytes(),
            &flags.to_be_bytes(),
            properties,
        ];
        self.write(&frame(2, 1, &header.concat())).await;
        self.write(&frame(3, 1, body)).await;
        self.until(60, 80).await;
    }

    async fn method(&mut self, channel: u16, payload: &[u8]) {
        self.write(&frame(1, channel, payload)).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .await
            .expect("the broker reads");
    }

    /// Reads frames up to the method `class.method`.
    async fn until(&mut self, class: u8, method: u8) {
        let read = async {
            loop {
                let mut head = [0; 7];
                self.stream.read_exact(&mut head).await.expect("a frame");
                let [.., s0, s1, s2, s3] = head;
                let size = u32::from_be_bytes([s0, s1, s2, s3]);
                let mut rest = vec![0; usize::try_from(size).expect("small") + 1];
                self.stream.read_exact(&mut rest).await.expect("a frame");
                if head[0] == 1 && rest[..4] == [0, class, 0, method] {
                    return;
                }
                let closed = head[0] == 1 && matches!(rest[..4], [0, 10, 0, 50] | [0, 20, 0, 40]);
                assert!(!closed, "refused: {}", String::from_utf8_lossy(&rest));
            }
        };
        within(format_args!("method {class}.{method}"), read).await;
    }
}
