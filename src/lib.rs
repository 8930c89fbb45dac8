//! Pre-trains G2D (NeurIPS 2024), a vision-language model of chest radiographs, on an engine of its own.
//!
//! What becomes of a film and its report, stage by stage:
//!
//! | stage | in | out | where |
//! |---|---|---|---|
//! | decode | bytes of a PNG, JPEG or DICOM | gray, 8 or 16 bits, [height, width] | [`data::decode`] |
//! | pack | gray, text | bytes [side, side], token ids \[length\], split, ids | [`data::pack`](mod@data::pack), [`data::tokenizer`], [`data::shard`] |
//! | batch | records | bytes [batch, side, side], token ids, lengths \[batch\], augmentation numbers [batch, 13] | [`data::loader`], [`data::augment`] |
//! | upload | a batch | inputs of the plan; texts packed: rows, one for each token, and offsets [batch + 1] | [`train::session`], [`model::batch`] |
//! | ingest | bytes, augmentation numbers | plane [batch, side, side], image [batch, side, side, 3] | [`ops::ingest`] |
//! | encode | image; token ids | five maps [batch, side / 2ᵏ, side / 2ᵏ, channels], k = 1 to 5; token states [rows, width] | [`model::resnet`]; [`model::bert`] |
//! | project | deepest map; token states | map [batch, side / 32, side / 32, dim]; report vector [batch, dim] | [`model::projection`] |
//! | attend | projected map | film vector [batch, dim], attention map [batch, heads, side / 32, side / 32] | [`model::attention_pool`] |
//! | mask | attention map, plane | pseudo mask [batch, side, side] | [`ops::body_mask`], [`ops::mask_threshold`], [`ops::pseudo_mask`] |
//! | decode map | five maps | logits [batch, side, side, 1] | [`model::unet`] |
//! | loss | vectors; logits, mask | losses \[1\] | [`model::losses`], [`ops::clip_loss`], [`ops::segmentation_loss`] |
//! | gradients | total loss \[1\] | gradient slab: a number for each weight | [`program::grad`], each op's [`vjp`](program::Operation::vjp) |
//! | update | gradient slab | weights, two moments of each | [`ops::finite`], [`ops::adamw`] |
//! | save | slabs, progress | files | [`checkpoint`] |
//!
//! Everything from `ingest` to `update` is one recorded step. [`model::g2d`] writes it down with a
//! [`program::Recorder`]; [`program::plan()`] runs the passes of [`program::pass`], gives every value an address
//! ([`program::memory`]) and every node a kernel, and has the result proved sound ([`program::check`]); a backend
//! replays it ([`mod@cpu::replay`]).
//!
//! | to | start at | example |
//! |---|---|---|
//! | use or train a model from a program of one's own | `g2d::Session` (feature `data`): films, sentences and batches in; embeddings, heat maps, masks and metrics out; `g2d::capi` is the same for C, `python/` for Python | `examples/embed.rs`, `examples/c` |
//! | train with the engine alone | [`train::Session`]: a model in memory, which takes batches and gives metrics, embeddings and masks; [`train::run`] is the loop around it that writes a run's folder | `examples/train.rs` |
//! | train another network | [`program::Recorder`], [`model::layer`], [`train::Engine`] | `examples/custom_model.rs` |
//! | define an op elsewhere | [`program::Operation`], [`ops::Op::foreign`] | `examples/swiglu` |
//! | hold a kernel against its definition | [`verify::suite::Suite::foreign`] | `examples/verify_my_kernel.rs` |
//! | run PTX without a GPU | [`cuda::driver::emulated`] | |
//!
//! The library prints nothing, installs no signal handler and builds no global thread pool. Without the feature `cli`
//! the command is absent; without `data` also what reads films and tables, and what remains is the engine.

pub mod base;
pub mod bench;
#[cfg(feature = "capi")]
pub mod capi;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
pub mod cuda;
pub mod data;
pub mod doctor;
#[cfg(feature = "data")]
pub mod downstream;
pub mod error;
pub mod kernels;
pub mod model;
pub mod ops;
pub mod program;
#[cfg(feature = "data")]
pub mod report;
#[cfg(feature = "data")]
pub mod session;
pub mod train;
pub mod verify;
pub mod wgpu;

pub use error::Error;
#[cfg(feature = "data")]
pub use session::Session;
