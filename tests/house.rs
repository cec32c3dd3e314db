//! The rules of the house that a compiler doesn't hold: which tier may import which, that pure
//! files are pure, where `unsafe` may stand, and that every test which a document names as a proof exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The tier of each module of the library, as ARCHITECTURE.md draws them.
const TIERS: &[(&str, u8)] = &[
    ("model", 0),
    ("clock", 1),
    ("events", 1),
    ("config", 1),
    ("wire", 1),
    ("pipeline", 1),
    ("query", 1),
    ("status", 1),
    ("broker", 2),
    ("pollsters", 3),
    ("publisher", 3),
    ("collector", 3),
    ("storage", 3),
    ("web", 4),
    ("daemons", 5),
];

/// What a file that calls itself pure may not touch. `std::net` has addresses as well as sockets,
/// so sockets are named one by one.
const IMPURE: &[&str] = &[
    "std::fs",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "std::process",
    "std::env::",
    "std::thread",
    "tokio::",
    "nix::sys",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "ToSocketAddrs",
    "clock::",
    "sqlx::",
    "async fn",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The file without its tests and without its comments, which may mention anything.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The library's modules with their files.
fn modules() -> Vec<(&'static str, u8, PathBuf)> {
    let src = root().join("src");
    let mut all = Vec::new();
    for (module, tier) in TIERS {
        let folder = src.join(module);
        let files = if folder.is_dir() {
            files_below(&folder, "rs")
        } else {
            vec![src.join(format!("{module}.rs"))]
        };
        all.extend(files.into_iter().map(|file| (*module, *tier, file)));
    }
    all
}

#[test]
fn every_module_has_a_tier() {
    let lib = code_of(&root().join("src/lib.rs"));
    let declared: BTreeSet<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let known: BTreeSet<&str> = TIERS.iter().map(|(module, _)| *module).collect();
    assert_eq!(declared, known);
}

#[test]
fn imports_go_only_down_the_tiers() {
    for (module, tier, file) in modules() {
        let code = code_of(&file);
        for (other, its_tier) in TIERS {
            // Modules of tier 1 are pure and may know each other; those of tier 3 meet in `daemons`.
            let is_allowed = *other == module || its_tier < &tier || (tier == 1 && *its_tier == 1);
            let is_used = code.contains(&format!("crate::{other}::"))
                || code.contains(&format!("crate::{other};"));
            assert!(
                is_allowed || !is_used,
                "{} (tier {tier}) uses {other} (tier {its_tier})",
                file.display()
            );
        }
    }
}

#[test]
fn pure_files_are_pure() {
    let mut pure = 0;
    for (_, _, file) in modules() {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//! Pure.") {
            continue;
        }
        pure += 1;
        let code = code_of(&file);
        for word in IMPURE {
            assert!(
                !code.contains(word),
                "{} calls itself pure and has {word}",
                file.display()
            );
        }
    }
    assert!(
        pure > 30,
        "only {pure} files call themselves pure: has the marker changed?"
    );
}

#[test]
fn only_the_calls_of_libvirt_are_unsafe() {
    let folder = root().join("src/pollsters/libvirt/sys");
    for file in files_below(&root().join("src"), "rs") {
        let may_be = file.starts_with(&folder);
        assert!(
            may_be || !code_of(&file).contains("unsafe"),
            "{} has unsafe code",
            file.display()
        );
    }
}

/// Names in back quotes in the last column of the tables whose header ends in "held by".
fn named_proofs(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        let is_row = line.starts_with('|');
        in_table = is_row && (in_table || line.trim_end_matches(['|', ' ']).ends_with("held by"));
        if in_table {
            let last = line
                .trim_end_matches(['|', ' '])
                .rsplit('|')
                .next()
                .unwrap_or_default();
            names.extend(last.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_proof_that_the_documents_name_exists() {
    let mut names = Vec::new();
    for document in ["ARCHITECTURE.md", "docs/evidence.md"] {
        let named = named_proofs(&fs::read_to_string(root().join(document)).unwrap());
        assert!(named.len() >= 20, "{document} names {} tests", named.len());
        names.extend(named.into_iter().map(|name| (document, name)));
    }
    let mut code = String::new();
    for folder in ["src", "tests"] {
        for file in files_below(&root().join(folder), "rs") {
            code += &fs::read_to_string(file).unwrap();
        }
    }
    for (document, name) in names {
        let name = name.rsplit("::").next().unwrap();
        assert!(
            code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}: ")),
            "{document} names the test {name}, which doesn't exist"
        );
    }
}
