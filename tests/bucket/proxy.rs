//! A proxy on loopback between us and a real store, which goes wrong on purpose.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before the store hears of the request.
    CutBefore,
    /// The connection ends in the middle of the request.
    CutWithin,
    /// The store does the work, and its answer is lost.
    AnswerLost,
    /// The connection ends in the middle of the answer.
    AnswerCut,
    /// The store hears nothing, and this status is answered.
    Status(u16),
    /// The store does the work, and this status is answered.
    StatusAfter(u16),
    /// The answer is some bytes shorter than it should be, and says so of itself.
    AnswerShort,
    /// It takes so many milliseconds longer.
    Delay(u64),
    /// Nothing is ever answered.
    Silence,
}

/// Decides about each request, by its method and address.
pub type Decide = dyn Fn(&str, &str) -> Option<Fault> + Send + Sync;

/// See the module. Ends when it is dropped.
pub struct Proxy {
    pub address: String,
    decide: Arc<Mutex<Arc<Decide>>>,
    requests: Arc<AtomicU64>,
    faults: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    is_faulty: AtomicBool,
    port: u16,
}

impl Proxy {
    /// Stands in front of the store at `address`, such as `http://127.0.0.1:7480`.
    pub fn start(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = address.trim_start_matches("http://").to_owned();
        let nothing: Arc<Decide> = Arc::new(|_, _| None);
        let proxy = Self {
            address: format!("http://127.0.0.1:{port}"),
            decide: Arc::new(Mutex::new(nothing)),
            requests: Arc::default(),
            faults: Arc::default(),
            is_over: Arc::default(),
            is_faulty: AtomicBool::new(false),
            port,
        };
        let (decide, requests) = (Arc::clone(&proxy.decide), Arc::clone(&proxy.requests));
        let (faults, is_over) = (Arc::clone(&proxy.faults), Arc::clone(&proxy.is_over));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let (decide, requests) = (Arc::clone(&decide), Arc::clone(&requests));
                let (faults, upstream) = (Arc::clone(&faults), upstream.clone());
                // An error of a connection is an end of that connection, for both sides.
                std::thread::spawn(move || serve(client, &upstream, &decide, &requests, &faults));
            }
        });
        proxy
    }

    /// From now on this happens to requests.
    pub fn set(&self, decide: impl Fn(&str, &str) -> Option<Fault> + Send + Sync + 'static) {
        *self.decide.lock().unwrap() = Arc::new(decide);
        self.is_faulty.store(true, Ordering::Relaxed);
    }

    /// From now on nothing happens to requests.
    pub fn behave(&self) {
        self.set(|_, _| None);
        self.is_faulty.store(false, Ordering::Relaxed);
    }

    /// Whether anything may happen to requests now.
    pub fn is_faulty(&self) -> bool {
        self.is_faulty.load(Ordering::Relaxed)
    }

    /// Requests so far.
    pub fn request_count(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests so far to which something happened.
    pub fn fault_count(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The head of a request or an answer: its lines with their ends, the empty one included.
struct Head {
    lines: Vec<String>,
}

impl Head {
    /// Nothing at an orderly end of the connection.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return if lines.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let is_last = line.trim().is_empty();
            lines.push(line);
            if is_last {
                return Ok(Some(Self { lines }));
            }
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let named = |line: &&String| {
            line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        };
        self.lines.iter().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    fn content_len(&self) -> usize {
        self.value("content-length").and_then(|len| len.parse().ok()).unwrap_or(0)
    }

    fn word(&self, at: usize) -> &str {
        self.lines[0].split_whitespace().nth(at).unwrap_or("")
    }

    fn bytes(&self) -> Vec<u8> {
        self.lines.concat().into_bytes()
    }
}

fn serve(
    client: TcpStream,
    upstream: &str,
    decide: &Mutex<Arc<Decide>>,
    requests: &AtomicU64,
    faults: &AtomicU64,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let store = TcpStream::connect(upstream)?;
    store.set_nodelay(true)?;
    let (mut to_client, mut to_store) = (client.try_clone()?, store.try_clone()?);
    let (mut from_client, mut from_store) = (BufReader::new(client), BufReader::new(store));
    while let Some(request) = Head::read(&mut from_client)? {
        requests.fetch_add(1, Ordering::Relaxed);
        let chosen = Arc::clone(&decide.lock().unwrap());
        let fault = chosen(request.word(0), request.word(1));
        faults.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        if request.value("expect").is_some() {
            to_client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; request.content_len()];
        match fault {
            Some(Fault::CutBefore) => return to_client.shutdown(Shutdown::Both),
            Some(Fault::CutWithin) => {
                let half = body.len() / 2;
                from_client.read_exact(&mut body[..half])?;
                to_store.write_all(&request.bytes())?;
                to_store.write_all(&body[..half])?;
                return to_client.shutdown(Shutdown::Both);
            }
            _ => from_client.read_exact(&mut body)?,
        }
        match fault {
            Some(Fault::Status(status)) => {
                refuse(&mut to_client, request.word(0), status)?;
                continue;
            }
            Some(Fault::Silence) => {
                std::thread::sleep(Duration::from_secs(3600));
                return Ok(());
            }
            Some(Fault::Delay(milliseconds)) => std::thread::sleep(Duration::from_millis(milliseconds)),
            _ => {}
        }
        to_store.write_all(&request.bytes())?;
        to_store.write_all(&body)?;
        let (answer, content) = read_answer(&mut from_store, request.word(0) == "HEAD")?;
        match fault {
            Some(Fault::AnswerLost) => return to_client.shutdown(Shutdown::Both),
            Some(Fault::StatusAfter(status)) => refuse(&mut to_client, request.word(0), status)?,
            Some(Fault::AnswerCut) => {
                let whole = [answer.bytes(), content].concat();
                to_client.write_all(&whole[..whole.len() - whole.len() / 3 - 1])?;
                return to_client.shutdown(Shutdown::Both);
            }
            Some(Fault::AnswerShort) if content.len() > 3 => {
                let len = content.len() - 3;
                let shorter = |line: &String| match line.to_ascii_lowercase().starts_with("content-length") {
                    true => format!("Content-Length: {len}\r\n"),
                    false => line.clone(),
                };
                let lines: Vec<_> = answer.lines.iter().map(shorter).collect();
                to_client.write_all(lines.concat().as_bytes())?;
                to_client.write_all(&content[..len])?;
            }
            _ => {
                to_client.write_all(&answer.bytes())?;
                to_client.write_all(&content)?;
            }
        }
    }
    Ok(())
}

/// An answer with its body as it came, chunks and all.
fn read_answer(from: &mut BufReader<TcpStream>, is_head: bool) -> io::Result<(Head, Vec<u8>)> {
    let mut answer = Head::read(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    while answer.word(1) == "100" {
        answer = Head::read(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    }
    let mut content = Vec::new();
    if is_head || matches!(answer.word(1), "204" | "304") {
        return Ok((answer, content));
    }
    if answer.value("transfer-encoding").is_none() {
        content.resize(answer.content_len(), 0);
        from.read_exact(&mut content)?;
        return Ok((answer, content));
    }
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let len = usize::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)
            .map_err(io::Error::other)?;
        let mut chunk = vec![0; len + 2];
        from.read_exact(&mut chunk)?;
        content.extend_from_slice(line.as_bytes());
        content.extend_from_slice(&chunk);
        if len == 0 {
            return Ok((answer, content));
        }
    }
}

fn refuse(to: &mut TcpStream, method: &str, status: u16) -> io::Result<()> {
    let code = match status {
        409 => "ConditionalRequestConflict",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let body = if method == "HEAD" { String::new() } else { body };
    write!(to, "HTTP/1.1 {status} On Purpose\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
