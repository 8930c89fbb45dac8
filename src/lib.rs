//! g2d
pub mod base;
pub mod data;
