//! HTTP/2 as far as a load generator needs it: requests that are nearly all alike, many at once, on one thread.
//!
//! A general client (hyper) takes some 13 µs of CPU for a request, more than the services that are measured here: it
//! was the client that was measured. This one takes some 2 µs, system calls included.

pub(crate) mod frame;
pub(crate) mod head;
mod known;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use frame::{Frame, Kind, Settings};
use head::Head;
use known::{Known, Told};

/// How long a peer may take to accept a connection and to say hello.
const PATIENCE: Duration = Duration::from_secs(5);
/// Read at once at most.
const READ: usize = 256 * 1024;
/// What waits to be written before a connection takes no more.
const BACKLOG: usize = 1 << 20;
/// The window given to the peer; renewed when half of it is used.
const WINDOW: u32 = 1 << 30;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// It cannot be used as a socket.
    #[error("the connection to {address}: {error}")]
    Socket { address: SocketAddr, error: io::Error },
    /// The system does not tell what has come.
    #[error("cannot wait for answers: {0}")]
    Poll(io::Error),
    /// The peer ended it.
    #[error(
        "the connection to {address} was closed ({why}) while {in_flight} requests waited for their answers"
    )]
    Closed { address: SocketAddr, why: String, in_flight: usize },
    /// The run is over.
    #[error(transparent)]
    Stopped(#[from] crate::stop::Stopped),
    /// What came is not HTTP/2 as it is understood here.
    #[error("the connection to {address}: {why}")]
    Protocol { address: SocketAddr, why: String },
}

/// An answer, whole.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `grpc-status`, wherever it stood.
    pub(crate) grpc_status: Option<i32>,
    pub(crate) body: Vec<u8>,
    /// The peer broke the stream off: the rest is not to be relied upon.
    pub(crate) reset: bool,
}

/// A request that was answered.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// What the asker gave it.
    pub(crate) tag: u64,
    /// When it was due or sent, nanoseconds: whatever the asker counts from.
    pub(crate) from: u64,
    pub(crate) answer: Answer,
}

/// A connection on which requests with one [`Head`] are made.
pub(crate) struct Connection {
    address: SocketAddr,
    socket: TcpStream,
    head: Head,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
    decoder: loona_hpack::Decoder<'static>,
    known: Known,
    next_id: u32,
    /// Streams from `first_id` on; `None`: answered.
    streams: VecDeque<Option<Answered>>,
    first_id: u32,
    in_flight: usize,
    /// What may still be sent on the whole connection.
    window: i64,
    peer: Settings,
    received: u32,
    finished: Vec<Answered>,
    spare: Vec<Answered>,
}

impl Connection {
    /// Connects, and waits for the peer's settings.
    pub(crate) fn open(address: SocketAddr, head: Head) -> Result<Self, Broken> {
        let failed = |error| Broken::Socket { address, error };
        let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut connection = Self {
            address,
            socket,
            head,
            out: frame::hello(WINDOW),
            written: 0,
            input: vec![0; READ],
            filled: 0,
            decoder: loona_hpack::Decoder::new(),
            known: Known::default(),
            next_id: 1,
            streams: VecDeque::new(),
            first_id: 1,
            in_flight: 0,
            window: i64::from(frame::DEFAULT_WINDOW),
            peer: Settings::default(),
            received: 0,
            finished: Vec::new(),
            spare: Vec::new(),
        };
        while !connection.peer.known {
            connection.flush()?;
            connection.receive()?;
        }
        connection.flush()?;
        connection.socket.set_nonblocking(true).map_err(failed)?;
        Ok(connection)
    }

    /// Requests without an answer yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a request with a body of so many bytes can be made now.
    pub(crate) fn has_room(&self, body: usize, at_once: usize) -> bool {
        self.in_flight < at_once.min(self.peer.max_streams)
            && self.window >= i64::try_from(body).unwrap_or(i64::MAX)
            && self.out.len() - self.written < BACKLOG
    }

    /// Puts a request with this cookie (none: empty) and body (none: empty) among those to be written.
    pub(crate) fn send(&mut self, tag: u64, from: u64, cookie: &[u8], body: &[u8]) -> Result<(), Broken> {
        if body.len() as u64 > u64::from(self.peer.stream_window.min(self.peer.max_frame)) {
            let why = format!(
                "the peer takes no body of {} bytes at once: frames of {}, windows of {}",
                body.len(),
                self.peer.max_frame,
                self.peer.stream_window
            );
            return Err(self.protocol(why));
        }
        let block = self.head.block(cookie, self.peer.header_table);
        frame::headers(&mut self.out, self.next_id, block, body.is_empty());
        if !body.is_empty() {
            frame::data(&mut self.out, self.next_id, body);
        }
        self.window -= i64::try_from(body.len()).unwrap_or(i64::MAX);
        let mut stream = self.spare.pop().unwrap_or_default();
        (stream.tag, stream.from) = (tag, from);
        self.streams.push_back(Some(stream));
        self.next_id += 2;
        self.in_flight += 1;
        Ok(())
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        while self.written < self.out.len() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(0) => return Err(self.closed("it takes nothing more")),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.closed(&error.to_string())),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Whether the socket took not all that waits.
    pub(crate) fn is_full(&self) -> bool {
        self.written < self.out.len()
    }

    /// Reads once what has come. The answers among it are had by [`Connection::finished`].
    pub(crate) fn receive(&mut self) -> Result<(), Broken> {
        match self.socket.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(self.closed("by the peer")),
            Ok(count) => self.filled += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                // Before the peer's settings are known the socket waits, for so long and no longer.
                return if self.peer.known { Ok(()) } else { Err(self.closed("no word for 5 s")) };
            }
            Err(error) => return Err(self.closed(&error.to_string())),
        }
        // Taken out, so that frames can be read from it while the connection changes.
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        let mut result = Ok(());
        while let Some((frame, length)) = Frame::of(&input[at..self.filled]) {
            result = self.take(&frame);
            if result.is_err() {
                break;
            }
            at += length;
        }
        input.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.input = input;
        result
    }

    /// Takes the answers that have come.
    pub(crate) fn finished(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.finished)
    }

    /// Gives back what [`Connection::finished`] gave, to be used again.
    pub(crate) fn recycle(&mut self, mut finished: Vec<Answered>) {
        for mut answered in finished.drain(..) {
            let mut body = std::mem::take(&mut answered.answer.body);
            body.clear();
            answered.answer = Answer { body, ..Answer::default() };
            self.spare.push(answered);
        }
        self.finished = finished;
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<(), Broken> {
        match frame.kind {
            Kind::Headers => self.headers(frame),
            Kind::Data => {
                let data =
                    frame.unpadded().ok_or_else(|| self.protocol("a frame with wrong padding".into()))?;
                self.note_received(frame.payload.len());
                if let Some(stream) = self.stream(frame.stream) {
                    stream.answer.body.extend_from_slice(data);
                }
                self.end_if(frame.ends_stream(), frame.stream);
                Ok(())
            }
            Kind::Settings if !frame.is_ack() => {
                self.peer.take(frame.payload);
                frame::settings_ack(&mut self.out);
                Ok(())
            }
            Kind::Ping if !frame.is_ack() => {
                frame::ping_ack(&mut self.out, frame.payload);
                Ok(())
            }
            Kind::WindowUpdate => {
                // Streams' own windows are never used up: a request has one body, which fits.
                if frame.stream == 0 {
                    self.window += i64::from(frame.number());
                }
                Ok(())
            }
            Kind::Reset => {
                if let Some(stream) = self.stream(frame.stream) {
                    stream.answer.reset = true;
                }
                self.end_if(true, frame.stream);
                Ok(())
            }
            Kind::GoAway => Err(self.closed("the peer says GOAWAY")),
            Kind::Other(0x9) => Err(self.protocol("headers in several frames are not understood".into())),
            Kind::Settings | Kind::Ping | Kind::Other(_) => Ok(()),
        }
    }

    fn headers(&mut self, frame: &Frame<'_>) -> Result<(), Broken> {
        let wrong = |why: &str| Broken::Protocol { address: self.address, why: why.to_owned() };
        if !frame.ends_headers() {
            return Err(wrong("headers in several frames are not understood"));
        }
        let block = frame.unpadded().ok_or_else(|| wrong("a frame with wrong padding"))?;
        let told = if let Some(told) = self.known.get(block) {
            told
        } else {
            let mut told = Told::default();
            let note = |name: Cow<'_, [u8]>, value: Cow<'_, [u8]>| match &*name {
                b":status" => told.status = Some(number(&value).unwrap_or(0)),
                b"grpc-status" => told.grpc_status = Some(number(&value).unwrap_or(-1)),
                _ => {}
            };
            self.decoder.decode_with_cb(block, note).map_err(|error| wrong(&error.to_string()))?;
            self.known.note(block, told);
            told
        };
        if let Some(stream) = self.stream(frame.stream) {
            stream.answer.status = told.status.unwrap_or(stream.answer.status);
            stream.answer.grpc_status = told.grpc_status.or(stream.answer.grpc_status);
        }
        self.end_if(frame.ends_stream(), frame.stream);
        Ok(())
    }

    fn stream(&mut self, id: u32) -> Option<&mut Answered> {
        let at = id.checked_sub(self.first_id)? / 2;
        self.streams.get_mut(at as usize)?.as_mut()
    }

    fn end_if(&mut self, ended: bool, id: u32) {
        if !ended {
            return;
        }
        let Some(at) = id.checked_sub(self.first_id) else { return };
        if let Some(answered) = self.streams.get_mut(at as usize / 2).and_then(Option::take) {
            self.finished.push(answered);
            self.in_flight -= 1;
        }
        while matches!(self.streams.front(), Some(None)) {
            self.streams.pop_front();
            self.first_id += 2;
        }
    }

    fn note_received(&mut self, count: usize) {
        self.received += u32::try_from(count).unwrap_or(u32::MAX);
        if self.received > WINDOW / 2 {
            frame::window_update(&mut self.out, self.received);
            self.received = 0;
        }
    }

    fn closed(&self, why: &str) -> Broken {
        Broken::Closed { address: self.address, why: why.to_owned(), in_flight: self.in_flight }
    }

    fn protocol(&self, why: String) -> Broken {
        Broken::Protocol { address: self.address, why }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
