//! Layered settings: defaults, file, environment, flags.

mod flags;

pub use flags::{Flags, Layers};
