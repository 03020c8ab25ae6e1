//! The fuzz targets, for libFuzzer. What is private to the process is reached by its files: it has no library of its
//! own, and making one would turn every module of a program into an interface.

#![allow(dead_code, unused_imports, reason = "of the process's modules each target uses a part")]

#[path = "../../src/certs.rs"]
mod certs;
#[path = "../../src/exit.rs"]
mod exit;
#[path = "../../src/receiver/mod.rs"]
mod receiver;
#[path = "../../src/settings/mod.rs"]
mod settings;
pub mod targets;
#[path = "../../src/terminal.rs"]
mod terminal;
