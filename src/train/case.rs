//! Runs a case of the executable specification (`tests/oracle/torch_g2d.py make`) and writes what it asks for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::device::Device;
use super::session::{Films, Options, Session};
use crate::checkpoint::{self, names};
use crate::error::Error;
use crate::model::batch::{Source, TextBatch};
use crate::model::config::Config;
use crate::program::Precision;
use crate::program::plan::{Kernels, Plan};
use crate::program::record::Role;

/// The losses of a case's last step.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CaseReport {
    /// Steps taken.
    pub steps: usize,
    /// Pairs a step.
    pub batch: usize,
    /// The loss that was differentiated.
    pub total: f64,
    /// Image and report.
    pub contrastive: f64,
    /// The decoder's; `None` without one.
    pub segmentation: Option<f64>,
    /// Tensors written.
    pub tensors: usize,
    /// What was passed over in the file of weights.
    pub notes: Vec<String>,
}

struct CaseBatch {
    image: Vec<f32>,
    size: usize,
    text_len: usize,
    tokens: Vec<i32>,
    lengths: Vec<usize>,
}

/// Takes one step for each `batch-N.safetensors` in `case`, starting from its `weights.safetensors`, and writes
/// outputs, losses, gradients of the last step and updates of all steps to `out`, named as in `expected.safetensors`.
/// `launch_by_launch` as in [`Options`].
pub fn run(
    case: &Path,
    out: &Path,
    precision: Precision,
    device: Device,
    kernels: Kernels,
    threads: usize,
    launch_by_launch: bool,
) -> Result<CaseReport, Error> {
    let path = case.join("config.json");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let config = Config::from_json(&text).map_err(|error| Error::Case { path, why: error.to_string() })?;
    let batches = read_batches(case, &config)?;
    let (batch, text_length) = (batches[0].size, batches[0].text_len);
    let learning_rate = config.learning_rate;
    let options = Options {
        source: Source::Numbers,
        precision,
        device,
        kernels,
        threads,
        launch_by_launch,
        ..Options::new(config.clone(), batch, text_length)
    };
    let mut session = Session::open(options)?;
    let notes = session.load_weights(&case.join("weights.safetensors"))?.notes;
    let named = |at: usize| session.program().states[at].name.clone();
    let before: BTreeMap<String, Vec<f64>> = (names::weights(session.program()).into_iter().map(named))
        .map(|name| Ok((name.clone(), session.state(&name)?.unwrap_or_default())))
        .collect::<Result<_, Error>>()?;
    let mut last = None;
    for batch in &batches {
        let text = TextBatch::pack(&batch.tokens, &batch.lengths, text_length, &config)?;
        let plan = session.step_plan();
        last = Some((session.step(Films::Numbers(&batch.image), &text, learning_rate)?, plan));
    }
    let Some((metrics, plan)) = last else { unreachable!("read_batches gives at least one") };
    let tensors = tensors(&session, &plan, &before)?;
    write(out, &tensors)?;
    Ok(CaseReport {
        steps: batches.len(),
        batch,
        total: metrics.total,
        contrastive: metrics.contrastive,
        segmentation: metrics.segmentation,
        tensors: tensors.len(),
        notes,
    })
}

/// Shape in a file and numbers, by name.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// Everything of the last step, whose plan this was, under the specification's names.
fn tensors(session: &Session, plan: &Plan, before: &BTreeMap<String, Vec<f64>>) -> Result<Tensors, Error> {
    let (batch, side) = (session.options().batch, session.options().config.image_size);
    let mut tensors = Tensors::new();
    for (name, buffer) in &plan.outputs {
        if name.starts_with("out.") || name.starts_with("loss.") {
            let shape = match name.as_str() {
                "out.segmentation_logits" | "out.reconstruction" | "out.pseudo_mask" => vec![batch, 1, side, side],
                loss if loss.starts_with("loss.") => vec![],
                _ => plan.buffers[*buffer].spec.shape.dims().to_vec(),
            };
            tensors.insert(name.clone(), (shape, session.output(plan, name)?.unwrap_or_default()));
        }
    }
    let program = session.program();
    for state in names::weights(program).into_iter().map(|at| &program.states[at]) {
        let (name, shape) = (&state.name, program.spec(state.value).shape);
        let file_shape = names::file_shape(program, state);
        if state.role == (Role::Parameter { trainable: true }) {
            let gradient = session.gradient(plan, name)?.unwrap_or_else(|| vec![0.0; shape.elements()]);
            let gradient = names::to_file(state.layout, shape, gradient);
            tensors.insert(format!("grad.{name}"), (file_shape.clone(), gradient));
        }
        let after = session.state(name)?.unwrap_or_default();
        let update = after.iter().zip(&before[name]).map(|(after, before)| after - before).collect();
        tensors.insert(format!("update.{name}"), (file_shape, names::to_file(state.layout, shape, update)));
    }
    Ok(tensors)
}

fn read_batches(case: &Path, config: &Config) -> Result<Vec<CaseBatch>, Error> {
    let mut batches: Vec<CaseBatch> = Vec::new();
    loop {
        let path = case.join(format!("batch-{}.safetensors", batches.len()));
        if !batches.is_empty() && !path.exists() {
            return Ok(batches);
        }
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        let batch = read_batch(&bytes, config).map_err(|why| Error::Case { path: path.clone(), why })?;
        if let Some(first) = batches.first()
            && (first.size, first.text_len) != (batch.size, batch.text_len)
        {
            let why = format!(
                "[{}, {}] tokens, but batch-0 has [{}, {}]; all batches of a case have one shape",
                batch.size, batch.text_len, first.size, first.text_len
            );
            return Err(Error::Case { path, why });
        }
        batches.push(batch);
    }
}

fn read_batch(bytes: &[u8], config: &Config) -> Result<CaseBatch, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("no safetensors file: {error}"))?;
    let tensor = |name: &str| file.tensor(name).map_err(|_| format!("tensor `{name}` is missing"));
    let (image, ids, mask) = (tensor("image")?, tensor("input_ids")?, tensor("attention_mask")?);
    let side = config.image_size;
    let &[size, text_len] = ids.shape() else {
        return Err(format!("input_ids has shape {:?}, not [batch, length]", ids.shape()));
    };
    if image.dtype() != Dtype::F32 || image.shape() != [size, 1, side, side] {
        return Err(format!(
            "image must be F32 [{size}, 1, {side}, {side}], is {:?} {:?}",
            image.dtype(),
            image.shape()
        ));
    }
    if mask.shape() != ids.shape() {
        return Err("attention_mask must have the shape of input_ids".into());
    }
    if text_len > config.max_positions {
        return Err(format!("texts of {text_len} tokens, but max_positions is {}", config.max_positions));
    }
    let (ids, mask) = (integers(&ids)?, integers(&mask)?);
    let (mut tokens, mut lengths) = (Vec::new(), Vec::new());
    for (row, (ids, mask)) in ids.chunks_exact(text_len).zip(mask.chunks_exact(text_len)).enumerate() {
        let length = mask.iter().take_while(|&&real| real == 1).count();
        if length == 0 || mask[length..].iter().any(|&real| real != 0) {
            return Err(format!("row {row} of attention_mask must be ones, then zeros"));
        }
        let range = 0..config.vocab_size as i64;
        if let Some(id) = ids.iter().find(|id| !range.contains(id)) {
            return Err(format!("row {row} of input_ids holds {id}; the vocabulary has {} tokens", config.vocab_size));
        }
        tokens.extend(ids[..length].iter().map(|&id| id as i32));
        lengths.push(length);
    }
    let image = image.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(CaseBatch { image, size, text_len, tokens, lengths })
}

fn integers(tensor: &TensorView<'_>) -> Result<Vec<i64>, String> {
    let wide = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap_or_default());
    match tensor.dtype() {
        Dtype::I64 => Ok(tensor.data().chunks_exact(8).map(wide).collect()),
        other => Err(format!("integers must be I64, are {other:?}")),
    }
}

fn write(path: &Path, tensors: &Tensors) -> Result<(), Error> {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, numbers))| (name, numbers.iter().flat_map(|&number| (number as f32).to_le_bytes()).collect()))
        .collect();
    let view = |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f64>))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[name]);
        view.map(|view| (name.clone(), view)).map_err(|error| Error::Case { path: path.into(), why: error.to_string() })
    };
    let views = tensors.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let serialized = safetensors::serialize(views, None)
        .map_err(|error| Error::Case { path: path.into(), why: error.to_string() })?;
    checkpoint::write_beside(path, &serialized).map_err(Error::io(path))
}
