//! The embedder's manual. Nothing here but text.

#[doc = include_str!("manual/delivery.md")]
pub mod delivery {}

#[doc = include_str!("manual/back_pressure.md")]
pub mod back_pressure {}

#[doc = include_str!("manual/shutdown.md")]
pub mod shutdown {}

#[doc = include_str!("manual/embedding.md")]
pub mod embedding {}
