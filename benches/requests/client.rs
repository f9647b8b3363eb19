//! A client that is always there: it never sleeps, so that the server is never idle and never has to wake it.

use std::{
    io::{ErrorKind, Read, Write},
    iter::Cycle,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
    vec::IntoIter,
};

/// How many requests are under way at once.
const CONNECTIONS: usize = 16;
/// No answer is longer, headers and all.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Sends these requests again and again, one after the other.
pub struct BusyClient {
    connections: Vec<Connection>,
    requests: Cycle<IntoIter<Arc<str>>>,
    expected: String,
}

impl BusyClient {
    /// A client that expects this status in every answer.
    pub fn new(server: SocketAddr, requests: Vec<Arc<str>>, status: u16) -> BusyClient {
        BusyClient {
            connections: (0..CONNECTIONS).map(|_| Connection::open(server)).collect(),
            requests: requests.into_iter().cycle(),
            expected: format!("HTTP/1.1 {status} "),
        }
    }

    /// Keeps the server busy for so long, and until it has answered everything; answers how often it did.
    pub fn run(&mut self, time: Duration) -> u64 {
        for connection in &mut self.connections {
            connection.ask(&self.requests.next().unwrap());
        }
        let (begin, mut answers, mut under_way) = (Instant::now(), 0, self.connections.len());
        while under_way > 0 {
            let goes_on = begin.elapsed() < time;
            for connection in &mut self.connections {
                let Some(answer) = connection.answer() else {
                    continue;
                };
                assert!(answer.starts_with(self.expected.as_bytes()));
                answers += 1;
                connection.filled = 0;
                if goes_on {
                    connection.ask(&self.requests.next().unwrap());
                } else {
                    under_way -= 1;
                }
            }
        }
        answers
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    filled: usize,
}

impl Connection {
    fn open(server: SocketAddr) -> Connection {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        Connection {
            stream,
            buffer: vec![0; LONGEST_ANSWER].into(),
            filled: 0,
        }
    }

    /// A request fits into the socket's buffer, which is empty.
    fn ask(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).unwrap();
    }

    /// The answer, if all of it is there.
    fn answer(&mut self) -> Option<&[u8]> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        }
        let answer = &self.buffer[..self.filled];
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        (answer.len() == end + length).then_some(answer)
    }
}
