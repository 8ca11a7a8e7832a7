//! The rules of the house that a machine can check: layers, headers, leftovers.
//!
//! Each sentence that a failure prints names file, line, rule and remedy.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A module imports only from lower layers; modules of
/// one layer do not know each other.
const LAYERS: [&[&str]; 8] = [
    &["base"],
    &["codec"],
    &["format"],
    &["store", "index", "cache", "source", "capture"],
    &["repo", "target"],
    &["view"],
    &["ops", "mount"],
    &["cli"],
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name == "tests.rs" || name.ends_with("_tests.rs") || path.to_string_lossy().contains("/tests/")
}

/// The part of a file before its inline tests.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The module that a file of `src` belongs to: its first folder or its own name.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let module = module_of(&path);
        let Some(own) = layer(&module) else { continue };
        if is_test(&path) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in production(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for part in code.split("crate::").skip(1) {
                let used: String =
                    part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let names: Vec<String> = if used.is_empty() && part.starts_with('{') {
                    part[1..]
                        .split(['}', ','])
                        .map(|s| s.trim().split("::").next().unwrap().to_owned())
                        .collect()
                } else {
                    vec![used]
                };
                for name in names {
                    let Some(other) = layer(&name) else { continue };
                    if name != module && other >= own {
                        wrong.push(format!(
                            "{}:{}: {module} must not import {name}: it is not a lower layer. Move \
                             what both need down, or pass it in.",
                            path.display(),
                            number + 1
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_a_layer() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = line.trim_end_matches(';');
        assert!(
            layer(module).is_some(),
            "src/lib.rs: {module} has no layer: add it to tests/tidy.rs"
        );
    }
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let mut wrong = Vec::new();
    for path in
        files(&root().join("src"), "rs").into_iter().chain(files(&root().join("tests"), "rs"))
    {
        if path.file_name().unwrap() == "tests.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//! ") {
            wrong.push(format!("{}:1: open the file with a `//!` header", path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_can_be_held_in_mind() {
    let mut wrong = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        let lines = production(&text).lines().count();
        let most = if is_test(&path) { 1000 } else { 600 };
        if lines > most {
            wrong.push(format!(
                "{}: {lines} lines, at most {most}: find the part that wants a file of its own",
                path.display()
            ));
        }
        assert_ne!(
            path.file_name().unwrap(),
            "mod.rs",
            "{}: name it after its module",
            path.display()
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_unfinished_is_left() {
    let words = [
        "todo!",
        "unimplemented!",
        "dbg!",
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
    ];
    let mut wrong = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word} is left", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What asof writes down about itself must be there.
#[test]
fn documents_that_others_refer_to_exist() {
    for name in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "docs/FORMAT.md",
        "docs/ARCHITECTURE.md",
        "docs/SEMANTICS.md",
        "docs/BUCKETS.md",
        "docs/BENCHMARKS.md",
        "docs/PRIORITIES.md",
        "docs/RELIABILITY.md",
    ] {
        assert!(root().join(name).exists(), "{name} is missing");
    }
}
