//! Passes: functions from a program to a program, or from a program to what the planner needs to know of it.
//!
//! | pass | makes |
//! |---|---|
//! | [`prune`] | the program without nodes that nothing asks for |
//! | [`precision`] | the program with conversions where a matrix product wants narrow operands |
//! | [`fuse`] | the program with nodes joined where a kernel does both |
//! | [`layout`] | a place in a slab for everything that lives as long as the run, and for its gradients |
//! | [`place`] | which outputs take over the memory of an input |

pub mod fuse;
pub mod layout;
pub mod place;
pub mod precision;
pub mod prune;
