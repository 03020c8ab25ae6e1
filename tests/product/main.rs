//! The promises of the product, on the real binary.

mod settings;
