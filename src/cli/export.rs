//! `g2d export`: weights for PyTorch's libraries and for ONNX.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::inspect::provenance;
use crate::checkpoint::TensorFile;
use crate::checkpoint::beside::run_of;
use crate::checkpoint::export::{self, Model};
use crate::data::tokenizer::Tokenizer;
use crate::downstream::Subject;
use crate::error::Error;
use crate::model::config::{Config, DecoderObjective};

/// Writes a model's weights as other libraries load them, strictly.
#[derive(Args)]
#[command(after_help = "Formats:\n  \
    smp          segmentation_models_pytorch.Unet(\"resnet50\", encoder_weights=None, classes=N): encoder, decoder and head; N masks, mostly 1\n  \
    torchvision  torchvision.models.resnet50(): the encoder. G2D trains no classifier: without --fc N put model.fc = torch.nn.Identity()\n               \
                 before load_state_dict, with it the file has an fc of zeros for resnet50(num_classes=N)\n  \
    hf           a folder for transformers.BertModel.from_pretrained(DIR, add_pooling_layer=False), with its tokenizer\n  \
    onnx         image in [0, 1] to masks, embedding, attention and features; opset 17\n\n\
    Films are gray in [0, 1], three times the same channel; with recipe official these are normalised as ImageNet's.\n\nExamples:\n  \
    g2d export runs/1 --format smp --out unet.safetensors\n  \
    g2d export runs/1/checkpoints/step-00001000/weights.safetensors --format torchvision --fc 14 --out resnet50.safetensors\n  \
    g2d export runs/1 --format hf --out bert\n  \
    g2d export runs/1 --format onnx --out g2d.onnx")]
pub struct Export {
    /// A run's folder (its newest checkpoint), a file of weights in one, or a folder made by `g2d import`.
    #[arg(value_name = "RUN|FILE")]
    from: PathBuf,
    /// For whom.
    #[arg(long, value_enum)]
    format: FormatWord,
    /// The file, or for hf the new folder, to write.
    #[arg(long)]
    out: PathBuf,
    /// torchvision: add a classifier of so many classes, all zeros.
    #[arg(long, value_name = "CLASSES", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    fc: Option<u32>,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatWord {
    /// segmentation_models_pytorch's U-Net.
    Smp,
    /// torchvision's ResNet-50.
    Torchvision,
    /// transformers' BertModel.
    Hf,
    /// An ONNX graph.
    Onnx,
}

impl Export {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        if self.fc.is_some() && self.format != FormatWord::Torchvision {
            return Err(Error::Usage("--fc is torchvision's classifier: leave it out of other formats".into()));
        }
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
        if let Some(folder) = folder.filter(|_| self.format != FormatWord::Hf) {
            let what = "is no folder; make it first, or give another --out";
            return Err(Error::Usage(format!("{} {what}", folder.display())));
        }
        let whole = std::path::absolute(&self.out).map_err(Error::io(&self.out))?;
        if run_of(&whole).is_some_and(|run| whole.starts_with(run.join("checkpoints"))) {
            let what = "lies among a run's checkpoints, which are the run's own; give another --out";
            return Err(Error::Usage(format!("{} {what}", self.out.display())));
        }
        let opened = Subject::of(&self.from)?;
        let path = opened.weights.clone().unwrap_or_default();
        let weights = TensorFile::open(&path)?;
        let mut words: BTreeMap<String, String> = provenance(&path);
        words.insert("g2d.weights_blake3".into(), weights.digest());
        let model = Model { weights: &weights, config: &opened.config, provenance: words };
        match self.format {
            FormatWord::Smp => export::smp(&model, &self.out)?,
            FormatWord::Torchvision => export::torchvision(&model, self.fc.map(|classes| classes as usize), &self.out)?,
            FormatWord::Onnx => export::onnx(&model, &self.out)?,
            FormatWord::Hf => {
                if self.out.exists() {
                    let what = "is there already; give --out a new folder";
                    return Err(Error::Usage(format!("{} {what}", self.out.display())));
                }
                let tokenizer = Tokenizer::load(&opened.tokenizer, false).map_err(|error| {
                    Error::Usage(format!("{error}; hf needs the tokenizer of the data that the run was trained on"))
                })?;
                export::hf(&model, tokenizer.json(), &self.out)?;
            }
        }
        self.tell(&opened.config)
    }

    fn tell(&self, config: &Config) -> Result<(), Error> {
        let written = self.written()?;
        let resnet50 = config.resnet_layers == [3, 4, 6, 3] && config.resnet_width == 64;
        let note = match self.format {
            FormatWord::Smp if config.decoder_objective == DecoderObjective::Reconstruction => Some(
                "its decoder learned to give the film (decoder_objective=reconstruction): what it gives is no mask"
                    .into(),
            ),
            FormatWord::Hf | FormatWord::Onnx => None,
            _ if resnet50 => None,
            _ => Some(format!(
                "its encoder is no ResNet-50 (layers {:?}, width {}): \"resnet50\" does not take it",
                config.resnet_layers, config.resnet_width
            )),
        };
        if self.json {
            println!("{}", json!({ "written": written, "note": note }));
            return Ok(());
        }
        for (path, bytes, digest) in written {
            println!("{path}  {bytes} bytes  blake3 {digest}");
        }
        note.into_iter().for_each(|note| println!("note: {note}"));
        Ok(())
    }

    /// Paths, lengths and digests of what was written.
    fn written(&self) -> Result<Vec<(String, usize, String)>, Error> {
        let mut paths = vec![self.out.clone()];
        if self.out.is_dir() {
            let entries = fs::read_dir(&self.out).map_err(Error::io(&self.out))?;
            paths = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
            paths.sort();
        }
        let line = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            Ok((path.display().to_string(), bytes.len(), blake3::hash(&bytes).to_hex().to_string()))
        };
        paths.into_iter().map(line).collect()
    }
}
