//! The little of Redis' protocol that tests need: one command on a connection of its own, and its reply.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    /// The elements; empty for anything that is no list.
    pub(crate) fn list(&self) -> &[Reply] {
        if let Self::List(list) = self { list } else { &[] }
    }

    /// The bytes of a text; none of anything else.
    pub(crate) fn bytes(&self) -> &[u8] {
        if let Self::Text(bytes) = self { bytes } else { &[] }
    }

    /// The number, also where it is written as text.
    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(int) => *int,
            other => other.to_string().parse().unwrap_or_else(|_| panic!("not a number: {other:?}")),
        }
    }
}

/// As `redis-cli` shows it without a terminal: elements on lines of their own.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => Ok(()),
            Self::Int(int) => write!(f, "{int}"),
            Self::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
            Self::Error(error) => f.write_str(error),
            Self::List(list) => {
                let lines: Vec<_> = list.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

/// Sends a command and reads its reply; connecting, sending and reading may take `within` each.
pub(crate) fn ask<A: AsRef<[u8]>>(port: u16, command: &[A], within: Duration) -> io::Result<Reply> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut socket = TcpStream::connect_timeout(&address, within)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(within))?;
    socket.set_write_timeout(Some(within))?;
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        let part = part.as_ref();
        write!(bytes, "${}\r\n", part.len())?;
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    socket.write_all(&bytes)?;
    read(&mut BufReader::new(socket))
}

fn read(from: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {line:?}"));
    let kind = line.chars().next().ok_or_else(|| odd("an empty line"))?;
    let rest = line[1..].trim_end();
    let number = || rest.parse::<i64>().map_err(|_| odd("not a number"));
    Ok(match kind {
        '+' => Reply::Text(rest.as_bytes().to_vec()),
        '-' => Reply::Error(rest.to_owned()),
        ':' => Reply::Int(number()?),
        '$' => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => {
                let mut text = vec![0; length + 2];
                from.read_exact(&mut text)?;
                text.truncate(length);
                Reply::Text(text)
            }
        },
        '*' => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => Reply::List((0..length).map(|_| read(from)).collect::<io::Result<_>>()?),
        },
        _ => return Err(odd("not a reply")),
    })
}
