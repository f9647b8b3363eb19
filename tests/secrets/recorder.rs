//! Everything that this process logs, and what must not be in it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::{self, Write},
    sync::{Mutex, OnceLock},
};

use crate::common::locked;

/// So many bytes of a secret in a line are a leak. Names are shorter: the part of `state` that names a
/// cookie has eight.
const WINDOW: usize = 16;

/// One line, or one span with its fields.
#[derive(Clone, Debug)]
struct Line {
    level: log::Level,
    target: String,
    text: String,
}

/// Records what is said by `tracing` and by `log`.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Line>>);

static RECORDER: OnceLock<Recorder> = OnceLock::new();

impl Recorder {
    /// Hears everything from now on, at every level: it comes before Rocket's own logger, which then sets
    /// no level.
    pub fn install() -> &'static Recorder {
        let recorder = RECORDER.get_or_init(Recorder::default);
        tracing::subscriber::set_global_default(recorder).expect("no other subscriber");
        log::set_logger(recorder).expect("no other logger");
        log::set_max_level(log::LevelFilter::Trace);
        recorder
    }

    /// Whether a target that begins so said anything.
    pub fn heard(&self, target: &str) -> bool {
        locked(&self.0).iter().any(|line| line.target.starts_with(target))
    }

    /// Whether a line has this in it.
    pub fn has(&self, text: &str) -> bool {
        locked(&self.0).iter().any(|line| line.text.contains(text))
    }

    /// Forgets everything.
    pub fn clear(&self) {
        locked(&self.0).clear();
    }

    /// The lines with a secret, but for what Rocket says below its level `normal`.
    pub fn lines_with(&self, secrets: &Secrets) -> Vec<String> {
        let found = self.found(secrets).into_iter();
        let found = found.filter(|(line, _)| !line.is_rocket_debug());
        let found = found.map(|(line, kind)| format!("{kind} in {} {}: {}", line.level, line.target, line.text));
        found.collect()
    }

    /// Who of Rocket says a secret below its level `normal`.
    pub fn rocket_debug_targets_with(&self, secrets: &Secrets) -> Vec<String> {
        let found = self.found(secrets).into_iter();
        let found = found.filter(|(line, _)| line.is_rocket_debug());
        let targets: BTreeSet<_> = found.map(|(line, _)| line.target).collect();
        targets.into_iter().collect()
    }

    fn found(&self, secrets: &Secrets) -> Vec<(Line, String)> {
        let lines = locked(&self.0);
        let found = lines.iter().filter_map(|line| {
            let kind = secrets.in_text(&line.text)?;
            Some((line.clone(), kind.to_owned()))
        });
        found.collect()
    }

    fn keep(&self, level: log::Level, target: &str, text: String) {
        locked(&self.0).push(Line {
            level,
            target: target.to_owned(),
            text,
        });
    }
}

impl Line {
    fn is_rocket_debug(&self) -> bool {
        let is_rocket = self.target == "rocket" || self.target.starts_with("rocket::");
        is_rocket && self.level > log::Level::Info
    }
}

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let target = record.target().trim_end_matches('_');
        self.keep(record.level(), target, record.args().to_string());
    }

    fn flush(&self) {}
}

/// The fields of an event or a span.
#[derive(Default)]
struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl tracing::Subscriber for &'static Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut fields = Fields(span.metadata().name().to_owned());
        span.record(&mut fields);
        self.keep(level(span.metadata()), span.metadata().target(), fields.0);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.keep(log::Level::Trace, "a span", fields.0);
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.keep(level(event.metadata()), event.metadata().target(), fields.0);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn level(metadata: &tracing::Metadata<'_>) -> log::Level {
    match *metadata.level() {
        tracing::Level::ERROR => log::Level::Error,
        tracing::Level::WARN => log::Level::Warn,
        tracing::Level::INFO => log::Level::Info,
        tracing::Level::DEBUG => log::Level::Debug,
        tracing::Level::TRACE => log::Level::Trace,
    }
}

/// What must be in no line, with its kind.
#[derive(Default)]
pub struct Secrets {
    kinds: HashSet<&'static str>,
    /// Every [`WINDOW`] bytes of each.
    windows: HashMap<Vec<u8>, &'static str>,
}

impl Secrets {
    /// A secret, in all the ways in which it could be written.
    pub fn add(&mut self, kind: &'static str, secret: &str) {
        self.kinds.insert(kind);
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let escaped = secret.escape_debug().to_string();
        let bytes = format!("{:?}", secret.as_bytes());
        // The header of a JWT is the same for all.
        let skipped = usize::from(secret.starts_with("eyJ"));
        let texts = [secret, &encoded, &escaped].map(|text| text.split('.').skip(skipped));
        for text in texts.into_iter().flatten().chain([&*bytes]) {
            assert!(text.len() >= WINDOW, "the {kind} is too short");
            let windows = text.as_bytes().windows(WINDOW);
            self.windows.extend(windows.map(|window| (window.to_vec(), kind)));
        }
    }

    /// Whether there is a secret of this kind.
    pub fn has(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    /// The kind of secret that a text holds.
    fn in_text(&self, text: &str) -> Option<&'static str> {
        let mut windows = text.as_bytes().windows(WINDOW);
        windows.find_map(|window| self.windows.get(window).copied())
    }
}
