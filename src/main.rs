//! The command `g2d`.
fn main() {}
