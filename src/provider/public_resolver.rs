//! The DNS resolver for providers that are registered at run time: public addresses only, at every connect.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{addresses::is_global, public_urls::ProxyNames};
use crate::settings::InternalProviderHosts;

/// The maximum number of lookups at a time. Each holds a thread, of which the app has a limited number, for as long as
/// the name server of a stranger likes.
const MAX_LOOKUPS: usize = 64;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// A resolver that returns the public addresses of a name, and fails if there is none. Names of
/// `internal_provider_hosts` and of proxies may have any address.
///
/// Whatever a name resolved to before, each connection is made to an address that this resolver returned for it: a name
/// that changes to a private address (DNS rebinding) gains nothing.
#[derive(Clone)]
pub(super) struct PublicResolver {
    internal_hosts: InternalProviderHosts,
    proxies: ProxyNames,
    lookup: Arc<Lookup>,
    running: Arc<Semaphore>,
}

impl PublicResolver {
    pub(super) fn new(internal_hosts: InternalProviderHosts, proxies: ProxyNames) -> PublicResolver {
        PublicResolver::with_lookup(internal_hosts, proxies, |name| {
            Ok((name, 0).to_socket_addrs()?.collect())
        })
    }

    pub(super) fn with_lookup(
        internal_hosts: InternalProviderHosts,
        proxies: ProxyNames,
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> PublicResolver {
        PublicResolver {
            internal_hosts,
            proxies,
            lookup: Arc::new(lookup),
            running: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    async fn addresses(self, name: String) -> Result<Vec<SocketAddr>, NameError> {
        let any = self.internal_hosts.has_name(&name) || self.proxies.has(&name);
        let failed = |cause: String| NameError::Lookup {
            name: name.clone(),
            cause,
        };
        let permit = self.running.clone().acquire_owned().await;
        let permit = permit.map_err(|error| failed(error.to_string()))?;
        let (lookup, asked) = (self.lookup.clone(), name.clone());
        let found = tokio::task::spawn_blocking(move || {
            // Held until the lookup ends, also if no request waits for it any more.
            let _permit = permit;
            lookup(&asked)
        });
        let found = found.await.map_err(|error| failed(error.to_string()))?;
        let mut addresses = found.map_err(|error| failed(error.to_string()))?;
        addresses.retain(|address| any || is_global(address.ip()));
        if addresses.is_empty() {
            return Err(NameError::NotPublic { name });
        }
        Ok(addresses)
    }
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolved = self.clone().addresses(name.as_str().to_owned());
        Box::pin(async {
            let addresses: Addrs = Box::new(resolved.await?.into_iter());
            Ok(addresses)
        })
    }
}

impl fmt::Debug for PublicResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PublicResolver");
        shown.field("internal_hosts", &self.internal_hosts);
        shown.finish_non_exhaustive()
    }
}

/// Why a name is not connected to.
#[derive(Debug, PartialEq, Eq, Error)]
enum NameError {
    #[error("`{name}` is not resolved: {cause}")]
    Lookup { name: String, cause: String },
    #[error("`{name}` has no public address")]
    NotPublic { name: String },
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A resolver whose lookups find each of these in turn, and the last one again and again.
    fn resolver(answers: &[&[&str]]) -> PublicResolver {
        let parse = |address: &&str| SocketAddr::new(address.parse().unwrap(), 0);
        let answers: Vec<Vec<_>> = answers.iter().map(|found| found.iter().map(parse).collect()).collect();
        let count = AtomicUsize::new(0);
        let internal = ["sso.corp".to_owned()];
        let proxies = ProxyNames::of(|name| (name == "HTTPS_PROXY").then(|| "http://proxy.corp:3128".to_owned()));
        PublicResolver::with_lookup(InternalProviderHosts::new(&internal), proxies, move |_| {
            let turn = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            Ok(answers[turn].clone())
        })
    }

    async fn resolved(resolver: &PublicResolver, name: &str) -> Result<Vec<String>, String> {
        let addresses = resolver.resolve(name.parse().unwrap()).await;
        let addresses = addresses.map_err(|error| error.to_string())?;
        Ok(addresses.map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn private_addresses_among_public_ones_are_dropped() {
        let mixed = [
            "10.0.0.1",
            "8.8.8.8",
            "127.0.0.1",
            "::1",
            "2606:4700::1111",
            "169.254.169.254",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fe80::1",
            "64:ff9b::10.0.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ];
        let found = resolved(&resolver(&[&mixed]), "op.example").await;
        assert_eq!(found, Ok(vec!["8.8.8.8".to_owned(), "2606:4700::1111".to_owned()]));
    }

    #[tokio::test]
    async fn a_name_with_private_addresses_alone() {
        for addresses in [&["10.0.0.1", "::1"][..], &["::ffff:127.0.0.1"], &["0.0.0.0"], &[]] {
            let found = resolved(&resolver(&[addresses]), "op.example").await;
            assert_eq!(
                found,
                Err("`op.example` has no public address".to_owned()),
                "{addresses:?}"
            );
        }
    }

    /// DNS rebinding: the name is judged each time, by the answer that is used.
    #[tokio::test]
    async fn a_name_that_changes_to_a_private_address() {
        let rebinding = resolver(&[&["8.8.8.8"], &["127.0.0.1"]]);
        assert_eq!(resolved(&rebinding, "op.example").await, Ok(vec!["8.8.8.8".to_owned()]));
        let second = resolved(&rebinding, "op.example").await;
        assert_eq!(second, Err("`op.example` has no public address".to_owned()));
    }

    #[tokio::test]
    async fn internal_hosts_and_proxies_have_any_address() {
        let inside = resolver(&[&["10.0.0.1"]]);
        for name in ["sso.corp", "SSO.corp", "proxy.corp", "Proxy.Corp"] {
            assert_eq!(resolved(&inside, name).await, Ok(vec!["10.0.0.1".to_owned()]), "{name}");
        }
        for name in [
            "sso.corp.",
            "a.sso.corp",
            "sso.corp.evil.example",
            "proxy.corp.",
            "localhost",
        ] {
            let expected = format!("`{name}` has no public address");
            assert_eq!(resolved(&inside, name).await, Err(expected), "{name}");
        }
    }

    #[tokio::test]
    async fn a_lookup_that_fails() {
        let none = || (InternalProviderHosts::default(), ProxyNames::default());
        let (internal_hosts, proxies) = none();
        let failing = PublicResolver::with_lookup(internal_hosts, proxies, |_| Err(io::Error::other("no server")));
        let found = resolved(&failing, "op.example").await;
        assert_eq!(found, Err("`op.example` is not resolved: no server".to_owned()));
        // The lookup of the system, without a network: RFC 6761 §6.3 answers for this name.
        let (internal_hosts, proxies) = none();
        let found = resolved(&PublicResolver::new(internal_hosts, proxies), "localhost").await;
        assert_eq!(found, Err("`localhost` has no public address".to_owned()));
    }

    /// A lookup that no request waits for any more still counts.
    #[tokio::test]
    async fn lookups_are_bounded() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let (internal_hosts, proxies) = (InternalProviderHosts::default(), ProxyNames::default());
        let slow = PublicResolver::with_lookup(internal_hosts, proxies, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = wait.lock().unwrap().recv();
            Ok(vec![])
        });
        let tasks: Vec<_> = (0..MAX_LOOKUPS)
            .map(|_| tokio::spawn(slow.clone().addresses("slow.example".to_owned())))
            .collect();
        while begun.load(Ordering::SeqCst) < MAX_LOOKUPS {
            tokio::task::yield_now().await;
        }
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        assert_eq!(slow.running.available_permits(), 0);
        drop(release);
        let found = resolved(&slow, "op.example").await;
        assert_eq!(found, Err("`op.example` has no public address".to_owned()));
    }
}
