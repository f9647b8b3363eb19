//! What the compiler says about a type that is used wrongly. Each file in `cases` is an app that does not compile, and has the
//! messages beside it; `OVERWRITE=1 cargo test --all-features --test compile_errors` writes them anew.
//!
//! The compiler is called with the libraries that this test is linked with, so that nothing is built for it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The libraries that an app needs, by name. All of them are built already: cargo only says where they are.
fn libraries() -> BTreeMap<String, PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--no-run", "--offline", "--locked", "--all-features"])
        .args(["--test=compile_errors", "--message-format=json", "--quiet"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::new();
    for artifact in json_lines(&output.stdout) {
        let name = artifact["target"]["name"].as_str().unwrap_or_default();
        let files = artifact["filenames"].as_array().into_iter().flatten();
        let mut files = files.filter_map(Value::as_str);
        if let Some(file) = files.find(|file| file.ends_with(".rlib")) {
            found.insert(name.to_owned(), PathBuf::from(file));
        }
    }
    found
}

fn json_lines(output: &[u8]) -> impl Iterator<Item = Value> {
    output
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
}

/// The errors that the compiler has for this app: each with its label and its notes.
fn messages(case: &Path, libraries: &BTreeMap<String, PathBuf>) -> String {
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    compiler
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--emit=metadata",
            "--error-format=json",
        ])
        .arg("--out-dir")
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .arg(case);
    for name in ["rocket", "rocket_openidconnect"] {
        let library = &libraries[name];
        let folder = library.parent().unwrap().display();
        compiler.arg("--extern").arg(format!("{name}={}", library.display()));
        compiler.arg(format!("-Ldependency={folder}"));
    }
    let output = compiler.output().unwrap();
    assert!(!output.status.success(), "{} compiles", case.display());
    let mut text = String::new();
    for error in json_lines(&output.stderr).filter(|message| message["level"] == "error") {
        let spans = error["spans"].as_array().unwrap();
        let Some(at) = spans.iter().find(|span| span["is_primary"] == true) else {
            // How many errors there are.
            continue;
        };
        text.push_str(&format!("error: {}\n", error["message"].as_str().unwrap()));
        text.push_str(&format!("  label: {}\n", at["label"].as_str().unwrap_or_default()));
        for child in error["children"].as_array().unwrap() {
            let note = child["message"].as_str().unwrap();
            // What the compiler adds changes with its version.
            let is_ours = child["level"] == "note" && child["spans"] == Value::Array(vec![]);
            if is_ours && !note.starts_with("required") {
                text.push_str(&format!("  note: {note}\n"));
            }
        }
    }
    text
}

#[test]
fn each_message_says_what_to_write() {
    let libraries = libraries();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_errors/cases");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 7, "{cases:?}");
    let mut wrong = vec![];
    for case in cases {
        let (found, expected) = (messages(&case, &libraries), case.with_extension("txt"));
        if env::var_os("OVERWRITE").is_some() {
            fs::write(&expected, &found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
