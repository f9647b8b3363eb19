//! A user agent for the pages of npm `oidc-provider` and of Keycloak: follows redirects, fills in the forms, and
//! stops where the provider sends it back to the app.

use std::collections::BTreeMap;

use reqwest::{Client, Response, redirect::Policy};
use url::Url;

use crate::second_factor;

/// The shared secret of each user's second factor at Keycloak.
pub const SECOND_FACTOR: &str = "second-factor-of-interop";

pub struct Walker {
    http: Client,
    cookies: BTreeMap<String, String>,
    /// The forms of Keycloak that were filled in.
    pub forms: Vec<Form>,
}

/// What a form of Keycloak asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Password,
    SecondFactor,
}

/// What a person does on the sign-in page.
pub enum Person {
    SignsIn(&'static str),
    Cancels,
}

impl Walker {
    pub fn new() -> Walker {
        Walker {
            http: crate::patience::client_builder()
                .redirect(Policy::none())
                .build()
                .unwrap(),
            cookies: BTreeMap::new(),
            forms: vec![],
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
            if let (Person::SignsIn(user), Some((asked, action))) = (&person, keycloak_form(&page)) {
                url = url.join(&action).unwrap();
                self.forms.push(asked);
                form = Some(match asked {
                    Form::Password => format!("username={user}&password={user}-password"),
                    Form::SecondFactor => format!("otp={}", second_factor::code(SECOND_FACTOR)),
                });
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

/// What Keycloak's form asks for and where it is sent, if this page has it.
fn keycloak_form(page: &str) -> Option<(Form, String)> {
    let forms = [
        ("kc-form-login", Form::Password),
        ("kc-otp-login-form", Form::SecondFactor),
    ];
    forms.into_iter().find_map(|(id, form)| {
        let (_, rest) = page.split_once(&format!("id=\"{id}\""))?;
        let (_, action) = rest.split_once("action=\"")?;
        let (action, _) = action.split_once('"')?;
        Some((form, action.replace("&amp;", "&")))
    })
}
