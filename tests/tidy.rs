//! The house rules that a machine can check. To argue with a rule, change it here, with its reason.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use sls_syslog_actors::event::Code;

/// The modules of `actors/src`, lowest first. A module imports what lies below it.
const FLOORS: &[&[&str]] = &[
    &["model"],
    &["config", "error"],
    &["wire"],
    &["loghub"],
    &["messages", "ticket", "credit", "watch", "event", "trouble", "ports", "counters", "clock"],
    &["io"],
    &["coordinator", "fetcher", "formatter", "connection"],
    &["forwarder", "pipeline", "placement", "manual"],
];

/// Imports that point up all the same: from, to. The public error carries the code that the event carries.
const EXCEPTIONS: &[(&str, &str)] = &[("error", "event")];

/// Shells know each other's messages, never each other's types.
const SHELLS: &[&str] = &["coordinator", "fetcher", "formatter", "connection"];

/// A call that is not made, where, except where, and why.
struct Ban {
    text: &'static str,
    /// Paths that begin so.
    within: &'static [&'static str],
    /// Paths that begin so are excepted.
    except: &'static [&'static str],
    /// Whether unit tests inside the files count too.
    in_tests: bool,
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        text: "thread::sleep(",
        within: &["tests/", "actors/tests/", "actors/src/", "src/"],
        except: &["tests/product/harness.rs", "tests/tidy.rs"],
        in_tests: true,
        why: "wait for a condition; in an actor a sleeping thread starves its neighbours",
    },
    Ban {
        text: "println!(",
        within: &["actors/src/"],
        except: &[],
        in_tests: false,
        why: "a library logs through slog",
    },
    Ban {
        text: "dbg!(",
        within: &["actors/", "src/", "tests/"],
        except: &["tests/tidy.rs"],
        in_tests: true,
        why: "left over",
    },
    Ban {
        text: "todo!(",
        within: &["actors/", "src/", "tests/"],
        except: &["tests/tidy.rs"],
        in_tests: true,
        why: "left over",
    },
    Ban {
        text: "ctx.wait(",
        within: &["actors/src/"],
        except: &["actors/src/testing/probe.rs"],
        in_tests: false,
        why: "actix fact 9: it freezes mailbox, timers and futures, which is what the jammed probe is for",
    },
    Ban {
        text: "AtomicResponse",
        within: &["actors/src/"],
        except: &[],
        in_tests: false,
        why: "actix fact 9: it freezes mailbox, timers and futures",
    },
    Ban {
        text: "Supervisor::",
        within: &["actors/src/"],
        except: &[],
        in_tests: true,
        why: "actix fact 14: never after a panic",
    },
    Ban { text: "SyncArbiter", within: &["actors/src/"], except: &[], in_tests: true, why: "actix fact 17: no bound" },
    Ban {
        text: "from_registry",
        within: &["actors/src/"],
        except: &[],
        in_tests: true,
        why: "actix fact 20: shared by all",
    },
    Ban {
        text: "max_http_version",
        within: &["actors/src/", "src/"],
        except: &[],
        in_tests: true,
        why: "it replaces the connector's TLS by one without roots",
    },
    Ban {
        text: "ClientConfig::builder()",
        within: &["actors/src/", "src/"],
        except: &[],
        in_tests: true,
        why: "name the provider: an embedder's default must not matter",
    },
    Ban {
        text: "::now()",
        within: &["actors/src/model/", "actors/src/wire/", "actors/src/loghub/"],
        except: &[],
        in_tests: false,
        why: "time is an argument",
    },
    Ban {
        text: "fastrand::",
        within: &["actors/src/wire/", "actors/src/loghub/"],
        except: &["actors/src/loghub/generate"],
        in_tests: false,
        why: "randomness is an argument",
    },
    Ban {
        text: "actix::",
        within: &["actors/src/model/", "actors/src/wire/"],
        except: &[],
        in_tests: true,
        why: "plain structs decide",
    },
    Ban {
        text: "slog::",
        within: &["actors/src/model/", "actors/src/wire/"],
        except: &[],
        in_tests: true,
        why: "machines answer, shells log",
    },
    Ban {
        text: "std::net::Tcp",
        within: &["actors/src/"],
        except: &["actors/src/io/", "actors/src/testing/"],
        in_tests: false,
        why: "only io/ owns sockets",
    },
    Ban {
        text: "tokio::net",
        within: &["actors/src/"],
        except: &["actors/src/io/", "actors/src/testing/"],
        in_tests: false,
        why: "only io/ owns sockets",
    },
    Ban {
        text: "awc::",
        within: &["actors/src/"],
        except: &["actors/src/io/"],
        in_tests: false,
        why: "only io/ knows the HTTP client",
    },
    Ban {
        text: "unsafe {",
        within: &["actors/", "src/", "tests/"],
        except: &["actors/src/io/tcp_info.rs", "tests/tidy.rs"],
        in_tests: true,
        why: "one small file holds it",
    },
    Ban {
        text: "#[ignore",
        within: &["actors/", "src/", "tests/"],
        except: &["tests/tidy.rs"],
        in_tests: true,
        why: "a test that never runs proves nothing",
    },
];

/// The packages that the project is built on, and a call by which each is known.
const PACKAGES: &[(&str, &[&str])] = &[
    ("actix", &["actix::"]),
    ("actix-rt", &["actix_rt::"]),
    ("awc", &["awc::"]),
    ("rustls", &["rustls::"]),
    ("serde", &["serde::"]),
    ("config", &["config::Config", "config::File", "config::Environment", "config::ConfigBuilder", "config::Value"]),
    ("slog", &["slog::"]),
    ("prost", &["prost::"]),
    ("lz4", &["lz4::"]),
    ("chrono", &["chrono::"]),
];

struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    /// Without comments.
    code: String,
    /// The part of `code` before its unit tests; empty if all of the file is tests.
    production: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "actors/src", "actors/tests", "actors/examples", "actors/benches", "tests"] {
        collect(&root().join(folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 30, "the sources were not found: {files:?}");
    files.iter().map(|file| read(file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> Source {
    let path = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let code = without_comments(&std::fs::read_to_string(file).unwrap());
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let all_tests = stem == "tests" || stem.ends_with("_tests") || !path.contains("src/");
    let production = match code.find("#[cfg(test)]\nmod tests {") {
        _ if all_tests => String::new(),
        Some(tests) => code[..tests].to_owned(),
        None => code.clone(),
    };
    Source { path, code, production }
}

/// Line comments are enough: the format check leaves no others. What looks like one inside a string ends the line too,
/// which hides nothing that the rules look for.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let end = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
        code.push_str(&line[..end.unwrap_or(line.len())]);
        code.push('\n');
    }
    code
}

#[track_caller]
fn none(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}

/// The first path segments behind `crate::` in some code, groups included.
fn imported(code: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(modules.insert(first_word(rest))),
            Some(group) => {
                let mut depth = 0;
                let mut item = String::new();
                for c in group.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => drop(modules.insert(first_word(&std::mem::take(&mut item)))),
                        _ => {}
                    }
                    if !(c == ',' && depth == 0) {
                        item.push(c);
                    }
                }
                modules.insert(first_word(&item));
            }
        }
    }
    modules
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn imports_point_down() {
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(inside) = source.path.strip_prefix("actors/src/") else { continue };
        let module = inside.split(['/', '.']).next().unwrap();
        if module == "lib" || module == "testing" {
            continue;
        }
        let Some(own) = floor(module) else {
            complaints.push(format!("{}: `{module}` has no floor; give it one in tests/tidy.rs", source.path));
            continue;
        };
        if source.production.contains("super::super::") {
            complaints.push(format!("{}: `super::super::` hides where it leads; say `crate::`", source.path));
        }
        for other in imported(&source.production) {
            let allowed = match floor(&other) {
                _ if other == module || EXCEPTIONS.contains(&(module, other.as_str())) => true,
                None if other == "testing" => false,
                // A macro or an item of the crate's root.
                None => true,
                Some(_) if SHELLS.contains(&module) && (other == "io" || SHELLS.contains(&other.as_str())) => false,
                Some(other) => other <= own,
            };
            if !allowed {
                complaints.push(format!("{}: {module} imports {other}", source.path));
            }
        }
    }
    none("imports that point up or sideways", &complaints);
}

#[test]
fn forbidden_calls_are_not_made() {
    let mut complaints = Vec::new();
    for source in sources() {
        for ban in BANS {
            let applies = ban.within.iter().any(|p| source.path.starts_with(p))
                && !ban.except.iter().any(|p| source.path.starts_with(p));
            let code = if ban.in_tests { &source.code } else { &source.production };
            if applies && code.lines().any(|line| calls(line, ban.text)) {
                complaints.push(format!("{}: `{}`: {}", source.path, ban.text, ban.why));
            }
        }
    }
    none("forbidden calls", &complaints);
}

/// Whether `text` occurs as a name of its own, not as the end of a longer one.
fn calls(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn one_file_knows_the_http_client() {
    let knowing: Vec<_> = sources()
        .into_iter()
        .filter(|s| s.path.starts_with("actors/src/") && calls_anywhere(&s.production, "awc::"))
        .map(|s| s.path)
        .collect();
    assert_eq!(knowing.len(), 1, "{knowing:?}");
}

fn calls_anywhere(code: &str, text: &str) -> bool {
    code.lines().any(|line| calls(line, text))
}

#[test]
fn every_package_of_the_foundation_is_called() {
    let production: Vec<_> =
        sources().into_iter().filter(|s| s.path.starts_with("src/") || s.path.starts_with("actors/src/")).collect();
    let idle: Vec<_> = PACKAGES
        .iter()
        .filter(|(_, calls)| !calls.iter().any(|call| production.iter().any(|s| calls_anywhere(&s.production, call))))
        .map(|(package, _)| (*package).to_owned())
        .collect();
    none("packages that nothing calls", &idle);
}

#[test]
fn every_file_belongs_to_a_module() {
    let sources = sources();
    let mut complaints = Vec::new();
    for source in &sources {
        let path = Path::new(&source.path);
        let (folder, stem) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        let targets = ["tests", "actors/tests", "actors/examples", "actors/benches", "tests/fuzz/bins"].map(Path::new);
        if matches!(stem, "main" | "lib") || targets.contains(&folder) {
            continue;
        }
        let (folder, name) = match stem {
            "mod" => (folder.parent().unwrap(), folder.file_name().unwrap().to_str().unwrap()),
            _ => (folder, stem),
        };
        let (by_name, by_path) = (format!("mod {name};"), format!("#[path = \"{stem}.rs\"]"));
        let beside = format!("{}.rs", folder.to_str().unwrap());
        let declared = sources
            .iter()
            .filter(|other| Path::new(&other.path).parent() == Some(folder) || other.path == beside)
            .any(|parent| calls_anywhere(&parent.code, &by_name) || parent.code.contains(&by_path));
        if !declared {
            complaints.push(source.path.clone());
        }
    }
    none("files that no module declares", &complaints);
}

/// It is no member of this workspace, so nothing else notices before somebody fuzzes.
#[test]
fn the_fuzz_workspace_has_what_the_modules_call_that_it_takes() {
    let manifest = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (all, theirs) = (manifest("Cargo.toml"), manifest("tests/fuzz/Cargo.toml"));
    let ours = all.split("\n[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let taken: Vec<String> = manifest("tests/fuzz/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("#[path = \"../../")?.strip_suffix("\"]"))
        .map(|path| path.trim_end_matches("mod.rs").to_owned())
        .collect();
    assert!(taken.len() > 3, "the modules were not found: {taken:?}");
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| taken.iter().any(|path| source.path.starts_with(path))) {
        for name in ours.lines().filter_map(|line| line.split(" = ").next()) {
            let call = format!("{}::", name.replace('-', "_"));
            if calls_anywhere(&source.production, &call) && !theirs.contains(&format!("\n{name} = ")) {
                complaints.push(format!("{} calls {name}", source.path));
            }
        }
    }
    none("tests/fuzz/Cargo.toml does not name what it needs", &complaints);
}

#[test]
fn every_code_is_explained() {
    let guide = std::fs::read_to_string(root().join("config/messages.md")).unwrap();
    let missing: Vec<_> =
        Code::ALL.iter().map(|code| code.as_str()).filter(|code| !guide.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "config/messages.md does not explain {missing:?}");
}

/// The capacity picture: each number that README.md gives for a setting is its default, and the actors' are all there.
#[test]
fn the_picture_shows_the_default_capacities() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let defaults = config::File::from_str(&text("config/default.toml"), config::FileFormat::Toml);
    let defaults = config::Config::builder().add_source(defaults).build().unwrap();
    let readme = text("README.md");
    let picture = readme.split("\n## The picture\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let mut shown = BTreeSet::new();
    for (at, _) in picture.match_indices(" = ") {
        let key = picture[..at].rsplit(|c: char| c.is_whitespace()).next().unwrap();
        let number = picture[at + 3..].split(|c: char| c.is_whitespace() || c == ';').next().unwrap();
        let default = defaults.get_string(key).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(number.trim_matches('"'), default, "{key} in README.md's picture");
        shown.insert(key);
    }
    let mailboxes = defaults.get_table("mailbox").unwrap();
    let wanted = mailboxes.keys().map(|name| format!("mailbox.{name}")).chain(["limits.bytes_in_flight".to_owned()]);
    let missing: Vec<_> = wanted.filter(|key| !shown.contains(key.as_str())).collect();
    none("README.md's picture does not show", &missing);
}

/// A page that is named is there.
#[test]
fn the_links_of_the_readme_lead_somewhere() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let broken: Vec<_> =
        targets.filter(|target| !target.contains("://") && !root().join(target).exists()).map(str::to_owned).collect();
    none("README.md names what is not there", &broken);
}

#[test]
fn the_top_level_is_as_agreed() {
    let agreed =
        ["Cargo.toml", "Cargo.lock", "src", "actors", "tests", "config", "README.md", "LICENSE", "CHANGELOG.md"];
    let mut others = String::new();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with('.') && name != "target" && !agreed.contains(&name.as_str()) {
            writeln!(others, "{name}").unwrap();
        }
    }
    assert!(others.is_empty(), "at the top level: {others}");
}

#[test]
fn the_checker_sees_what_it_looks_for() {
    let code = "use crate::{io::http::Client, model::{ids::ShardId, cursor}, wire};\nfn f() { crate::testing::x() }";
    let expected = ["io", "model", "testing", "wire"].map(str::to_owned);
    assert_eq!(imported(code), BTreeSet::from(expected));
    assert!(calls("  std::thread::sleep(x)", "thread::sleep("));
    assert!(!calls("eprintln!(x)", "println!("));
    assert_eq!(without_comments("a // b\nhttp://c"), "a \nhttp://c\n");
}
