//! The library for C: nothing but what the feature `capi` of the crate exports.
//!
//!     cargo build --release --example g2d                                # target/release/examples/libg2d.so
//!     cargo rustc --release --example g2d --crate-type staticlib         # target/release/examples/libg2d.a

pub use g2d::capi::*;
