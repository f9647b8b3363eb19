//! A user agent for the pages of npm `oidc-provider` and of Keycloak: follows redirects, fills in the forms, and
//! stops where the provider sends it back to the app.

use std::collections::BTreeMap;

use reqwest::{Client, Response, redirect::Policy};
use url::Url;

pub struct Walker {
    http: Client,
    cookies: BTreeMap<String, String>,
}

/// What a person does on the sign-in page.
pub enum Person {
    SignsIn(&'static str),
    Cancels,
}

impl Walker {
    pub fn new() -> Walker {
        Walker {
            http: Client::builder().redirect(Policy::none()).build().unwrap(),
            cookies: BTreeMap::new(),
        }
    }

    /// From the authorization request to the address of the callback.
    pub async fn walk(&mut self, authorization_request: &str, person: Person) -> Url {
        let mut url = Url::parse(authorization_request).unwrap();
        let provider = url.origin();
        let mut form: Option<String> = None;
        for _ in 0..20 {
            let response = self.send(&url, form.take()).await;
            if let Some(location) = response.headers().get("location") {
                url = url.join(location.to_str().unwrap()).unwrap();
                if url.origin() != provider {
                    return url;
                }
                continue;
            }
            let (status, page) = (response.status(), response.text().await.unwrap());
            if let (Person::SignsIn(user), Some(action)) = (&person, keycloak_form(&page)) {
                url = url.join(&action).unwrap();
                form = Some(format!("username={user}&password={user}-password"));
                continue;
            }
            let (action, fields) = match &person {
                Person::Cancels => ("/abort", String::new()),
                Person::SignsIn(user) if page.contains("/login\"") => {
                    ("/login", format!("login={user}&password={user}-password"))
                }
                Person::SignsIn(_) => ("/confirm", "consent=accept".to_owned()),
            };
            let end = page
                .find(&format!("{action}\""))
                .unwrap_or_else(|| panic!("no form for {action} at {status}: {page}"));
            let start = page[..end].rfind('"').unwrap() + 1;
            url = url.join(&format!("{}{action}", &page[start..end])).unwrap();
            form = Some(fields);
        }
        panic!("the provider sends us in circles, last to {url}");
    }

    /// Signs out at the provider: from a logout request to where the provider sends the browser afterwards,
    /// or `None` when it keeps it.
    pub async fn sign_out(&mut self, logout_request: &str) -> Option<Url> {
        let mut url = Url::parse(logout_request).unwrap();
        let provider = url.origin();
        let mut form: Option<String> = None;
        for _ in 0..10 {
            let response = self.send(&url, form.take()).await;
            if let Some(location) = response.headers().get("location") {
                url = url.join(location.to_str().unwrap()).unwrap();
                if url.origin() != provider {
                    return Some(url);
                }
                continue;
            }
            let page = response.text().await.unwrap();
            let (_, rest) = page.split_once("name=\"xsrf\" value=\"")?;
            let xsrf = rest.split('"').next().unwrap();
            form = Some(format!("xsrf={xsrf}&logout=yes"));
            url = url.join("/session/end/confirm").unwrap();
        }
        panic!("the provider sends us in circles, last to {url}");
    }

    /// The page that an authorization request leads to.
    pub async fn page(&mut self, authorization_request: &str) -> String {
        let mut url = Url::parse(authorization_request).unwrap();
        for _ in 0..10 {
            let response = self.send(&url, None).await;
            match response.headers().get("location") {
                Some(location) => url = url.join(location.to_str().unwrap()).unwrap(),
                None => return response.text().await.unwrap(),
            }
        }
        panic!("the provider sends us in circles, last to {url}");
    }

    async fn send(&mut self, url: &Url, form: Option<String>) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let request = match form {
            Some(form) => self
                .http
                .post(url.clone())
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(form),
            None => self.http.get(url.clone()),
        };
        let response = request.header("Cookie", cookies.join("; ")).send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        response
    }
}

/// Where Keycloak's form with user name and password is sent, if this page has it.
fn keycloak_form(page: &str) -> Option<String> {
    let (_, form) = page.split_once("id=\"kc-form-login\"")?;
    let (_, action) = form.split_once("action=\"")?;
    let (action, _) = action.split_once('"')?;
    Some(action.replace("&amp;", "&"))
}
