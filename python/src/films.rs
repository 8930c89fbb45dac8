//! Films as Python has them, and as the model takes them.

use std::path::PathBuf;

use ::g2d::data::decode::Source;
use ::g2d::data::prepare::{Resize, prepare};
use ::g2d::data::shard::MAX_SIZE;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyList;

use crate::{array, refused};

/// Stored pixels [leading, side, side], copied, so that nobody can write to them while they are computed on.
pub struct Films {
    pub pixels: Vec<u8>,
    pub leading: Vec<usize>,
}

impl Films {
    /// Of what numpy can take as an array.
    pub fn of(films: &Bound<'_, PyAny>, side: usize) -> PyResult<Self> {
        let wanted = format!("films are uint8 [..., {side}, {side}], as read_film gives them");
        let array = as_array(films)
            .map_err(|why| refused(format!("this is no array in this machine's memory ({why}): {wanted}")))?;
        let dtype: String = array.getattr("dtype")?.getattr("name")?.extract()?;
        let shape: Vec<usize> = array.getattr("shape")?.extract()?;
        match shape.strip_suffix(&[side, side]) {
            Some(leading) if dtype == "uint8" => {
                Ok(Self { pixels: PyBuffer::get(&array)?.to_vec(films.py())?, leading: leading.to_vec() })
            }
            _ => Err(refused(format!("this is {dtype} {shape:?}: {wanted}"))),
        }
    }
}

/// An array of numpy of an array, or of a list of them.
fn as_array<'py>(films: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let numpy = films.py().import("numpy")?;
    // Arrays of numpy have both.
    let foreign = |array: &Bound<'py, PyAny>| {
        Ok::<_, PyErr>(array.hasattr("__dlpack__")? && !array.hasattr("__array_interface__")?)
    };
    let taken = |array: Bound<'py, PyAny>| match foreign(&array)? {
        true => numpy.call_method1("from_dlpack", (array,)),
        false => Ok(array),
    };
    match films.cast::<PyList>() {
        Ok(list) => numpy.call_method1("asarray", (list.iter().map(taken).collect::<PyResult<Vec<_>>>()?,)),
        Err(_) => numpy.call_method1("asarray", (taken(films.clone())?,)),
    }
}

/// A film's file, by its path or its bytes, as an array [side, side].
pub fn read<'py>(source: &Bound<'py, PyAny>, side: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = source.py();
    if !(1..=MAX_SIZE).contains(&side) {
        return Err(refused(format!("a film of {side} by {side}: give a side from 1 to {MAX_SIZE}")));
    }
    let (film, bytes) = match source.extract::<PyBackedBytes>() {
        Ok(bytes) => (PathBuf::from("the film"), Some(bytes.to_vec())),
        Err(_) => (source.extract()?, None),
    };
    let pixels = py.detach(|| {
        let opened = bytes.map_or_else(|| Source::open(&film), Source::of_bytes);
        opened.and_then(Source::decode).and_then(|decoded| prepare(decoded, side, Resize::Fit))
    });
    let film = film.display().to_string();
    let (pixels, _) = pixels.map_err(|why| refused(::g2d::Error::Film { film, why }))?;
    array(py, "uint8", &pixels, &[side, side])
}
