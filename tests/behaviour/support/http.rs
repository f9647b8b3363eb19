//! HTTP/1.1 by hand, so that the test provider can also break it.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rocket::tokio::io::{AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::TcpStream;
use rocket::tokio::sync::Semaphore;
use serde_json::{Map, Value};
use url::form_urlencoded;

/// A request the provider received.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// `GET`, `POST`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    /// The body of a form post, decoded, in order.
    pub form: Vec<(String, String)>,
    /// The body as it came.
    pub body: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl RecordedRequest {
    /// The header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, &name.to_ascii_lowercase())
    }

    /// The form field of this name.
    pub fn form_value(&self, name: &str) -> Option<&str> {
        find(&self.form, name)
    }

    /// The query parameter of this name.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The bearer token of the `Authorization` header.
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// Client id and secret of HTTP Basic, form-decoded (RFC 6749 §2.3.1).
    pub fn basic(&self) -> Option<(String, String)> {
        let encoded = self.header("authorization")?.strip_prefix("Basic ")?;
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((form_decoded(id), form_decoded(secret)))
    }
}

fn form_decoded(text: &str) -> String {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    pairs.next().map_or_else(String::new, |(text, _)| text.into_owned())
}

/// The first value under this name.
pub fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// Decoded pairs of a query or form.
pub fn pairs(encoded: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded.as_bytes()).into_owned().collect()
}

/// What an endpoint answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// All headers but `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Reply {
    /// `200` with JSON.
    pub fn json(body: Value) -> Self {
        Self::text("application/json", body.to_string())
    }

    /// `200` with this body.
    pub fn text(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self {
            status: 200,
            headers,
            body: body.into(),
        }
    }

    /// This status, and nothing else.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// `303` to this address.
    pub fn redirect(location: &str) -> Self {
        Self::status(303).with_header("Location", location)
    }

    /// An OAuth error (RFC 6749 §5.2).
    pub fn error(status: u16, error: &str, description: &str) -> Self {
        let body = serde_json::json!({"error": error, "error_description": description});
        Self {
            status,
            ..Self::json(body)
        }
    }

    /// The same with another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with this header, in place of any of that name.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.set_header(name, value);
        self
    }

    /// Sets a header, in place of any of that name.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Changes the JSON object in the body.
    pub fn edit(&mut self, change: impl FnOnce(&mut Map<String, Value>)) {
        let mut body = serde_json::from_slice(&self.body).expect("a JSON object in the body");
        change(&mut body);
        self.body = Value::Object(body).to_string().into_bytes();
    }

    /// Sets a member of the JSON object in the body.
    pub fn set(&mut self, member: &str, value: impl Into<Value>) {
        self.edit(|body| drop(body.insert(member.to_owned(), value.into())));
    }

    /// Removes a member of the JSON object in the body. Panics if there is none.
    pub fn remove(&mut self, member: &str) {
        self.edit(|body| {
            let removed = body.remove(member);
            assert!(removed.is_some(), "the reply has no member {member}");
        });
    }
}

/// How a path answers in place of its honest way.
#[derive(Clone, Debug)]
pub enum Misbehaviour {
    /// This reply; the endpoint does not act.
    Reply(Reply),
    /// Reads the request and closes the connection.
    Drop,
    /// Reads the request and resets the connection.
    Reset,
    /// Reads the request and never answers.
    Hang,
    /// `302` to this address.
    RedirectTo(String),
    /// The honest reply, its length announced, but only half of its body.
    Truncate,
    /// The honest reply after this many spaces, its length announced.
    Huge(usize),
    /// A body without announced length that never ends.
    Endless,
    /// The honest reply, a byte of it every 20 ms.
    Drip,
    /// These bytes, and nothing of HTTP around them.
    Raw(Vec<u8>),
    /// Waits until [`Held`](super::Held) is released, then answers honestly.
    #[doc(hidden)]
    Hold(Arc<Semaphore>),
}

impl From<Reply> for Misbehaviour {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Reads one request.
pub async fn read_request(stream: &mut TcpStream) -> io::Result<RecordedRequest> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > 256 * 1024 || stream.read_buf(&mut bytes).await? == 0 {
            return Err(invalid("no end of the request's head"));
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target)) = (request_line.next(), request_line.next()) else {
        return Err(invalid("no request line"));
    };
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = match find(&headers, "content-length") {
        Some(length) => length.parse().map_err(|_| invalid("an odd content-length"))?,
        None if find(&headers, "transfer-encoding").is_some() => {
            return Err(invalid("a chunked request"));
        }
        None => 0,
    };
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(invalid("the request's body ends early"));
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = String::from_utf8_lossy(&body).into_owned();
    let is_form =
        find(&headers, "content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    Ok(RecordedRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: pairs(query),
        form: if is_form { pairs(&body) } else { Vec::new() },
        body,
        headers,
    })
}

/// Writes a reply and closes; `sent` of its body's bytes really leave.
pub async fn write_reply(stream: &mut TcpStream, reply: &Reply, sent: usize) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = reply.body.len();
    head.push_str(&format!("Content-Length: {length}\r\nConnection: close\r\n\r\n"));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&reply.body[..sent]).await?;
    stream.shutdown().await
}

/// Writes a reply that takes its time.
pub async fn write_slowly(stream: &mut TcpStream, reply: &Reply) -> io::Result<()> {
    let length = reply.body.len();
    let head = format!("HTTP/1.1 200 -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    for byte in &reply.body {
        stream.write_all(&[*byte]).await?;
        rocket::tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stream.shutdown().await
}

/// Writes a body that ends when the reader has had enough.
pub async fn write_endlessly(stream: &mut TcpStream) -> io::Result<()> {
    let head = "HTTP/1.1 200 -\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(&[b' '; 4096]).await?;
    }
}
