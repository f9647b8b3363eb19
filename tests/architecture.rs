//! The layers of `src`: a module imports only from modules below it, and no two modules import each other; and of the
//! dependencies the Rust that they need, the features of tokio, and their number.
//!
//! The order is that of `docs/architecture.md`. Every path that begins with `crate`, `self` or `super` counts, in
//! `use` declarations and inline, in types, expressions, patterns and macros whose arguments are expressions; code
//! for tests does not count. A file and the folder of its name are one module: its parts may import from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use syn::visit::{self, Visit};

/// The modules of `src` from top to bottom. A module may import from those after it, and from no other.
const LAYERS: &[&str] = &[
    "__private",
    "bin",
    "manual",
    "internals",
    "cli",
    "fairing",
    "testing",
    "dev_provider",
    "routes",
    "protect",
    "templates",
    "pages",
    "guard",
    "request",
    "api_client",
    "relying_party",
    "code_flow",
    "resource_server",
    "api_tokens",
    "session",
    "provider",
    "settings",
    "scopes",
    "groups",
    "cookies",
    "keys",
    "client_key",
    "token",
    "requirement",
    "cache",
    "secret",
    "clock",
    "tasks",
    "fair_queue",
    "audit",
    "observing",
    "printable",
    "facts",
];

/// One path in the code: where it is written, and the module that it leads to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Import {
    from: Vec<String>,
    to: Vec<String>,
}

struct Imports {
    module: Vec<String>,
    found: BTreeSet<Import>,
    /// The items of tokio.
    tokio: BTreeSet<Vec<String>>,
}

impl Imports {
    fn of(module: Vec<String>) -> Imports {
        Imports {
            module,
            found: BTreeSet::new(),
            tokio: BTreeSet::new(),
        }
    }

    /// Notes the path, if it begins with `crate`, `super` or `self`.
    fn add(&mut self, path: &[String]) {
        let mut target = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
            Some("tokio") => {
                self.tokio.insert(path[1..].to_vec());
                return;
            }
            _ => return,
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    target.pop();
                }
                name => target.push(name.to_owned()),
            }
        }
        if path.len() > 1 {
            self.found.insert(Import {
                from: self.module.clone(),
                to: target,
            });
        }
    }

    fn add_tree(&mut self, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Name(name) => self.add_name(before, &name.ident),
            syn::UseTree::Rename(rename) => self.add_name(before, &rename.ident),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
        }
    }

    fn add_name(&mut self, before: &mut Vec<String>, name: &syn::Ident) {
        before.push(name.to_string());
        self.add(before);
        before.pop();
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        let arguments =
            call.parse_body_with(syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated);
        for argument in arguments.iter().flatten() {
            self.visit_expr(argument);
        }
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The module of a file, such as `["session", "store"]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<_> = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_str().unwrap().to_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// Modules that are declared for tests alone, with all below them.
fn modules_for_tests(module: &[String], file: &syn::File) -> Vec<Vec<String>> {
    let declarations = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) if item.content.is_none() && is_for_tests(&item.attrs) => Some(item),
        _ => None,
    });
    declarations
        .map(|item| [module, &[item.ident.to_string()]].concat())
        .collect()
}

/// The modules of `src`, without those for tests.
fn modules() -> Vec<(Vec<String>, syn::File)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut parsed: Vec<_> = files
        .iter()
        .map(|path| {
            let module = module_of(path.strip_prefix(&root).unwrap());
            (module, syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect();
    let for_tests: Vec<_> = parsed
        .iter()
        .flat_map(|(module, file)| modules_for_tests(module, file))
        .collect();
    parsed.retain(|(module, _)| !for_tests.iter().any(|test| module.starts_with(test)));
    parsed
}

fn src() -> Src {
    let mut src = Src {
        modules: BTreeSet::new(),
        imports: BTreeSet::new(),
        owners: BTreeMap::new(),
    };
    for (module, file) in modules() {
        src.owners.extend(reexports(&module, &file));
        src.modules.insert(module.clone());
        let mut imports = Imports::of(module);
        imports.visit_file(&file);
        src.imports.extend(imports.found);
    }
    src
}

/// What a module re-exports from its parts: the path that others use, and the path of the owner.
fn reexports(module: &[String], file: &syn::File) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Imports::of(module.to_vec());
    for item in &file.items {
        if let syn::Item::Use(item) = item
            && !matches!(item.vis, syn::Visibility::Inherited)
        {
            let mut before = Vec::new();
            if let syn::UseTree::Path(path) = &item.tree
                && !["crate", "self", "super"].contains(&&*path.ident.to_string())
            {
                before.push("self".to_owned());
            }
            found.add_tree(&mut before, &item.tree);
        }
    }
    let own = |import: Import| {
        let name = import.to.last()?.clone();
        Some(([module, &[name]].concat(), import.to))
    };
    found.found.into_iter().filter_map(own).collect()
}

/// The code of `src`: its modules, its imports, and what is re-exported.
struct Src {
    modules: BTreeSet<Vec<String>>,
    imports: BTreeSet<Import>,
    owners: BTreeMap<Vec<String>, Vec<String>>,
}

impl Src {
    /// The module that a path leads to, through re-exports.
    fn module<'p>(&'p self, path: &'p [String]) -> &'p [String] {
        let is_reexport = |end: &usize| self.owners.contains_key(&path[..*end]);
        if let Some(end) = (1..=path.len()).rev().find(is_reexport) {
            let owner = &self.owners[&path[..end]];
            // A function can have its module's name.
            if !owner.starts_with(&path[..end]) {
                return self.module(owner);
            }
        }
        let is_module = |end: &usize| self.modules.contains(&path[..*end]);
        let end = (0..=path.len()).rev().find(is_module).unwrap_or(0);
        &path[..end]
    }
}

fn layer(module: &str) -> usize {
    let place = LAYERS.iter().position(|name| *name == module);
    place.unwrap_or_else(|| panic!("`{module}` has no place among the layers: give it one"))
}

#[test]
fn every_import_leads_downward_and_to_the_module_that_owns_the_item() {
    let src = src();
    let mut wrong = Vec::new();
    for import in &src.imports {
        let (Some(from), Some(to)) = (import.from.first(), import.to.first()) else {
            continue;
        };
        let path = || format!("{} imports {}", import.from.join("::"), import.to.join("::"));
        if !src.modules.contains(std::slice::from_ref(to)) {
            wrong.push(format!("{}: by way of `lib.rs`", path()));
        } else if from != to && layer(from) >= layer(to) {
            wrong.push(format!("{}: upward", path()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_parts_of_a_module_import_each_other() {
    let src = src();
    // By folder: which part imports from which.
    let mut folders: BTreeMap<&[String], BTreeSet<(&str, &str)>> = BTreeMap::new();
    for import in &src.imports {
        let (from, to) = (src.module(&import.from), src.module(&import.to));
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
            folders.entry(&from[..common]).or_default().insert((a, b));
        }
    }
    let mut circles = Vec::new();
    for (folder, imports) in &folders {
        for (part, _) in imports {
            let mut reached = BTreeSet::new();
            let mut next = vec![*part];
            while let Some(here) = next.pop() {
                let further = imports.iter().filter(|(from, to)| *from == here && reached.insert(*to));
                next.extend(further.map(|(_, to)| *to).collect::<Vec<_>>());
            }
            if reached.contains(part) {
                circles.push(format!("{}::{part}", folder.join("::")));
            }
        }
    }
    circles.dedup();
    assert_eq!(circles, Vec::<String>::new());
}

/// A version such as `1.89` or `1.89.0`.
fn version(text: &str) -> Vec<u32> {
    let parts = text.split('.').map(|part| part.parse().unwrap());
    parts.take(2).collect()
}

/// Of the crate's own dependencies and theirs, with all features; those of tests and examples may need more.
#[test]
fn no_dependency_needs_a_newer_rust_than_this_crate() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--all-features", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let entries = list.as_array().unwrap().iter();
        entries
            .map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry.clone()))
            .collect()
    };
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let root = metadata["resolve"]["root"].as_str().unwrap();
    let (mut needed, mut next) = (BTreeSet::new(), vec![root]);
    while let Some(id) = next.pop() {
        if !needed.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let mut kinds = dependency["dep_kinds"].as_array().unwrap().iter();
            if kinds.any(|kind| kind["kind"] != "dev") {
                next.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    assert!(needed.len() > 100);
    let own = version(env!("CARGO_PKG_RUST_VERSION"));
    let newer = needed.iter().filter_map(|id| {
        let needs = packages[*id]["rust_version"].as_str()?;
        (version(needs) > own).then(|| format!("{id} needs {needs}"))
    });
    assert_eq!(newer.collect::<Vec<_>>(), Vec::<String>::new());
}

/// The feature of tokio that an item needs; `None` for what is always there.
fn tokio_feature(item: &[String]) -> Option<&'static str> {
    match item.first().map(String::as_str)? {
        "spawn" | "task" | "task_local" | "runtime" => Some("rt"),
        "sync" => Some("sync"),
        "time" => Some("time"),
        "net" => Some("net"),
        "fs" => Some("fs"),
        "process" => Some("process"),
        "signal" => Some("signal"),
        "join" | "try_join" | "select" | "main" | "test" => Some("macros"),
        "pin" => None,
        _ => panic!("`tokio::{}` has no place here: give it its feature", item.join("::")),
    }
}

/// A list of words in quotes, after `start` in Cargo.toml.
fn words_after<'t>(manifest: &'t str, start: &str) -> Vec<&'t str> {
    let (_, rest) = manifest.split_once(start).unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).collect()
}

/// Rocket turns most of tokio on, so that a feature which is missing here would not be noticed.
#[test]
fn the_features_of_tokio_are_those_of_the_items_in_the_code() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (manifest, _) = manifest.split_once("\n[dev-dependencies").unwrap();
    // Cargo writes the Cargo.toml of a package anew.
    let table = if manifest.contains("\n[dependencies.tokio]") {
        "\n[dependencies.tokio]"
    } else {
        "\ntokio = {"
    };
    let (_, entry) = manifest.split_once(table).unwrap();
    let always: BTreeSet<_> = words_after(entry, "features = [").into_iter().collect();
    let cli = words_after(manifest, "\ncli = [");
    let of_cli: BTreeSet<_> = cli
        .iter()
        .filter_map(|feature| feature.strip_prefix("tokio/"))
        .collect();

    let (mut used, mut used_by_cli) = (BTreeSet::new(), BTreeSet::new());
    for (module, file) in modules() {
        let is_cli = ["cli", "bin"].contains(&module.first().map_or("", String::as_str));
        let mut imports = Imports::of(module);
        imports.visit_file(&file);
        let features = imports.tokio.iter().filter_map(|item| tokio_feature(item));
        if is_cli { &mut used_by_cli } else { &mut used }.extend(features);
    }
    assert_eq!(used, always);
    let further: BTreeSet<_> = used_by_cli.difference(&always).copied().collect();
    assert_eq!(further, of_cli);
}

/// The crates that a feature needs, with the crate itself.
fn crates(feature: &str) -> usize {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges=normal,build",
            "--prefix=none",
            "--format={p}",
        ])
        .args(["--target=x86_64-unknown-linux-gnu", "--features", feature])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let (found, errors) = (
        String::from_utf8(output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let found: BTreeSet<_> = found
        .as_ref()
        .unwrap()
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    assert!(found.len() > 100, "{errors}");
    found.len()
}

/// Each is to be compiled, audited and updated by every app.
#[test]
fn no_feature_needs_more_crates_than_the_readme_says() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let default = crates("");
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, feature, _, number, ..] = cells[..] else {
            return None;
        };
        let number: usize = number.trim_start_matches('+').parse().ok()?;
        Some((feature.trim_matches('`').to_owned(), number))
    });
    let wrong: Vec<_> = rows
        .map(|(feature, number)| match &*feature {
            "none" => (feature, number, default),
            _ => {
                let found = crates(&feature) - default;
                (feature, number, found)
            }
        })
        .collect();
    let features: Vec<_> = wrong.iter().map(|(feature, ..)| feature.as_str()).collect();
    let all = [
        "none",
        "api-client",
        "cli",
        "dev-provider",
        "metrics",
        "mtls",
        "okapi",
        "postgres",
        "redis",
        "sqlite",
        "templates",
        "testing",
    ];
    assert_eq!(features, all);
    let wrong: Vec<_> = wrong.into_iter().filter(|(_, number, found)| number != found).collect();
    assert_eq!(wrong, [], "feature, in the README, found");
}
