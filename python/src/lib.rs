//! The Python module `g2d`: [`g2d::Session`] behind numpy arrays. What a caller reads of it stands in `g2d.pyi`.
//!
//! Arrays are taken and made by numpy itself, as `from_dlpack`, `asarray` and `empty`, and their numbers pass through buffers: so
//! this crate needs neither numpy's C interface nor DLPack's.

mod films;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Mutex;

use ::g2d::session::settings::{self, Settings};
use ::g2d::train::Resources;
use ::g2d::train::session::StepMetrics;
use pyo3::buffer::{Element, PyBuffer};
use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict};

use films::Films;

create_exception!(g2d, Error, PyValueError, "What cannot be done, and what to do: one sentence.");

fn refused(why: impl Display) -> PyErr {
    Error::new_err(why.to_string())
}

/// An array [shape] of its own, which whoever has it may write to.
fn array<'py, T: Element>(py: Python<'py>, dtype: &str, numbers: &[T], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    let array = py.import("numpy")?.call_method1("empty", (shape, dtype))?;
    PyBuffer::get(&array)?.copy_from_slice(py, numbers)?;
    Ok(array)
}

/// The tokens of texts, which may be given as such.
fn tokens(session: &::g2d::Session, texts: Texts) -> PyResult<Vec<Vec<i32>>> {
    match texts {
        Texts::Words(texts) => texts.iter().map(|text| session.encode(text).map_err(refused)).collect(),
        Texts::Tokens(tokens) => Ok(tokens),
    }
}

enum Texts {
    Words(Vec<String>),
    Tokens(Vec<Vec<i32>>),
}

impl Texts {
    fn of(texts: &Bound<'_, PyAny>) -> PyResult<Self> {
        let none = |_| refused("texts come as a list of str, or as a list of lists of tokens");
        for text in texts.try_iter().map_err(none)? {
            // A sequence of numbers too, but not of tokens.
            if text?.is_instance_of::<PyBytes>() {
                return Err(refused("a text is bytes: decode it, texts come as a list of str"));
            }
        }
        let words = texts.extract().map(Self::Words);
        let either = words.or_else(|_| texts.extract().map(Self::Tokens));
        either.map_err(none)
    }
}

/// A model. Calls from several threads wait for each other; what computes lets other threads of Python go on meanwhile. Its memory is
/// given back with the last reference to it.
///
/// `Session(weights, *, device, batch, threads)` opens one to use it: the newest checkpoint of a run's folder, a checkpoint or a
/// file of weights in one, or a folder that `save` or `g2d import` made. `device` is cpu, cuda, cuda:N, cuda-emulated,
/// cuda-emulated:sm_90a, wgpu or wgpu:N. `batch` films or texts are computed at once. `threads` of its own, 0: as many as there
/// are cores. `Session.train` opens one to train it.
#[pyclass(module = "g2d", frozen)]
struct Session {
    held: Mutex<::g2d::Session>,
    /// Pixels along a side of a film, a heat map and a mask.
    #[pyo3(get)]
    side: usize,
    /// Numbers of an embedding.
    #[pyo3(get)]
    dim: usize,
    /// Films or texts that are computed at once; those of a training step.
    #[pyo3(get)]
    batch: usize,
    /// The longest text, tokens.
    #[pyo3(get)]
    text_length: usize,
    /// Whether it was opened to be trained.
    #[pyo3(get)]
    trains: bool,
    /// Whether it has a decoder that learns masks.
    #[pyo3(get)]
    segments: bool,
}

/// Where on a film a phrase is true.
#[pyclass(module = "g2d", frozen, get_all)]
struct Grounded {
    /// [side, side]: cosine of the phrase with what the model sees at each place. Warm is high; it is no probability.
    map: Py<PyAny>,
    /// Cosine of the phrase with the whole film.
    similarity: f32,
}

impl Session {
    fn of(session: ::g2d::Session) -> Self {
        let (config, shapes) = (session.config(), session.shapes());
        Self {
            side: config.image_size,
            dim: config.projection_dim,
            batch: shapes.batch,
            text_length: shapes.text_len,
            trains: session.trains(),
            segments: config.decoder_objective.segments(),
            held: Mutex::new(session),
        }
    }

    /// Lends the session to some work, during which other threads of Python go on; calls from them on this session wait.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut ::g2d::Session) -> PyResult<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let broken = |_| refused("an earlier call on this session met a fault in g2d: open it anew");
            work(&mut *self.held.lock().map_err(broken)?)
        })
    }

    /// What `given` becomes, `each` of its elements at a time. Ctrl-C is heard behind every part, and its exception ends the call.
    fn computed<T: Sync>(
        session: &mut ::g2d::Session,
        given: &[T],
        each: usize,
        mut work: impl FnMut(&mut ::g2d::Session, &[T]) -> Result<Vec<f32>, ::g2d::Error>,
    ) -> PyResult<Vec<f32>> {
        let mut found = Vec::new();
        for part in given.chunks(each) {
            found.extend(work(session, part).map_err(refused)?);
            Python::attach(|py| py.check_signals())?;
        }
        Ok(found)
    }

    /// What films become, an array of their extents with `row` instead of [side, side].
    fn of_films<'py>(
        &self,
        films: &Bound<'py, PyAny>,
        row: &[usize],
        work: impl FnMut(&mut ::g2d::Session, &[u8]) -> Result<Vec<f32>, ::g2d::Error> + Send,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = films.py();
        let Films { pixels, leading } = Films::of(films, self.side)?;
        let each = self.batch * self.side * self.side;
        let found = self.with(py, |session| Self::computed(session, &pixels, each, work))?;
        array(py, "float32", &found, &[&leading, row].concat())
    }
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (weights, *, device = "cpu", batch = 1, threads = 0))]
    fn open(py: Python<'_>, weights: PathBuf, device: &str, batch: usize, threads: usize) -> PyResult<Self> {
        let device = settings::device(device).map_err(refused)?;
        let on = Resources { device, threads, ..Resources::default() };
        py.detach(|| ::g2d::Session::open(&weights, &on, batch)).map(Self::of).map_err(refused)
    }

    /// Opens a model to train it, and to use it meanwhile: of `weights`, which is what `Session` takes, or else fresh
    /// ones of `preset` (micro, tiny, small, full; full if nothing is said). `recipe` is default, paper or official;
    /// `tokenizer` a tokenizer.json or vocab.txt. Every other key is one that `g2d pretrain --set` takes, such as
    /// batch, text_length, seed, augment; those of the schedule, lr among them, say nothing here, since `step` is given its learning
    /// rate.
    #[staticmethod]
    #[pyo3(signature = (**settings))]
    fn train(py: Python<'_>, settings: Option<Bound<'_, PyDict>>) -> PyResult<Self> {
        let settings = settings.unwrap_or_else(|| PyDict::new(py));
        // Paths, and numbers of numpy, as they are printed.
        let as_text = [("default", py.get_type::<pyo3::types::PyString>())].into_py_dict(py)?;
        let json = py.import("json")?.call_method("dumps", (settings,), Some(&as_text))?;
        let unreadable = |why| refused(format!("these settings cannot be read: {why}"));
        let settings: Settings = serde_json::from_str(json.extract()?).map_err(unreadable)?;
        py.detach(|| settings.open()).map(Self::of).map_err(refused)
    }

    /// The model's settings, as in `config.json`.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let config = self.with(py, |session| serde_json::to_string(session.config()).map_err(refused))?;
        py.import("json")?.call_method1("loads", (config,))
    }

    /// Bytes it holds on its device.
    #[getter]
    fn memory(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |session| Ok(session.memory()))
    }

    /// Training steps since it was opened.
    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |session| Ok(session.steps()))
    }

    /// What the last step left behind; None before the first.
    #[getter]
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let metrics = self.with(py, |session| Ok(session.metrics().copied()))?;
        metrics.map(|metrics| told(py, metrics)).transpose()
    }

    /// `g2d.read_film` at the side that this model takes.
    fn read_film<'py>(&self, source: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        films::read(source, self.side)
    }

    /// Tokens of a text; a longer one than the model takes is cut as in training.
    fn encode(&self, py: Python<'_>, text: String) -> PyResult<Vec<i32>> {
        self.with(py, |session| session.encode(&text).map_err(refused))
    }

    /// Embeddings [..., dim], each of length 1, of films [..., side, side]. Their products with those of texts are
    /// cosines.
    fn embed_images<'py>(&self, films: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.of_films(films, &[self.dim], |session, pixels| session.embed_films(pixels))
    }

    /// Embeddings [texts, dim], each of length 1; longer texts are cut as in training. Texts may be given as their
    /// tokens.
    fn embed_texts<'py>(&self, texts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = texts.py();
        let texts = Texts::of(texts)?;
        let found = self.with(py, |session| {
            let tokens = tokens(session, texts)?;
            Self::computed(session, &tokens, self.batch, |session, part| session.embed_tokens(part))
        })?;
        array(py, "float32", &found, &[found.len() / self.dim, self.dim])
    }

    /// The predicted masks' probabilities [..., side, side] for films [..., side, side].
    fn segment<'py>(&self, films: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.of_films(films, &[self.side, self.side], |session, pixels| session.segment(pixels))
    }

    /// Where on one film [side, side] a phrase is true.
    fn ground(&self, film: &Bound<'_, PyAny>, phrase: String) -> PyResult<Grounded> {
        let py = film.py();
        let film = Films::of(film, self.side)?;
        let found = self.with(py, |session| session.ground(&film.pixels, &phrase).map_err(refused))?;
        let map = array(py, "float32", &found.map, &[self.side, self.side])?.unbind();
        Ok(Grounded { map, similarity: found.similarity })
    }

    /// One training step on films [batch, side, side], which are augmented here, and a text each. Nothing is updated if
    /// a loss or gradient is not finite.
    fn step<'py>(
        &self,
        films: &Bound<'py, PyAny>,
        texts: &Bound<'py, PyAny>,
        learning_rate: f64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let py = films.py();
        let (films, texts) = (Films::of(films, self.side)?, Texts::of(texts)?);
        let metrics = self.with(py, |session| {
            let tokens = tokens(session, texts)?;
            session.step(&films.pixels, &tokens, learning_rate).map_err(refused)
        })?;
        told(py, metrics)
    }

    /// Writes a model's folder, new or empty, which appears whole or not at all: weights.safetensors under published
    /// names, config.json and, if there is a tokenizer, tokenizer.json. `Session`, `g2d export` and
    /// safetensors.numpy.load_file read it.
    fn save(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        self.with(py, |session| session.save(&folder).map_err(refused))
    }

    /// Reads weights of the same model: a file of them, or what `Session` takes. If they do not fit nothing is changed.
    fn load(&self, py: Python<'_>, weights: PathBuf) -> PyResult<()> {
        self.with(py, |session| session.load(&weights).map_err(refused))
    }
}

fn told(py: Python<'_>, metrics: StepMetrics) -> PyResult<Bound<'_, PyDict>> {
    let StepMetrics { total, contrastive, segmentation, top1, top5, grad_norm, mask_area } = metrics;
    let told = [
        ("total", Some(total)),
        ("contrastive", Some(contrastive)),
        ("segmentation", segmentation),
        ("top1", Some(top1)),
        ("top5", Some(top5)),
        ("grad_norm", Some(grad_norm)),
        ("mask_area", Some(mask_area)),
    ];
    told.into_py_dict(py)
}

/// A film, PNG, JPEG or DICOM, by its path or its bytes, as stored pixels [side, side]: borders cropped, the rest
/// fitted into the square. `Session.read_film` does it at the side of its model.
#[pyfunction]
#[pyo3(signature = (source, side = 256))]
fn read_film<'py>(source: &Bound<'py, PyAny>, side: usize) -> PyResult<Bound<'py, PyAny>> {
    films::read(source, side)
}

/// G2D, a vision-language model of chest radiographs and reports: opened to use it, or to train it and use it meanwhile.
///
///     import g2d
///     session = g2d.Session("runs/1")
///     film = session.read_film("film.png")
///     session.ground(film, "right pleural effusion").similarity
///
/// Films are stored pixels, uint8 [..., side, side], in numpy arrays or in anything with `__dlpack__` on the processor, such as
/// tensors of PyTorch. Results are numpy arrays of their own, which torch.from_dlpack takes without a copy.
#[pymodule]
#[pyo3(name = "g2d")]
fn initialised(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Error", module.py().get_type::<Error>())?;
    module.add_class::<Session>()?;
    module.add_class::<Grounded>()?;
    module.add_function(wrap_pyfunction!(read_film, module)?)
}
