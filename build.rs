//! placeholder until ptx is checked
fn main() {}
