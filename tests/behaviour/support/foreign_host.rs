//! A host that nobody has business with, where a provider's redirect leads.

use super::{Reply, TestProvider};

/// Another listener under another name, which looks like the provider and keeps all that it is asked.
pub struct ForeignHost(TestProvider);

impl ForeignHost {
    /// Each status that leads a client on. With 307 and 308 a `POST` would be repeated, its body too.
    pub const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

    /// Says of itself what this provider says.
    pub async fn like(provider: &TestProvider) -> Self {
        let host = TestProvider::start().await;
        provider.metadata(|metadata| {
            let said = metadata.clone();
            host.metadata(|own| *own = said);
        });
        Self(host)
    }

    /// A redirect to this path there.
    pub fn redirect(&self, status: u16, path: &str) -> Reply {
        let location = format!("http://localhost:{}{path}", self.0.port());
        Reply::redirect(&location).with_status(status)
    }

    /// Asserts that no request came.
    #[track_caller]
    pub fn was_asked_nothing(&self) {
        let requests = self.0.requests();
        assert!(requests.is_empty(), "followed to a foreign host: {requests:#?}");
    }
}
