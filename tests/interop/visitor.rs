//! A person with a browser before real processes of an app: cookies by name, for every port of this host.

use std::{collections::BTreeMap, sync::Mutex};

use reqwest::{Client, Method, redirect::Policy};
use url::Url;

use crate::walker::{Person, Walker};

pub struct Visitor {
    http: Client,
    cookies: Mutex<BTreeMap<String, String>>,
    pub walker: Walker,
}

/// What the app answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub retry_after: Option<String>,
    /// How long its headers are, with the status line.
    pub header_bytes: usize,
    pub body: String,
}

impl Visitor {
    pub fn new() -> Visitor {
        Visitor {
            http: crate::patience::client_builder()
                .redirect(Policy::none())
                .build()
                .unwrap(),
            cookies: Mutex::default(),
            walker: Walker::new(),
        }
    }

    /// Another browser with the same cookies, and its own from now on.
    pub fn copy(&self) -> Visitor {
        let copy = Visitor::new();
        *copy.cookies.lock().unwrap() = self.cookies.lock().unwrap().clone();
        copy
    }

    /// Loads a page. Follows nothing.
    pub async fn visit(&self, url: &str) -> Answer {
        self.send(Method::GET, url).await
    }

    /// Presses the button of a form without fields.
    pub async fn submit(&self, url: &str) -> Answer {
        self.send(Method::POST, url).await
    }

    /// All cookies, as a request has them.
    pub fn cookie_header(&self) -> String {
        let jar = self.cookies.lock().unwrap();
        let cookies: Vec<_> = jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        cookies.join("; ")
    }

    async fn send(&self, method: Method, url: &str) -> Answer {
        let response = self
            .http
            .request(method, url)
            .header("Accept", "text/html")
            .header("Cookie", self.cookie_header())
            .send()
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (location, retry_after) = (header("location"), header("retry-after"));
        let headers = response.headers().iter();
        let lines = headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
        let header_bytes = "HTTP/1.1 303 See Other\r\n\r\n".len() + lines.sum::<usize>();
        for cookie in response.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').unwrap();
            let mut jar = self.cookies.lock().unwrap();
            if attributes.contains("Max-Age=0") {
                jar.remove(name)
            } else {
                jar.insert(name.to_owned(), value.to_owned())
            };
        }
        Answer {
            status: response.status().as_u16(),
            location,
            retry_after,
            header_bytes,
            body: response.text().await.unwrap(),
        }
    }

    /// Loads a page of the app at `origin`, signs in at the provider, and arrives at the page.
    pub async fn sign_in(&mut self, origin: &str, path: &str, user: &'static str) -> Answer {
        let mut url = Url::parse(&format!("{origin}{path}")).unwrap();
        for _ in 0..10 {
            let answer = self.visit(url.as_str()).await;
            let Some(location) = &answer.location else {
                return answer;
            };
            let next = url.join(location).unwrap();
            url = if next.as_str().starts_with(origin) {
                next
            } else {
                self.walker.walk(next.as_str(), Person::SignsIn(user)).await
            };
        }
        panic!("redirects without end, last to {url}");
    }

    /// The values of the session's cookies.
    pub fn session(&self) -> String {
        let cookies = self.cookies.lock().unwrap();
        let of_session = cookies.iter().filter(|(name, _)| name.contains("oidc_session"));
        of_session.map(|(_, value)| value.as_str()).collect()
    }

    /// The names of its cookies.
    pub fn cookie_names(&self) -> Vec<String> {
        self.cookies.lock().unwrap().keys().cloned().collect()
    }
}
