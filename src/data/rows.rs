//! What is packed: rows from a table, or from the tables and folders of a published data set.

use std::path::Path;

use super::error::Error;
use super::funnel::Filter;
use super::pairs::{BadRow, Pair};

/// A row, or why it cannot be used.
pub type Row = Result<Pair, BadRow>;

/// Rows that can be read as often as needed.
pub trait Rows: Sync {
    /// The table that line numbers count in, or the folder that was searched; messages name it.
    fn path(&self) -> &Path;

    /// The folder that the rows' files are relative to.
    fn folder(&self) -> &Path;

    /// The rows from the first, the same each time.
    ///
    /// # Errors
    /// If they cannot be read; later, item by item, if they cannot be read on.
    fn read(&self) -> Result<Box<dyn Iterator<Item = Result<Row, Error>> + '_>, Error>;

    /// The filters that these rows have passed already, in order.
    fn filters(&self) -> &[Filter] {
        &[]
    }

    /// Whether what is stored must name no file, because names of files may be somebody's.
    fn nameless(&self) -> bool {
        false
    }

    /// Whether the split was published film by film, so that a patient may be on several sides.
    fn by_film(&self) -> bool {
        false
    }

    /// What looks odd but stops nothing; `has` tells whether there is a row of this id.
    fn warnings(&self, has: &dyn Fn(&str) -> bool) -> Vec<String>;
}
