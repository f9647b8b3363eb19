//! The cookies of many versions, sessions and apps, cut, doubled and mixed: what comes of them is one session that
//! was written, whole, or none.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    env,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rocket::{
    http::Cookie,
    local::asynchronous::Client,
    serde::json::{Value, json},
};

use crate::{
    common::{App, KEY},
    records::{Cookies, Numbers, node, record, record_of, session_cookies},
    support::{Browser, Reply, TestProvider},
};

const TOKEN: &str = "/token";
/// How many requests with mixed cookies there are.
const MIXES: usize = 12_000;
/// The seed of each run, unless the environment names another one.
const SEED: u64 = 20_270_115;
const SEED_VARIABLE: &str = "COOKIE_MIXING_SEED";
/// A session is due for a refresh after this time, where the provider does not say how long its tokens live.
const DUE_AFTER: Duration = Duration::from_secs(3600);
/// A tenth of the time in which a session may be idle.
const TOUCHED_AFTER: Duration = Duration::from_secs(36 * 60);

/// One session at one time: what the app saw, and the cookies that the browser had.
struct Version {
    app: usize,
    /// One sign-in.
    session: usize,
    record: Value,
    cookies: Cookies,
}

/// All that was written, and who reads it.
struct World {
    provider: TestProvider,
    apps: [App; 2],
    versions: Vec<Version>,
    /// The nodes on which the sessions were made, which know their newest versions.
    knowing: [Browser; 2],
}

/// A person whose claims have high entropy, so that no compression makes the session small.
fn person(name: &str, size: usize, numbers: &mut Numbers) -> Value {
    json!({
        "sub": name, "nickname": numbers.text(12), "groups": [numbers.text(8)],
        "large": numbers.text(size),
    })
}

impl World {
    async fn new(numbers: &mut Numbers) -> World {
        let provider = TestProvider::start().await;
        let count = AtomicU64::new(0);
        provider.on_id_token(move |token| token.set("version", count.fetch_add(1, Ordering::SeqCst)));
        provider.on_token_response(|reply| {
            reply.remove("expires_in");
        });
        let app = || {
            App::new(&provider)
                .with("secret_key", KEY)
                .with("oidc.session.max_cookies", 5)
                .with("oidc.session.refresh_user_info", true)
                .with("oidc.session.idle_timeout", "6h")
                .with("oidc.session.absolute_timeout", "48h")
        };
        let apps = [app(), app().with("oidc.client_id", "other")];
        let knowing = [node(&apps[0]).await, node(&apps[1]).await];
        let mut world = World {
            provider,
            apps,
            versions: vec![],
            knowing,
        };
        // About one, two and three cookies, each session through several of them.
        let (small, middle, large) = (40, 5_000, 9_500);
        let sessions = [
            (0, "alice", [small, middle, small, large]),
            (0, "bob", [large, middle, large, small]),
            (0, "alice", [middle, large, middle, middle]),
            (1, "alice", [middle, small, large, middle]),
            (1, "carol", [large, large, small, small]),
        ];
        let browsers = sessions.map(|(app, _, _)| world.knowing[app].another());
        for step in 0..4 {
            if step > 0 {
                world.until_due(step, &browsers).await;
            }
            for (session, (app, name, sizes)) in sessions.into_iter().enumerate() {
                let (browser, size) = (&browsers[session], sizes[step]);
                world.provider.user_claims(person(name, size, numbers));
                let asked = world.provider.count(TOKEN);
                if step == 0 {
                    let page = browser.sign_in(&world.provider, "/me").await;
                    assert_eq!(page.status, 200, "{page:#?}");
                } else {
                    record(browser).await.expect("signed in");
                }
                assert_eq!(world.provider.count(TOKEN), asked + 1, "no refresh");
                world.add_version(app, session, browser).await;
            }
            if step == 1 {
                world.advance(TOUCHED_AFTER);
                for (session, browser) in browsers.iter().enumerate() {
                    world.touch(session, browser).await;
                }
            }
        }
        world.provider.on_path(TOKEN, Reply::status(503));
        world
    }

    fn advance(&self, by: Duration) {
        for app in &self.apps {
            app.advance(by);
        }
    }

    /// Waits until all sessions are due, and sees that none was before.
    async fn until_due(&self, step: usize, browsers: &[Browser]) {
        let margin = Duration::from_secs(100);
        self.advance(match step {
            2 => DUE_AFTER - TOUCHED_AFTER - margin,
            _ => DUE_AFTER - margin,
        });
        let asked = self.provider.count(TOKEN);
        for browser in browsers {
            record(browser).await.expect("signed in");
        }
        assert_eq!(self.provider.count(TOKEN), asked, "refreshed early");
        self.advance(margin);
    }

    /// Uses a session that is written again because it was not for a while.
    async fn touch(&mut self, session: usize, browser: &Browser) {
        let mut versions = self.versions.iter().rev();
        let before = versions.find(|v| v.session == session);
        let before = before.expect("it was written before");
        let (app, record, cookies) = (before.app, before.record.clone(), before.cookies.clone());
        self.add_version(app, session, browser).await;
        let touched = self.versions.last().expect("it was just added");
        assert_eq!(record, touched.record);
        assert_ne!(cookies, touched.cookies, "no touch");
    }

    async fn add_version(&mut self, app: usize, session: usize, browser: &Browser) {
        let record = record(browser).await.expect("signed in");
        assert!(record["access_token"].is_string(), "no access token");
        let cookies = session_cookies(browser);
        self.versions.push(Version {
            app,
            session,
            record,
            cookies,
        });
    }
}

/// The nodes that read mixes: those that know the newest versions, and those that were started afterwards.
struct Readers<'w> {
    world: &'w World,
    fresh: [Browser; 2],
    outcomes: BTreeMap<&'static str, usize>,
    seen: HashSet<usize>,
}

impl Readers<'_> {
    /// What an app makes of these cookies. Panics if that is neither a session that was written nor none.
    async fn read(&mut self, app: usize, is_fresh: bool, mix: &Cookies, how: &str) -> Option<usize> {
        let reader = if is_fresh {
            &self.fresh[app]
        } else {
            &self.world.knowing[app]
        };
        let Some(seen) = request(reader.client(), mix).await else {
            *self.outcomes.entry("no session").or_default() += 1;
            return None;
        };
        let found = self
            .world
            .versions
            .iter()
            .position(|version| version.app == app && version.record == seen);
        let Some(found) = found else {
            let names: Vec<_> = mix.iter().map(|(name, value)| (name, value.len())).collect();
            panic!("nobody wrote the session of {how}: {names:?}\n{}", shortened(&seen));
        };
        // It belongs to one of those whose cookies are in the mix.
        let session = self.world.versions[found].session;
        let is_held = mix.iter().any(|(_, value)| {
            let mut versions = self.world.versions.iter();
            versions.any(|version| version.session == session && version.cookies.iter().any(|(_, v)| v == value))
        });
        assert!(is_held, "a session that nobody asked for: {how}");
        self.seen.insert(found);
        *self.outcomes.entry("one that was written").or_default() += 1;
        Some(found)
    }
}

/// A session without its long claims, for a message.
fn shortened(record: &Value) -> Value {
    let mut record = record.clone();
    if let Some(large) = record["claims"]["large"].as_str() {
        record["claims"]["large"] = json!(format!("{} characters", large.len()));
    }
    record
}

/// A cookie of a name that is there twice replaces the earlier one, as in a header that Rocket reads.
async fn request(client: &Client, cookies: &Cookies) -> Option<Value> {
    let mut request = client.get("/record");
    for (name, value) in cookies {
        request = request.cookie(Cookie::new(name.clone(), value.clone()));
    }
    let response = request.dispatch().await;
    let page = crate::support::Page {
        url: "/record".to_owned(),
        status: response.status().code,
        location: None,
        headers: vec![],
        body: response.into_string().await.unwrap_or_default(),
    };
    record_of(&page)
}

/// The number of the chunk that a cookie holds.
fn chunk(name: &str) -> usize {
    let number = name.rsplit('_').next().unwrap_or_default();
    match number.len() {
        1 => number.parse().unwrap_or(0),
        _ => 0,
    }
}

/// Damages a list of cookies in one way.
fn damage(mix: &mut Cookies, all: &Cookies, numbers: &mut Numbers) -> &'static str {
    let kind = numbers.below(10);
    if mix.is_empty() || kind == 0 {
        mix.push(numbers.one_of(all).clone());
        return "one more";
    }
    let i = numbers.below(mix.len());
    let j = numbers.below(mix.len());
    match kind {
        1 => {
            mix.remove(i);
            "one less"
        }
        2 => {
            let (name, value) = numbers.one_of(all).clone();
            mix.push((name, value));
            mix.swap(i, j);
            "another order"
        }
        3 => {
            let copy = mix[i].clone();
            mix.push(copy);
            "doubled"
        }
        4 => {
            let value = mix[i].1.clone();
            mix[i].1.push_str(&value);
            "a value twice"
        }
        5 => {
            let length = numbers.below(mix[i].1.len() + 1);
            mix[i].1.truncate(length);
            "truncated"
        }
        6 => {
            let start = numbers.below(mix[i].1.len() + 1).min(8);
            mix[i].1.drain(..start);
            "without its start"
        }
        7 => {
            let other = mix[j].1.clone();
            mix[j].1 = std::mem::replace(&mut mix[i].1, other);
            "values swapped"
        }
        8 => {
            mix[i].1 = numbers.one_of(all).1.clone();
            "another's value"
        }
        _ => {
            let at = numbers.below(mix[i].1.len().max(1));
            let letter = numbers.text(1);
            if at < mix[i].1.len() && mix[i].1.is_char_boundary(at) {
                mix[i].1.replace_range(at..at + 1, &letter);
            }
            "a byte flipped"
        }
    }
}

#[rocket::async_test]
async fn any_mix_of_cookies_is_a_session_that_was_written_or_none() {
    let seed = env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(SEED);
    println!("{SEED_VARIABLE}={seed}");
    let numbers = &mut Numbers::seeded(seed);
    let world = World::new(numbers).await;
    let counts: BTreeSet<usize> = world.versions.iter().map(|v| v.cookies.len()).collect();
    println!("versions of one session in {counts:?} cookies");
    for count in [1, 2, 3] {
        assert!(counts.contains(&count), "none in {count} cookies: {counts:?}");
    }

    let fresh = [node(&world.apps[0]).await, node(&world.apps[1]).await];
    let mut readers = Readers {
        world: &world,
        fresh,
        outcomes: BTreeMap::new(),
        seen: HashSet::new(),
    };

    // Each version whole, the older before the newer ones, by a node that knows none.
    for (i, version) in world.versions.iter().enumerate() {
        let found = readers
            .read(version.app, true, &version.cookies, "a whole version")
            .await;
        let found = found.unwrap_or_else(|| panic!("version {i} does not open"));
        assert_eq!(world.versions[found].record, version.record);
    }
    // Chunks that a longer version left behind harm nothing, where no newer version is known.
    for version in &world.versions {
        let stranger = node(&world.apps[version.app]).await;
        for longer in &world.versions {
            if longer.app != version.app || longer.cookies.len() <= version.cookies.len() {
                continue;
            }
            let left = &longer.cookies[version.cookies.len()..];
            let mix = [&version.cookies[..], left].concat();
            let seen = request(stranger.client(), &mix).await;
            assert!(seen.as_ref() == Some(&version.record), "left chunks harm");
        }
    }

    let all: Cookies = world.versions.iter().flat_map(|v| v.cookies.clone()).collect();
    let began = Instant::now();
    for n in 0..MIXES {
        let app = numbers.below(2);
        let of_app: Vec<&Version> = world.versions.iter().filter(|v| v.app == app).collect();
        let (mut mix, mut how) = match n % 4 {
            // Chunk by chunk, of two versions.
            0 => {
                let (one, other) = (*numbers.one_of(&of_app), *numbers.one_of(&of_app));
                let mut mix = vec![];
                for i in 0..one.cookies.len().max(other.cookies.len()) {
                    let from = [one, other][numbers.below(2)];
                    mix.extend(from.cookies.get(i).cloned());
                }
                (mix, "two versions")
            }
            // Chunk by chunk, of any.
            1 => {
                let mut mix = vec![];
                for i in 0..3 {
                    let chunks: Vec<_> = all.iter().filter(|(name, _)| chunk(name) == i).collect();
                    mix.push((*numbers.one_of(&chunks)).clone());
                }
                (mix, "any chunks")
            }
            // Any at all.
            2 => {
                let count = numbers.below(6);
                let mix = (0..count).map(|_| numbers.one_of(&all).clone());
                (mix.collect(), "any cookies")
            }
            // A whole one, to be damaged.
            _ => (numbers.one_of(&of_app).cookies.clone(), "a whole one"),
        };
        for _ in 0..numbers.below(4) {
            how = damage(&mut mix, &all, numbers);
        }
        readers.read(app, n % 5 != 0, &mix, how).await;
    }
    let (outcomes, took) = (&readers.outcomes, began.elapsed());
    println!(
        "{MIXES} mixes in {took:?}: {outcomes:?}, {} versions seen",
        readers.seen.len()
    );
    for outcome in ["no session", "one that was written"] {
        let count = outcomes.get(outcome).copied().unwrap_or(0);
        assert!(count >= MIXES / 50, "{count} times {outcome}");
    }
}
