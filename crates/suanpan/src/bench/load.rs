use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use service::Shutdown;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::notification::{APP_ID, Notifications};

/// Posts these notifications over so many kept-alive connections. Like Alipay, a connection has one request
/// in flight. One thread does all of it, so that little of what is measured is the measuring.
pub(super) fn post(
    notifications: &Arc<Notifications>,
    range: Range<usize>,
    ingress: SocketAddr,
    connections: u16,
    shutdown: &Shutdown,
) -> anyhow::Result<Load> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let share = Arc::new(Share {
            notifications: notifications.clone(),
            next: AtomicUsize::new(range.start),
            end: range.end,
            head: format!(
                "POST /notify/alipay/{APP_ID} HTTP/1.1\r\nHost: {ingress}\r\n{CONTENT_TYPE}"
            ),
        });
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(ingress).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let started = Instant::now();
        let mut posting = JoinSet::new();
        for stream in streams {
            posting.spawn(share.clone().post_over(stream));
        }
        let mut load = Load::default();
        loop {
            let ended = tokio::select! {
                ended = posting.join_next() => ended,
                () = shutdown.triggered() => bail!("stopped by a signal"),
            };
            let Some(ended) = ended else { break };
            let lane = ended?.context("a connection to the ingress broke")?;
            load.latencies_us.extend(lane.latencies_us);
            for (answer, count) in lane.other {
                *load.other.entry(answer).or_default() += count;
            }
        }
        load.elapsed = started.elapsed();
        load.latencies_us.sort_unstable();
        Ok(load)
    })
}

/// What came of a load.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) elapsed: Duration,
    /// Of every notification that was answered `success`: from its first byte sent to its answer read; sorted.
    pub(super) latencies_us: Vec<u64>,
    /// The other answers by their first line, and how often they came.
    pub(super) other: BTreeMap<String, u64>,
}

impl Load {
    /// How many were answered `success`.
    pub(super) fn accepted(&self) -> u64 {
        u64::try_from(self.latencies_us.len()).unwrap_or(u64::MAX)
    }

    /// A sentence for every answer that should not have been.
    pub(super) fn wrong(&self) -> impl Iterator<Item = String> {
        self.other.iter().map(|(answer, count)| {
            format!("{count} genuine notifications were answered `{answer}` and not `success`")
        })
    }
}

const CONTENT_TYPE: &str =
    "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\nContent-Length: ";

/// What the connections share: each takes the next notification that nobody has.
struct Share {
    notifications: Arc<Notifications>,
    next: AtomicUsize,
    end: usize,
    head: String,
}

#[derive(Default)]
struct Lane {
    latencies_us: Vec<u64>,
    other: BTreeMap<String, u64>,
}

impl Share {
    async fn post_over(self: Arc<Self>, stream: TcpStream) -> io::Result<Lane> {
        let mut lane = Lane::default();
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let signed = self.notifications.signed.get(number).filter(|_| number < self.end);
            let Some(signed) = signed else { return Ok(lane) };
            request.clear();
            request.extend_from_slice(self.head.as_bytes());
            request.extend_from_slice(signed.body.len().to_string().as_bytes());
            request.extend_from_slice(b"\r\n\r\n");
            request.extend_from_slice(&signed.body);
            let sent = Instant::now();
            write(&stream, &request).await?;
            read(&stream, &mut answer).await?;
            if is_success(&answer) {
                let latency_us = sent.elapsed().as_micros();
                lane.latencies_us.push(u64::try_from(latency_us).unwrap_or(u64::MAX));
            } else {
                let text = String::from_utf8_lossy(&answer);
                let first = text.lines().next().unwrap_or_default().to_owned();
                *lane.other.entry(first).or_default() += 1;
            }
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads one answer, head and body.
async fn read(stream: &TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    answer.clear();
    let mut part = [0; 1024];
    while !is_whole(answer) {
        stream.readable().await?;
        match stream.try_read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_success(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\nsuccess")
}

fn is_whole(answer: &[u8]) -> bool {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let Some(end) = answer.windows(HEAD_END.len()).position(|part| part == HEAD_END) else {
        return false;
    };
    let (head, rest) = answer.split_at(end);
    let head = String::from_utf8_lossy(head);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        if is_length { value.trim().parse::<usize>().ok() } else { None }
    });
    rest.len() >= length.unwrap_or(0) + HEAD_END.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body_and_only_seven_bytes_are_success() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\ndate: x\r\n\r\nsuccess";
        for cut in 0..answer.len() {
            assert!(!is_whole(&answer[..cut]), "{cut}");
        }
        assert!(is_whole(answer) && is_success(answer));
        for other in [
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfail".as_slice(),
            b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsuccess\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        ] {
            assert!(is_whole(other) && !is_success(other));
        }
    }
}
