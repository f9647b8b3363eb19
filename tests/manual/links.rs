//! The links and titles of the documentation: a broken link fails here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the manual by the names of their modules, as rustdoc includes them.
fn pages() -> BTreeMap<String, PathBuf> {
    let modules = fs::read_to_string(root().join("src/manual.rs")).unwrap();
    let items = modules.split("include_str!(\"../").skip(1);
    let pages = items.filter_map(|item| {
        let (path, rest) = item.split_once('"')?;
        let (_, rest) = rest.split_once("]\npub mod ")?;
        let (name, _) = rest.split_once(" {}")?;
        Some((name.to_owned(), root().join(path)))
    });
    pages.collect()
}

/// All Markdown of the repository that people read, with the examples' and the fuzz targets'.
fn markdown() -> Vec<PathBuf> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.extension().is_some_and(|it| it == "md") {
                true => found.push(path),
                false if path.is_dir() => below(&path, found),
                false => {}
            }
        }
    }
    let mut found = vec![];
    for directory in ["docs", "examples"] {
        below(&root().join(directory), &mut found);
    }
    // A package has no `fuzz/`.
    let files = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "RELEASING.md",
        "SECURITY.md",
        "fuzz/README.md",
    ];
    found.extend(files.map(|file| root().join(file)));
    found.retain(|path| path.exists());
    found
}

/// The lines of a page that are text, without code between backticks.
fn prose(page: &str) -> Vec<String> {
    let mut is_code = false;
    let lines = page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    let without_code = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().concat();
    lines.map(without_code).collect()
}

/// The targets of a page's links, pictures included.
fn links(page: &str) -> Vec<String> {
    let mut found = vec![];
    for line in prose(page) {
        let inline = line.split("](").skip(1);
        found.extend(inline.map(|rest| rest.split(')').next().unwrap().to_owned()));
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            found.push(target.trim().to_owned());
        }
    }
    found
}

/// The anchors of a page: those of its headings, as rustdoc and GitHub make them, and those that it sets.
fn anchors(path: &Path) -> BTreeSet<String> {
    let page = fs::read_to_string(path).unwrap();
    let mut is_code = false;
    let headings = page.lines().filter(|line| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code && line.trim_start_matches('#').starts_with(' ') && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        });
        kept.collect()
    };
    let set = page.split("<a id=\"").skip(1);
    let set = set.map(|rest| rest.split('"').next().unwrap().to_owned());
    headings.map(anchor).chain(set).collect()
}

const DOCS_RS: &str = "https://docs.rs/rocket_openidconnect/";
const MANUAL: &str = "https://docs.rs/rocket_openidconnect/latest/rocket_openidconnect/manual/";

/// Why a link of a page is broken.
fn fault(from: &Path, target: &str, pages: &BTreeMap<String, PathBuf>) -> Option<String> {
    let (address, anchor) = match target.split_once('#') {
        Some((address, anchor)) => (address, Some(anchor)),
        None => (target, None),
    };
    let manual = address.strip_prefix(MANUAL);
    let page = manual.or_else(|| address.strip_prefix("crate::manual::"));
    let file = match page {
        // The index.
        Some("") => return None,
        Some(page) => match pages.get(page.trim_end_matches('/')) {
            Some(file) => file.clone(),
            None => return Some("no page of the manual".to_owned()),
        },
        // Other sites, and items, which rustdoc looks for. Ours are in the latest version.
        None if address.starts_with("https://") => {
            let is_ours = address.starts_with(DOCS_RS);
            let is_latest = address.starts_with("https://docs.rs/rocket_openidconnect/latest/");
            return (is_ours && !is_latest).then(|| "another version".to_owned());
        }
        None if address.starts_with("crate::") || address.starts_with("rocket::") => return None,
        None if address.is_empty() => from.to_owned(),
        // A page that rustdoc includes has another place there.
        None if pages.values().any(|page| page == from) => {
            return Some("a relative link on a page of the manual".to_owned());
        }
        None => from.parent().unwrap().join(address),
    };
    match (file.exists(), anchor) {
        (false, _) => Some("no such file".to_owned()),
        (true, Some(anchor)) if !anchors(&file).contains(anchor) => Some("no such heading".to_owned()),
        (true, _) => None,
    }
}

#[test]
fn every_link_has_a_target() {
    let pages = pages();
    assert!(pages.len() > 20, "{}", pages.len());
    let (mut count, mut faults) = (0, vec![]);
    for path in markdown() {
        let page = fs::read_to_string(&path).unwrap();
        for target in links(&page) {
            count += 1;
            if let Some(fault) = fault(&path, &target, &pages) {
                faults.push(format!("{}: {target}: {fault}", path.display()));
            }
        }
    }
    assert!(count > 150, "{count}");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Each fault is found: else the test above could not fail.
#[test]
fn a_broken_link_is_found() {
    let pages = pages();
    let fault = |from: &str, target: &str| fault(&root().join(from), target, &pages);
    let text = |text: &str| Some(text.to_owned());

    let (decisions, sessions) = ("docs/decisions.md", "docs/manual/sessions.md");
    assert_eq!(fault(decisions, "laboratory.md"), None);
    assert_eq!(fault(decisions, "laboratories.md"), text("no such file"));
    assert_eq!(fault(decisions, "#none"), text("no such heading"));
    let elsewhere = text("a relative link on a page of the manual");
    assert_eq!(fault(sessions, "settings.md"), elsewhere);
    assert_eq!(fault("SECURITY.md", "docs/decisions.md"), elsewhere);
    assert_eq!(fault(sessions, "#refresh"), None);
    assert_eq!(fault(sessions, "crate::manual::deployment#several-nodes"), None);
    let (no_page, no_heading) = (text("no page of the manual"), text("no such heading"));
    assert_eq!(fault(sessions, "crate::manual::deploy"), no_page);
    assert_eq!(fault(sessions, "crate::manual::deployment#nodes"), no_heading);
    assert_eq!(
        fault("README.md", &format!("{MANUAL}errors/#response_iss_mismatch")),
        None
    );
    assert_eq!(fault("README.md", &format!("{MANUAL}error/")), no_page);
    assert_eq!(fault("README.md", &format!("{MANUAL}errors/#is")), no_heading);
    assert_eq!(fault("README.md", &format!("{DOCS_RS}0.1.0/")), text("another version"));
}

/// crates.io shows the README without the repository: only the picture may be missing there, which has a text.
#[test]
fn the_readme_needs_no_repository() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= 130, "{lines} lines");

    let (_, picture) = readme.split_once("\n![").unwrap();
    let (alternative, picture) = picture.split_once("](").unwrap();
    assert!(alternative.len() > 60, "{alternative}");
    let picture = picture.split(')').next().unwrap();
    let size = fs::metadata(root().join(picture)).unwrap().len();
    assert!((10_000..100_000).contains(&size), "{size} bytes");

    let relative = links(&readme);
    let relative = relative.iter().filter(|target| !target.starts_with("https://"));
    assert_eq!(relative.collect::<Vec<_>>(), [picture]);
    let labels = readme.matches("][").count();
    assert!(labels > 10, "{labels}");
}

/// A reader does not find a page that the index does not name.
#[test]
fn every_page_is_in_the_index_and_has_a_title() {
    let index = fs::read_to_string(root().join("docs/manual/index.md")).unwrap();
    let pages = pages();
    for entry in fs::read_dir(root().join("docs/manual")).unwrap() {
        let path = entry.unwrap().path();
        let is_included = pages.values().any(|page| *page == path);
        assert!(is_included || path.ends_with("index.md"), "{path:?}");
    }
    for (name, path) in pages {
        assert!(index.contains(&format!("](crate::manual::{name}) |")), "{name}");
        let page = fs::read_to_string(&path).unwrap();
        assert!(page.starts_with("# "), "{path:?}");
        let titles = prose(&page).into_iter().filter(|line| line.starts_with("# "));
        assert_eq!(titles.count(), 1, "{path:?}");
    }
}

/// The map names existing files, and few for each way.
#[test]
fn every_file_on_the_map_is_there() {
    let map = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let ways = map.split("\n## ").skip(2);
    let mut count = 0;
    for way in ways {
        let names: BTreeSet<_> = way
            .split('`')
            .filter(|name| name.starts_with("src/") && name.ends_with(".rs"))
            .collect();
        count += 1;
        assert!((5..=10).contains(&names.len()), "{names:#?}");
        for name in names {
            assert!(root().join(name).exists(), "{name}");
        }
    }
    assert_eq!(count, 10);
}
