//! Everything between files and batches: packing films and reports into shards, reading shards, drawing batches.
//!
//! What reads shards ([`dataset`], [`labels`], [`augment`], [`loader`]) is part of the engine; what reads films and tables
//! (`pack` and below) needs the feature `data`.

pub mod augment;
pub mod dataset;
pub mod error;
pub mod labels;
pub mod loader;
pub mod record;
pub mod shard;

#[cfg(feature = "data")]
pub mod archive;
#[cfg(feature = "data")]
pub mod budget;
#[cfg(feature = "data")]
pub mod decode;
#[cfg(feature = "data")]
pub mod file;
#[cfg(feature = "data")]
pub mod funnel;
#[cfg(feature = "data")]
pub mod layout;
#[cfg(feature = "data")]
pub mod pack;
#[cfg(feature = "data")]
pub mod pairs;
#[cfg(feature = "data")]
pub mod phantom;
#[cfg(feature = "data")]
pub mod prepare;
#[cfg(feature = "data")]
pub mod rows;
#[cfg(feature = "data")]
pub mod split;
#[cfg(feature = "s3")]
pub mod store;
#[cfg(feature = "data")]
pub mod survey;
#[cfg(feature = "data")]
mod table;
#[cfg(feature = "data")]
pub mod tokenizer;
#[cfg(feature = "data")]
pub mod vocabulary;

pub use dataset::Dataset;
pub use error::Error;
pub use labels::LabelCounts;
#[cfg(feature = "data")]
pub use pack::{PackOptions, pack};
#[cfg(feature = "data")]
pub use pairs::PairsTable;
pub use record::{BoundingBox, Record, Split};
