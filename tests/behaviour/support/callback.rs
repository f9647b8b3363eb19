//! The authorization response on its way back through the browser, which a test may tamper with.

use url::{Url, form_urlencoded};

use super::http::find;

/// The response to an authorization request: parameters for the app's callback.
#[derive(Clone, Debug)]
#[must_use]
pub struct Callback {
    redirect_uri: Url,
    params: Vec<(String, String)>,
}

impl Callback {
    /// A response to this redirect URI.
    pub fn new(redirect_uri: Url, params: &[(&str, &str)]) -> Self {
        let params = params.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Self { redirect_uri, params }
    }

    /// What the browser requests of the app: `/oidc/authorize?code=…&state=…&iss=…`.
    pub fn path_and_query(&self) -> String {
        let url = Url::parse(&self.url()).unwrap();
        format!("{}?{}", url.path(), url.query().unwrap_or(""))
    }

    /// The same as an absolute URL.
    pub fn url(&self) -> String {
        let mut url = self.redirect_uri.clone();
        url.query_pairs_mut().extend_pairs(&self.params);
        url.into()
    }

    /// The redirect URI the app asked for.
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri.as_str()
    }

    /// The parameter of this name.
    pub fn param(&self, name: &str) -> Option<&str> {
        find(&self.params, name)
    }

    /// The same with another value, in place of any of that name.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.params.retain(|(n, _)| n != name);
        self.add(name, value)
    }

    /// The same with one more parameter, even of a name it has.
    pub fn add(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without this parameter. Panics if there is none.
    pub fn without(mut self, name: &str) -> Self {
        assert!(self.param(name).is_some(), "the callback has no parameter {name}");
        self.params.retain(|(n, _)| n != name);
        self
    }

    /// An error in place of the code.
    pub fn error(self, error: &str) -> Self {
        self.without("code").set("error", error)
    }

    /// Where a form is posted to.
    pub fn path(&self) -> String {
        self.redirect_uri.path().to_owned()
    }

    /// The parameters as a form body, for a callback by POST.
    pub fn form(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.params)
            .finish()
    }
}
