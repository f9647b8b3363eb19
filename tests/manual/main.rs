//! The manual's tables against the source: a message or a setting that is missing there fails here.

mod links;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::{Format, Toml},
};
use rocket_openidconnect::{SignInFailureKind, settings::Settings};

const AUDIT: &str = include_str!("../../docs/manual/audit.md");
const ATTACKS: &str = include_str!("../../docs/manual/attacks.md");
const CONFORMANCE: &str = include_str!("../../docs/conformance.md");
const ERRORS: &str = include_str!("../../docs/manual/errors.md");
const OBSERVING: &str = include_str!("../../docs/manual/observing.md");
const QUICKSTART: &str = include_str!("../../docs/manual/quickstart.md");
const SECURITY: &str = include_str!("../../SECURITY.md");
const SETTINGS: &str = include_str!("../../docs/manual/settings.md");

/// A string of the source, with what stands before it.
struct Literal {
    before: String,
    text: String,
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

/// All Rust files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|it| it == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// The files of the crate without those that are tests or the command-line tool.
fn sources() -> Vec<PathBuf> {
    let mut found = files(&source(""));
    // The command-line tool says what it finds where it finds it.
    let is_other = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs" || part == "cli";
    found.retain(|path| {
        let below = path.strip_prefix(source("")).unwrap();
        !below.iter().any(is_other)
    });
    found
}

/// The code of a file without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    // Its module of tests, not a function for them.
    let text = text.split("\n#[cfg(test)]\n").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim().starts_with("//"));
    let lines: Vec<_> = lines.collect();
    // No character of ours but the quote would look like the start of a string.
    lines.join("\n").replace("'\"'", "QUOTE")
}

/// The strings in a piece of code.
fn literals(code: &str) -> Vec<Literal> {
    let mut found = vec![];
    let mut rest = code;
    let mut before = String::new();
    while let Some(start) = rest.find('"') {
        before.push_str(&rest[..start]);
        let mut text = String::new();
        let mut chars = rest[start + 1..].char_indices();
        let mut end = rest.len() - start - 1;
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                // A line that goes on, or an escaped character.
                '\\' => match chars.next() {
                    Some((_, '\n')) => {
                        let blanks = chars.as_str().len() - chars.as_str().trim_start().len();
                        chars.by_ref().take(blanks).for_each(|_| ());
                    }
                    Some((_, c)) => text.push(c),
                    None => {}
                },
                c => text.push(c),
            }
        }
        rest = &rest[start + 1 + end..];
        found.push(Literal {
            before: before.trim_end().to_owned(),
            text,
        });
        before.push_str("\"\"");
    }
    found
}

/// A sentence with `…` in place of what is filled in.
fn sentence(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(end) = text.find('}') {
        match text[..end].rfind('{') {
            Some(start) => text.replace_range(start..=end, "…"),
            None => text.replace_range(end..=end, ""),
        }
    }
    text
}

fn filled_in(literal: &str) -> String {
    sentence(&literal.replace("{{", "{").replace("}}", "}"))
}

/// Fails with all that are not on the page of errors.
#[track_caller]
fn are_on_the_page(sentences: impl IntoIterator<Item = String>) {
    let page: Vec<_> = ERRORS.lines().map(sentence).collect();
    let page = page.join("\n");
    let (mut count, mut missing) = (0, vec![]);
    for sentence in sentences {
        count += 1;
        if !page.contains(&sentence) {
            missing.push(sentence);
        }
    }
    assert!(count > 50, "only {count} sentences were found");
    assert!(missing.is_empty(), "not in errors.md: {missing:#?}");
}

#[test]
fn every_error_is_on_the_page() {
    let all = sources().into_iter().flat_map(|path| {
        let literals = literals(&code(&path)).into_iter();
        let messages = literals.filter(|literal| literal.before.ends_with("#[error("));
        // A `SettingsError` is nothing but its place and its cause.
        let messages = messages.filter(|literal| literal.text != "{origin}: {cause}");
        messages
            .map(|literal| format!("\n- **{}**\\\n", filled_in(&literal.text)))
            .collect::<Vec<_>>()
    });
    are_on_the_page(all);
}

/// The bodies of the methods of this name, and of those that have all facts of an error.
fn bodies_of<'c>(method: &str, code: &'c str) -> Vec<&'c str> {
    let starts = [format!("fn {method}("), "fn facts(".to_owned()];
    let bodies = starts.iter().flat_map(|start| code.split(start.as_str()).skip(1));
    bodies.map(|body| body.split("\n    }\n").next().unwrap()).collect()
}

#[test]
fn every_remedy_is_on_the_page() {
    let all = sources().into_iter().flat_map(|path| {
        let code = code(&path);
        let bodies = bodies_of("remedy", &code);
        let literals = bodies
            .into_iter()
            .flat_map(literals)
            .map(|literal| filled_in(&literal.text));
        literals.filter(|text| text.contains(' ')).collect::<Vec<_>>()
    });
    are_on_the_page(all);
}

#[test]
fn every_word_about_settings_is_on_the_page() {
    let files = [
        "authorization_parameters",
        "check",
        "client_certificate",
        "client_identity",
        "client_secrets",
        "declaration",
        "dev_provider",
        "duration",
        "environment",
        "github",
        "insecure_http_hosts",
        "insecure_settings",
        "mode",
        "page_origins",
        "presets",
        "providers",
        "resource_server",
        "session",
        "site",
        "stray_characters",
        "trusted_proxies",
        "value",
    ];
    let all = files.into_iter().flat_map(|file| {
        let literals = literals(&code(&source(&format!("settings/{file}.rs"))));
        literals.into_iter().filter(is_told).flat_map(|literal| {
            let parts: Vec<_> = literal.text.split("{REMEDY}").map(filled_in).collect();
            parts.into_iter().filter(|part| part.contains(' '))
        })
    });
    are_on_the_page(all);
}

/// Whether a string is for a reader: no attribute, no proof of an `expect`, no name of a provider's, no member of JSON.
fn is_told(literal: &Literal) -> bool {
    let line = literal.before.lines().last().unwrap_or_default().trim();
    !line.starts_with("#[")
        && !line.ends_with("expect(")
        && !line.ends_with("unreachable!(")
        && !line.ends_with("\"\":")
        && !line.contains("Metadata::named(")
        && !line.contains("const ENVIRONMENT")
}

/// What a section of the page of errors has, up to the next one.
fn section_of_errors(title: &str) -> &'static str {
    let (_, rest) = ERRORS.split_once(&format!("\n## {title}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

#[test]
fn reason_codes_and_messages_are_in_alphabetical_order() {
    for section in ["Reason codes", "Reason codes of a token"] {
        let headings = section_of_errors(section).lines();
        let codes: Vec<_> = headings
            .filter_map(|line| line.strip_prefix("### `")?.split('`').next())
            .collect();
        assert!(codes.len() > 10);
        assert!(codes.is_sorted(), "{codes:#?}");
    }
    let groups = section_of_errors("Messages without a reason code");
    let mut count = 0;
    for group in groups.split("\n### ") {
        let rows = group.lines();
        let words: Vec<String> = rows
            .filter_map(|row| row.strip_prefix("- **")?.strip_suffix("**\\"))
            .map(|message| {
                let plain = message.to_lowercase().replace(['`', '"', '…'], "");
                let start = |c: char| !c.is_ascii_alphanumeric();
                plain.trim_start_matches(start).to_owned()
            })
            .collect();
        count += words.len();
        assert!(words.is_sorted(), "{words:#?}");
    }
    assert!(count > 30);
}

/// Both ways, and with the same default: no setting without a row, no row without a setting.
#[test]
fn every_setting_is_on_the_page() {
    let mut expected = BTreeMap::new();
    for (name, doc) in rocket_openidconnect::__private::documented_settings() {
        let default = doc.split_once("_Default:_ ").map_or("", |(_, it)| it);
        let default = default.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_none = default == "none";
        expected.insert(name, if is_none { String::new() } else { default });
    }
    // Tables whose members have rows of their own.
    expected.remove("session");
    expected.remove("http");
    expected.remove("client_certificate");

    let rows = SETTINGS.lines().filter_map(|row| row.strip_prefix("| `"));
    let rows = rows.map(|row| row.split_once("` |").unwrap());
    let rows = rows.map(|(name, row)| (name.to_owned(), row.split('|').next().unwrap()));
    let rows = rows.map(|(name, default)| (name, default.trim().to_owned()));
    // Those of a further issuer and of an API are in the rows of `issuers` and `apis`.
    let rows = rows.filter(|(name, _)| !name.contains('<'));
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn every_cargo_feature_is_on_the_page() {
    let manifest = fs::read_to_string(source("../Cargo.toml")).unwrap();
    let (_, features) = manifest.split_once("\n[features]\n").unwrap();
    let features = features.split("\n[").next().unwrap().lines();
    let names = features.filter_map(|line| line.split_once(" = ").map(|(name, _)| name));
    let is_public = |name: &&str| *name != "default" && !name.starts_with('_');
    let names: Vec<_> = names.filter(is_public).collect();
    assert!(names.len() >= 7);
    let (_, table) = QUICKSTART.split_once("\n## Cargo features\n").unwrap();
    let built = manifest.split("\nfeatures = [").nth(1).unwrap();
    let built = built.split(']').next().unwrap();
    for name in names {
        assert!(table.contains(&format!("`{name}`")), "`{name}`");
        // docs.rs shows its items.
        assert!(built.contains(&format!("\"{name}\"")), "`{name}`");
    }
}

/// The names in the first column of a section's table.
fn names(section: &str) -> BTreeSet<String> {
    let (_, rest) = OBSERVING.split_once(section).unwrap();
    let rows = rest.split("\n## ").next().unwrap().lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split(" |").next());
    let names = cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `"));
    names.map(str::to_owned).collect()
}

/// Both ways: no event without a row, no row without an event.
#[test]
fn every_audit_event_is_on_the_page() {
    let code = code(&source("audit.rs"));
    let (_, body) = code.split_once("fn name(").unwrap();
    let body = body.split("\n    }\n").next().unwrap();
    let events: BTreeSet<_> = literals(body).into_iter().map(|literal| literal.text).collect();
    let (_, table) = AUDIT.split_once("| event | when |").unwrap();
    let rows = table.split("\n\n").next().unwrap().lines();
    let rows = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), events);
    assert_eq!(events.len(), 10);
}

/// A reason code, or those of each kind of token for `…_iss`.
fn of_each_kind(code: &str) -> Vec<String> {
    match code.strip_prefix('…') {
        Some(check) => ["access_token", "id_token", "logout_token", "user_info"]
            .map(|kind| format!("{kind}{check}"))
            .to_vec(),
        None => vec![code.to_owned()],
    }
}

/// The codes that have a heading on the page of errors, or, of a token, an anchor before one.
fn codes() -> BTreeSet<String> {
    let of_tokens = section_of_errors("Reason codes of a token");
    let mut found = BTreeSet::new();
    for heading in section_of_errors("Reason codes").split("\n### `").skip(1) {
        found.insert(heading.split('`').next().unwrap().to_owned());
    }
    for heading in of_tokens.split("\n### `").skip(1) {
        for code in of_each_kind(heading.split('`').next().unwrap()) {
            let anchor = format!("<a id=\"{code}\"></a>");
            assert!(of_tokens.contains(&anchor), "{anchor}");
            found.insert(code);
        }
    }
    found
}

/// Both ways: no code without a heading, no heading without a code.
#[test]
fn every_reason_code_is_on_the_page() {
    let mut found = BTreeSet::new();
    for path in sources() {
        let code = code(&path);
        for body in bodies_of("reason", &code) {
            let codes = literals(body).into_iter();
            let codes = codes.filter(|literal| !literal.text.contains(' '));
            found.extend(codes.flat_map(|literal| {
                let is_shared = literal.before.ends_with("reason_of!(kind,");
                let prefix = if is_shared { "…_" } else { "" };
                of_each_kind(&format!("{prefix}{}", literal.text))
            }));
        }
        for literal in literals(&code) {
            let before = literal.before.as_str();
            let is_field =
                before.ends_with("reason =") || before.ends_with("reason:") || before.ends_with("Failure::later(");
            if is_field && !literal.text.contains(' ') {
                found.insert(literal.text);
            }
        }
    }
    assert!(found.len() > 70);
    assert_eq!(codes(), found);
}

/// Those of sign-ins: what their errors have as reason, and the table of the page.
#[test]
fn every_reason_code_of_a_sign_in_has_a_kind() {
    let table = ERRORS.split_once("\n## Kinds of failed sign-ins\n").unwrap().1;
    let table = table.split("\n## ").next().unwrap();
    let mut count = 0;
    for file in [
        "relying_party/sign_in_error.rs",
        "code_flow/response_error.rs",
        "provider/error.rs",
    ] {
        let code = code(&source(file));
        for literal in bodies_of("reason", &code).into_iter().flat_map(literals) {
            let is_code =
                literal.text.contains('_') && literal.text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if !is_code || literal.before.ends_with("error ==") {
                continue;
            }
            count += 1;
            let kind = SignInFailureKind::of_reason(&literal.text);
            let kind = kind.unwrap_or_else(|| panic!("`{}` has no kind", literal.text));
            let row = table
                .lines()
                .find(|row| row.starts_with(&format!("| `{kind}` |")))
                .unwrap();
            let is_there = row.contains(&format!("`{}`", literal.text)) || literal.text.starts_with("id_token_");
            assert!(is_there, "`{}` is not in the row of `{kind}`", literal.text);
        }
    }
    assert!(count > 40, "only {count} codes were found");
}

#[test]
fn every_metric_is_on_the_page() {
    let literals = literals(&code(&source("observing.rs")));
    let names = literals.into_iter().map(|literal| literal.text);
    let names: BTreeSet<_> = names.filter(|text| text.starts_with("oidc_")).collect();
    assert_eq!(self::names("## Metrics"), names);
}

/// `module::name` in the tables of tests.
#[test]
fn every_test_that_is_named_is_there() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = files(&manifest.join("tests"));
    paths.extend(files(&source("")));
    let sources: Vec<_> = paths
        .iter()
        .map(|path| (path.to_str().unwrap(), fs::read_to_string(path).unwrap()))
        .collect();
    // The package has no tests that need more than Rust.
    let is_package = !manifest.join("tests/interop").exists();
    let mut count = 0;
    for page in [ATTACKS, CONFORMANCE, SECURITY] {
        for named in page.split('`').filter(|text| is_other_name(text)) {
            count += 1;
            let (module, name) = named.rsplit_once("::").unwrap();
            let function = format!("fn {name}()");
            let mut found = sources.iter().filter(|(path, _)| path.contains(module));
            assert!(is_package || found.any(|(_, text)| text.contains(&function)), "{named}");
        }
    }
    assert!(count > 100);
}

/// What SECURITY.md promises for each attacker is shown by a test that it names.
#[test]
fn every_promise_names_its_test() {
    let (_, attackers) = SECURITY.split_once("\n## Attackers\n").unwrap();
    let (attackers, _) = attackers.split_once("\n## ").unwrap();
    let promises: Vec<_> = attackers
        .split("\n\n")
        .flat_map(|paragraph| paragraph.split("\n- ").map(move |item| (paragraph, item)))
        .filter(|(paragraph, _)| paragraph.starts_with("- "))
        .map(|(_, item)| item)
        .collect();
    assert!(promises.len() > 35, "{}", promises.len());
    for promise in promises {
        let mut quoted = promise.split('`').skip(1).step_by(2);
        assert!(quoted.any(is_other_name), "{promise}");
    }
}

fn is_other_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
    text.contains("::") && text.chars().all(plain)
}

/// Every TOML of the manual is read as settings, in both profiles.
#[test]
fn every_example_of_settings_is_accepted() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual");
    let mut count = 0;
    for entry in fs::read_dir(manual).unwrap() {
        let path = entry.unwrap().path();
        let page = fs::read_to_string(&path).unwrap();
        for block in page.split("```toml").skip(1) {
            count += 1;
            let block = block.split("```").next().unwrap();
            let has_table = block.lines().any(|line| line.trim().starts_with('['));
            let toml = if has_table {
                block.to_owned()
            } else {
                format!("[default.oidc]\n{block}")
            };
            for profile in ["debug", "release"] {
                let figment = Figment::from(Toml::string(&toml).nested()).select(profile);
                if let Err(error) = Settings::extract(&figment) {
                    panic!("{path:?}: {error}\n{toml}");
                }
            }
        }
    }
    assert!(count > 15);
}
