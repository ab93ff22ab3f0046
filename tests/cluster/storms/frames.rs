//! A client written in frames, which does what no well-kept client does: thousands of requests in one packet, each
//! taken back at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use super::listeners::Heard;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// `END_STREAM` and `END_HEADERS`.
const WHOLE: u8 = 0x1 | 0x4;
const ACK: u8 = 0x1;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// One HTTP/2 connection.
pub(super) struct Frames {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    reader: JoinHandle<()>,
    shared: Arc<Shared>,
    next: u32,
}

/// What its reader finds.
#[derive(Default)]
struct Shared {
    /// Those who listen, by stream.
    listeners: Mutex<BTreeMap<u32, Arc<Heard>>>,
    /// Why the server wants no more of this connection, if so.
    over: OnceLock<String>,
    /// How many frames of data came in.
    words: AtomicU64,
}

impl Frames {
    /// Connects. `beats` tells the time to those who listen over this connection.
    pub(super) async fn connect(port: u16, beats: Arc<AtomicU64>) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (reader, mut writer) = socket.into_split();
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut hello, SETTINGS, 0, 0, &[]);
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        writer.write_all(&hello).await.unwrap();
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        let shared = Arc::new(Shared::default());
        let reader = tokio::spawn(read(reader, writer.clone(), shared.clone(), beats));
        Self { writer, reader, shared, next: 1 }
    }

    /// Opens a stream for somebody who listens.
    pub(super) async fn listen(&mut self, ticket: &str, heard: Arc<Heard>) {
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).insert(self.next, heard);
        let mut bytes = Vec::new();
        self.request(&mut bytes, ticket);
        self.send(&bytes).await;
    }

    /// Asks for a stream for each of them, all in one write; takes each back at once. Every tenth is left open until
    /// the next call.
    pub(super) async fn come_and_go(&mut self, tickets: &[String], left: &mut Vec<u32>) {
        let mut bytes = Vec::new();
        for stream in left.drain(..) {
            frame(&mut bytes, RST_STREAM, 0, stream, &CANCEL);
        }
        for (at, ticket) in tickets.iter().enumerate() {
            let stream = self.request(&mut bytes, ticket);
            if at % 10 == 0 {
                left.push(stream);
            } else {
                frame(&mut bytes, RST_STREAM, 0, stream, &CANCEL);
            }
        }
        self.send(&bytes).await;
    }

    /// Takes back what was left open.
    pub(super) async fn go(&mut self, left: &mut Vec<u32>) {
        self.come_and_go(&[], left).await;
    }

    /// How many frames of data have come in.
    pub(super) fn words(&self) -> u64 {
        self.shared.words.load(Ordering::Relaxed)
    }

    /// Fails the test if the server has given up this connection.
    pub(super) fn must_live(&self) {
        let why = self.shared.over.get();
        assert!(why.is_none(), "the server gave up the connection that all share: {why:?}");
    }

    async fn send(&self, bytes: &[u8]) {
        self.must_live();
        self.writer.lock().await.write_all(bytes).await.expect("the connection that all share lives");
    }

    /// A request for a stream; its id.
    fn request(&mut self, bytes: &mut Vec<u8>, ticket: &str) -> u32 {
        // HPACK: two entries of the static table; then a value for `:authority` and for `:path`, and a new name.
        let mut block = vec![0x82, 0x86, 0x01];
        text(&mut block, "storm");
        block.push(0x04);
        text(&mut block, "/anteroom/v1/rooms/shop/stream");
        block.push(0x00);
        text(&mut block, "x-anteroom-ticket");
        text(&mut block, ticket);
        let stream = self.next;
        self.next += 2;
        frame(bytes, HEADERS, WHOLE, stream, &block);
        stream
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A string as HPACK has it, its length in 7 bits and more.
fn text(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 0x80);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(text.as_bytes());
}

async fn read(
    mut reader: OwnedReadHalf,
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    shared: Arc<Shared>,
    beats: Arc<AtomicU64>,
) {
    let mut head = [0; 9];
    let mut payload = Vec::new();
    while reader.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        payload.resize(length, 0);
        if reader.read_exact(&mut payload).await.is_err() {
            break;
        }
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let mut answer = Vec::new();
        match (head[3], head[4] & ACK) {
            (DATA, _) => {
                shared.words.fetch_add(1, Ordering::Relaxed);
                let listeners = shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(heard) = listeners.get(&stream) {
                    heard.note(&beats);
                    let read = u32::try_from(length).unwrap().to_be_bytes();
                    frame(&mut answer, WINDOW_UPDATE, 0, stream, &read);
                }
            }
            (SETTINGS, 0) => frame(&mut answer, SETTINGS, ACK, 0, &[]),
            (PING, 0) => frame(&mut answer, PING, ACK, 0, &payload),
            (GOAWAY, _) => {
                // The last stream's id, the error's code, and words.
                let code = payload.get(4..8).unwrap_or_default();
                let words = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
                shared.over.get_or_init(|| format!("GOAWAY {code:?} {words}"));
            }
            _ => {}
        }
        if !answer.is_empty() && writer.lock().await.write_all(&answer).await.is_err() {
            break;
        }
    }
    shared.over.get_or_init(|| "it broke off".to_owned());
}

/// The request of an HTTP/1 client.
pub(super) fn http1(ticket: &str) -> String {
    format!(
        "GET /anteroom/v1/rooms/shop/stream HTTP/1.1\r\nhost: storm\r\nx-anteroom-ticket: {ticket}\r\n\r\n"
    )
}
