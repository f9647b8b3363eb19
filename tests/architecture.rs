//! The layers of `src`: a module imports only from modules below it, and no two modules import each other.
//!
//! The order is that of `docs/architecture.md`. Every path that begins with `crate` or `super` counts, in
//! `use` declarations and inline, in types, expressions, patterns and macros that parse as expressions; code
//! for tests does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::visit::{self, Visit};

/// The modules of `src` from top to bottom. A module may import from every module after it.
const LAYERS: &[&str] = &[
    "bin",
    "manual",
    "internals",
    "lib",
    "cli",
    "fairing",
    "testing",
    "routes",
    "protect",
    "guard",
    "relying_party",
    "code_flow",
    "resource_server",
    "session",
    "provider",
    "settings",
    "token",
    "secret",
    "clock",
    "observing",
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
}

impl Imports {
    /// Notes the path, if it begins with `crate`, `super` or `self`.
    fn add(&mut self, path: &[String]) {
        let mut target = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
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
        self.found.insert(Import {
            from: self.module.clone(),
            to: target,
        });
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
        let segments: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        let arguments = call.parse_body_with(
            syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated,
        );
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
    if module
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
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

fn imports_of_src() -> (BTreeSet<Vec<String>>, BTreeSet<Import>) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let parsed: Vec<_> = files
        .iter()
        .map(|path| {
            let module = module_of(path.strip_prefix(&src).unwrap());
            (
                module,
                syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap(),
            )
        })
        .collect();
    let for_tests: Vec<_> = parsed
        .iter()
        .flat_map(|(module, file)| modules_for_tests(module, file))
        .collect();
    let mut modules = BTreeSet::new();
    let mut found = BTreeSet::new();
    for (module, file) in &parsed {
        if for_tests.iter().any(|test| module.starts_with(test)) {
            continue;
        }
        modules.insert(module.clone());
        let mut imports = Imports {
            module: module.clone(),
            found: BTreeSet::new(),
        };
        imports.visit_file(file);
        found.extend(imports.found);
    }
    (modules, found)
}

#[test]
fn print_all() {
    let (modules, imports) = imports_of_src();
    let top = |m: &Vec<String>| m.first().cloned().unwrap_or("lib".into());
    let tops: BTreeSet<String> = modules.iter().map(&top).collect();
    let mut edges: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for i in &imports {
        let (a, b) = (top(&i.from), top(&i.to));
        if a != b {
            let b = if tops.contains(&b) {
                b
            } else {
                format!("lib::{b}")
            };
            edges.entry((a, b)).or_default().insert(format!(
                "{}: {}",
                i.from.join("::"),
                i.to.join("::")
            ));
        }
    }
    for ((a, b), w) in edges {
        println!(
            "{a} -> {b}: {}",
            w.into_iter().collect::<Vec<_>>().join("; ")
        );
    }
}

#[test]
fn print_circles() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (modules, imports) = imports_of_src();
    // re-exports
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut re: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for path in &files {
        let module = module_of(path.strip_prefix(&src).unwrap());
        let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
        for item in &file.items {
            if let syn::Item::Use(u) = item {
                if matches!(u.vis, syn::Visibility::Inherited) {
                    continue;
                }
                fn walk(t: &syn::UseTree, before: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
                    match t {
                        syn::UseTree::Path(p) => {
                            before.push(p.ident.to_string());
                            walk(&p.tree, before, out);
                            before.pop();
                        }
                        syn::UseTree::Name(n) => {
                            let mut b = before.clone();
                            b.push(n.ident.to_string());
                            out.push(b);
                        }
                        syn::UseTree::Group(g) => {
                            for t in &g.items {
                                walk(t, before, out)
                            }
                        }
                        _ => {}
                    }
                }
                let mut out = vec![];
                walk(&u.tree, &mut vec![], &mut out);
                for mut p in out {
                    if p[0] == "self" {
                        p.remove(0);
                    }
                    if p[0] == "crate" || p[0] == "super" {
                        continue;
                    }
                    let mut key = module.clone();
                    key.push(p.last().unwrap().clone());
                    let mut target = module.clone();
                    target.extend(p);
                    re.insert(key, target);
                }
            }
        }
    }
    let resolve = |p: &Vec<String>| -> Vec<String> {
        let mut p = p.clone();
        for _ in 0..5 {
            let mut changed = false;
            for n in (1..=p.len()).rev() {
                if let Some(t) = re.get(&p[..n]) {
                    let mut q = t.clone();
                    q.extend_from_slice(&p[n..]);
                    if q != p {
                        p = q;
                        changed = true;
                    }
                    break;
                }
            }
            if !changed {
                break;
            }
        }
        // cut to module
        while !modules.contains(&p) {
            if p.pop().is_none() {
                break;
            }
        }
        p
    };
    let mut edges: BTreeMap<Vec<String>, BTreeSet<(String, String)>> = BTreeMap::new();
    for i in &imports {
        let mut from = i.from.clone();
        while !modules.contains(&from) {
            from.pop();
        }
        let to = resolve(&i.to);
        // common prefix
        let n = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        if n < from.len() && n < to.len() {
            edges
                .entry(from[..n].to_vec())
                .or_default()
                .insert((from[n].clone(), to[n].clone()));
        } else if n == to.len() && n < from.len() {
            edges
                .entry(to.clone())
                .or_default()
                .insert((from[n].clone(), "PARENT".into()));
        }
    }
    for (folder, e) in &edges {
        // SCC by reachability
        let nodes: BTreeSet<&String> = e.iter().flat_map(|(a, b)| [a, b]).collect();
        let reach = |s: &String| {
            let mut seen: BTreeSet<&String> = BTreeSet::new();
            let mut todo = vec![s];
            while let Some(x) = todo.pop() {
                for (a, b) in e {
                    if a == x && seen.insert(b) {
                        todo.push(b);
                    }
                }
            }
            seen
        };
        let circ: Vec<_> = nodes.iter().filter(|n| reach(n).contains(**n)).collect();
        println!("FOLDER {}: circular {:?}", folder.join("::"), circ);
        println!(
            "   parents: {:?}",
            e.iter()
                .filter(|(_, b)| b == "PARENT")
                .map(|(a, _)| a)
                .collect::<Vec<_>>()
        );
    }
}
