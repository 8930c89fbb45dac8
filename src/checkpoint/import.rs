//! Towers of others: which tensors of a file are which of the model's, whether they fit, and what became of each name.
//!
//! An image tower is a ResNet under torchvision's names, a text tower a BERT under transformers', both below any prefix:
//! torchvision, timm, segmentation_models_pytorch, MGCA (`img_encoder_q.model.`, `text_encoder_q.model.`), G2D and our own files.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::tensors::{Format, TensorFile};
use super::weights::{Numbers, WeightsError, list};
use super::{beside, folder, names, reshape};
use crate::model::config::{Config, PRESETS};
use crate::program::Program;

/// Names of files of weights in a folder, the first that is there counts.
pub const FILES: [&str; 3] = ["model.safetensors", "pytorch_model.bin", folder::WEIGHTS];

/// How the heads of an attention pool are set, which no shape tells.
const HEADS: &str = "attention_heads=N";

/// A half of the model that has weights of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tower {
    /// Encoder, decoder, projection and attention pool.
    Image,
    /// Encoder and projection.
    Text,
}

impl Tower {
    /// A tensor that every file of the tower has.
    fn mark(self) -> &'static str {
        match self {
            Self::Image => "layer1.0.conv1.weight",
            Self::Text => "embeddings.word_embeddings.weight",
        }
    }

    /// How the names of its tensors begin in the model, its encoder first.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Image => {
                &["img_model.encoder.", "img_model.decoder.", "img_model.segmentation_head.", "proj_v.", "attnpool."]
            }
            Self::Text => &["lm_model.", "proj_t."],
        }
    }
}

/// Files that a model starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// Of the image tower.
    pub image: Option<PathBuf>,
    /// Of the text tower, or a folder as transformers has it.
    pub text: Option<PathBuf>,
}

impl Sources {
    /// Reads `image=FILE,text=FILE`, each at most once in all `words`.
    ///
    /// # Errors
    /// In words.
    pub fn parse<T: AsRef<str>>(words: &[T]) -> Result<Self, String> {
        let mut found = Self::default();
        for part in words.iter().flat_map(|word| word.as_ref().split(',')) {
            let (place, path) = match part.split_once('=') {
                Some(("image", path)) => (&mut found.image, path),
                Some(("text", path)) => (&mut found.text, path),
                _ => return Err(format!("--init {part}: write image=FILE,text=FILE, or one of them")),
            };
            if path.is_empty() || place.replace(path.into()).is_some() {
                return Err(format!("--init {part}: name one file for each of image and text"));
            }
        }
        Ok(found)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.image.is_none() && self.text.is_none()
    }

    /// Opens what there is, the image tower first; a file that holds both is read once.
    ///
    /// # Errors
    /// As [`Import::open`].
    pub fn open(&self) -> Result<Vec<Import>, WeightsError> {
        let mut found: Vec<Import> = Vec::new();
        for (tower, path) in [(Tower::Image, &self.image), (Tower::Text, &self.text)] {
            let Some(path) = path else { continue };
            let path = weights_file(path)?;
            let open = found.iter().map(|import| &import.file).find(|file| file.path() == path).cloned();
            let file = open.map_or_else(|| TensorFile::open(&path).map(Arc::new), Ok)?;
            found.push(Import::of(tower, file)?);
        }
        Ok(found)
    }
}

/// A tensor whose shape in the file was another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reshaped {
    /// The model's name.
    pub name: String,
    /// Extents in the file.
    pub from: Vec<usize>,
    /// Extents in the model.
    pub to: Vec<usize>,
    /// How the one became the other.
    pub how: &'static str,
}

/// What became of the names of a file and of a tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The tower.
    pub tower: Tower,
    /// The file.
    pub file: PathBuf,
    /// BLAKE3 of the file, hexadecimal.
    pub blake3: String,
    /// What the file is.
    pub format: Format,
    /// How the tower's names begin in it.
    pub prefix: String,
    /// Names of the model and of the file: what was read.
    pub loaded: Vec<(String, String)>,
    /// Names of the model that the file lacks: these start fresh.
    pub missing: Vec<String>,
    /// Names of the file that the model lacks: these were passed over.
    pub unexpected: Vec<String>,
    /// What was read from another shape.
    pub reshaped: Vec<Reshaped>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Report {
    /// Counts, in a line.
    pub fn summary(&self) -> String {
        let tower = match self.tower {
            Tower::Image => "image",
            Tower::Text => "text",
        };
        let [loaded, missing] = [self.loaded.len(), self.missing.len()];
        let [unexpected, reshaped] = [self.unexpected.len(), self.reshaped.len()];
        format!(
            "{tower} tower from {}: {loaded} loaded, {missing} missing (start fresh), {unexpected} unexpected (passed over), \
             {reshaped} reshaped",
            self.file.display()
        )
    }
}

/// Names of a kind that are shown.
const SHOWN: usize = 3;

/// Counts, notes and the first names of each kind.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  note        {note}"))?;
        let mut list = |kind: &str, names: Vec<String>| {
            names.iter().take(SHOWN).try_for_each(|name| writeln!(f, "  {kind:10}  {name}"))?;
            let more = names.len().saturating_sub(SHOWN);
            if more > 0 { writeln!(f, "  {:10}  and {more} more", "") } else { Ok(()) }
        };
        let reshaped = |Reshaped { name, from, to, how }: &Reshaped| format!("{name}  {from:?} to {to:?}, {how}");
        list("loaded", self.loaded.iter().map(|(name, from)| format!("{name}  from  {from}")).collect())?;
        list("missing", self.missing.clone())?;
        list("unexpected", self.unexpected.clone())?;
        list("reshaped", self.reshaped.iter().map(reshaped).collect())
    }
}

/// A file that holds a tower.
pub struct Import {
    tower: Tower,
    file: Arc<TensorFile>,
    prefix: String,
    vocabulary: Option<PathBuf>,
    /// What shapes do not tell and a configuration beside the file does: keys and values of ours.
    told: Vec<(&'static str, Json)>,
    notes: Vec<String>,
}

impl Import {
    /// Opens a file, or a folder as transformers writes it, and finds the tower in it. A vocabulary (`vocab.txt`, else
    /// `tokenizer.json`) or a BERT's `config.json` beside a text tower has to fit. Of files of our own the configuration is read:
    /// `config.json` beside them, or their run's.
    ///
    /// # Errors
    /// If it cannot be read, or does not hold the one tower.
    pub fn open(tower: Tower, path: &Path) -> Result<Self, WeightsError> {
        Self::of(tower, Arc::new(TensorFile::open(&weights_file(path)?)?))
    }

    fn of(tower: Tower, file: Arc<TensorFile>) -> Result<Self, WeightsError> {
        let path = file.path().to_owned();
        let prefix = prefix(tower, &file).map_err(|why| WeightsError::unusable(&path, why))?;
        let mut import = Self { tower, file, prefix, vocabulary: None, told: Vec::new(), notes: Vec::new() };
        // Of an attention pool that is not there nothing has to be told.
        let keys: &[&str] = match tower {
            Tower::Image if import.pooled() => &["attention_heads", "attention_head_dim"],
            Tower::Image => return Ok(import),
            Tower::Text => &["text_heads"],
        };
        import.told = beside::told(&path, keys)?;
        if tower == Tower::Text
            && let Some((vocabulary, pieces)) = beside::vocabulary(&path)?
        {
            let todo = "give the vocabulary that the weights were trained with";
            import
                .fits("the vocabulary beside it", pieces)
                .map_err(|why| WeightsError::unusable(&path, format!("{why}; {todo}")))?;
            import.vocabulary = Some(vocabulary);
        }
        Ok(import)
    }

    /// The vocabulary beside a text tower, if one is there; it has a piece for each row of the embedding, but for padding.
    pub fn vocabulary(&self) -> Option<&Path> {
        self.vocabulary.as_deref()
    }

    /// Rows of a text tower's word embedding.
    pub fn vocab_size(&self) -> Option<usize> {
        (self.tower == Tower::Text).then(|| self.extent(self.tower.mark(), 0))
    }

    /// Holds a text tower without a vocabulary of its own to the number of `pieces` in that of the shards.
    ///
    /// # Errors
    /// If its word embedding has another number of rows, and none that padding explains.
    pub fn packed_with(&mut self, pieces: usize) -> Result<(), WeightsError> {
        let todo = "pack them with the vocabulary that the weights were trained with, and put that beside the weights";
        self.fits("the vocabulary of the shards", pieces)
            .map_err(|why| WeightsError::unusable(self.file.path(), format!("{why}; {todo}")))
    }

    /// Holds the word embedding to the pieces of `vocabulary`.
    fn fits(&mut self, vocabulary: &str, pieces: usize) -> Result<(), String> {
        let rows = self.extent(self.tower.mark(), 0);
        let what = format!("{vocabulary} has {pieces} pieces, the word embedding has {rows} rows");
        // Some publish embeddings with rows put behind, up to a multiple of 8 to 128.
        if rows > pieces && rows - pieces < 128 && rows.is_multiple_of(8) {
            self.notes.push(format!("{what}: the last are taken for padding"));
        } else if rows != pieces {
            return Err(what);
        }
        Ok(())
    }

    /// Whether the file has an attention pool.
    fn pooled(&self) -> bool {
        self.place("attnpool.").is_some_and(|place| self.file.get(&format!("{place}positional_embedding")).is_some())
    }

    /// How the names of the model's `part` begin in the file, if the prefix tells.
    fn place(&self, part: &str) -> Option<String> {
        let encoder = &self.prefix;
        let model = || encoder.strip_suffix("encoder.");
        match part {
            "img_model.encoder." | "lm_model." => Some(encoder.clone()),
            "img_model.decoder." => Some(format!("{}decoder.", model()?)),
            "img_model.segmentation_head." => Some(format!("{}segmentation_head.", model()?)),
            "proj_t." => Some(format!("{}{part}", encoder.strip_suffix("lm_model.")?)),
            _ => Some(format!("{}{part}", model()?.strip_suffix("img_model.")?)),
        }
    }

    /// The name in the file of a tensor of the model, which begins with `part`; old BERTs call norms otherwise.
    fn named(&self, part: &str, name: &str) -> Option<String> {
        let theirs = format!("{}{}", self.place(part)?, name.strip_prefix(part)?);
        let old = || theirs.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        [theirs.clone(), old()].into_iter().find(|name| self.file.get(name).is_some())
    }

    /// An extent of a tensor of the encoder; 0 if there is none.
    fn extent(&self, name: &str, at: usize) -> usize {
        let tensor = self.file.get(&format!("{}{name}", self.prefix));
        tensor.and_then(|tensor| tensor.shape.get(at)).copied().unwrap_or(0)
    }

    /// How many of `name` there are: with 0, 1, ... put for `{}`.
    fn count(&self, name: &str) -> usize {
        (0..).take_while(|at| self.extent(&name.replace("{}", &at.to_string()), 0) > 0).count()
    }

    /// Keys and values of the configuration that follow from the tensors' shapes, and from a `config.json`.
    pub fn settings(&self) -> Vec<(&'static str, Json)> {
        let mut found = Vec::new();
        let part = |part: &str, name: &str| {
            let name = format!("{}{name}", self.place(part)?);
            self.file.get(&name)?.shape.first().copied()
        };
        let projection = match self.tower {
            Tower::Image => {
                let layers: Vec<usize> =
                    (1..5).map(|stage| self.count(&format!("layer{stage}.{{}}.conv1.weight"))).collect();
                found.push(("resnet_layers", json!(layers)));
                found.push(("resnet_width", json!(self.extent("conv1.weight", 0))));
                let channels = (0..5).map(|at| part("img_model.decoder.", &format!("blocks.{at}.conv1.0.weight")));
                found.extend(channels.collect::<Option<Vec<_>>>().map(|list| ("decoder_channels", json!(list))));
                let cells = part("attnpool.", "positional_embedding").map(|rows| (rows.max(1) - 1).isqrt());
                found.extend(cells.map(|cells| ("image_size", json!(32 * cells))));
                "proj_v."
            }
            Tower::Text => {
                let word = self.tower.mark();
                found.push(("vocab_size", json!(self.extent(word, 0))));
                found.push(("text_hidden", json!(self.extent(word, 1))));
                found.push(("max_positions", json!(self.extent("embeddings.position_embeddings.weight", 0))));
                found.push(("text_layers", json!(self.count("encoder.layer.{}.output.dense.weight"))));
                found.push(("text_intermediate", json!(self.extent("encoder.layer.0.intermediate.dense.weight", 0))));
                "proj_t."
            }
        };
        found.extend(self.told.iter().cloned());
        for (key, name) in [("projection_hidden", "0.weight"), ("projection_dim", "3.weight")] {
            found.extend(part(projection, name).map(|size| (key, json!(size))));
        }
        found
    }

    /// Refuses a model of other sizes than the file's.
    ///
    /// # Errors
    /// With what differs and the flags that make it match.
    pub fn check(&self, config: &Config) -> Result<(), WeightsError> {
        let settings = self.settings();
        let differing = |config: &Config| -> Vec<(&'static str, Json, Json)> {
            let own = serde_json::to_value(config).unwrap_or_default();
            let pairs = settings.iter().map(|(key, theirs)| (*key, theirs.clone(), own[*key].clone()));
            pairs.filter(|(_, theirs, own)| theirs != own).collect()
        };
        let found = differing(config);
        if found.is_empty() {
            return Ok(());
        }
        let words = |(key, theirs, own): &(&str, Json, Json)| format!("{key} is {theirs} there and {own} in the model");
        let preset = PRESETS.into_iter().find(|preset| {
            let config = Config::preset(preset).map(|preset| Config { vocab_size: config.vocab_size, ..preset });
            config.is_ok_and(|config| differing(&config).is_empty())
        });
        let plain = |value: &Json| value.to_string().replace(['[', ']'], "");
        let flags: Vec<String> = match preset {
            Some(preset) => vec![format!("--preset {preset}")],
            None => found.iter().map(|(key, theirs, _)| format!("--set {key}={}", plain(theirs))).collect(),
        };
        let differences: Vec<String> = found.iter().map(words).collect();
        let why = format!("it does not fit this model: {}; give {}", differences.join(", "), flags.join(" "));
        Err(WeightsError::unusable(self.file.path(), why))
    }

    /// Reads the tower's states of a program, which is of the model `config`.
    ///
    /// # Errors
    /// If tensors are missing within a part of the model that the file has, are of another shape or type, or hold numbers that
    /// are not finite; each is named.
    pub fn load(&self, program: &Program, config: &Config) -> Result<(Vec<(usize, Numbers)>, Report), WeightsError> {
        let mut load = Load::of(self, config);
        let states: Vec<usize> = names::weights(program);
        for &part in self.tower.parts() {
            let own: Vec<usize> =
                states.iter().copied().filter(|&at| program.states[at].name.starts_with(part)).collect();
            load.part(program, part, &own);
        }
        load.finish()
    }
}

/// Loading, and what was found so far.
struct Load<'a> {
    import: &'a Import,
    found: Vec<(usize, Numbers)>,
    used: BTreeSet<String>,
    report: Report,
    lacking: Vec<String>,
    misshapen: Vec<String>,
    astray: Vec<String>,
}

impl<'a> Load<'a> {
    fn of(import: &'a Import, config: &Config) -> Self {
        let mut notes = import.notes.clone();
        notes.extend(import.file.under.map(|key| format!("the tensors were taken from {key:?}")));
        let told = |key: &str| import.told.iter().any(|(told, _)| *told == key);
        if import.tower == Tower::Text && !told("text_heads") {
            let heads = config.text_heads;
            notes.push(format!(
                "no config.json beside it says how many heads it has: {heads} as in the model (text_heads)"
            ));
        }
        if import.tower == Tower::Text && import.vocabulary.is_none() {
            let trust = "that shards are packed with its vocabulary is taken on trust";
            notes.push(format!("neither vocab.txt nor tokenizer.json lies beside it: {trust}"));
        }
        if import.pooled() && !told("attention_heads") {
            let heads = config.attention_heads;
            notes.push(format!(
                "nothing says how many heads its attention pool has: {heads} as in the model; if it has others, --set {HEADS}"
            ));
        }
        let report = Report {
            tower: import.tower,
            file: import.file.path().into(),
            blake3: import.file.digest(),
            format: import.file.format,
            prefix: import.prefix.clone(),
            loaded: Vec::new(),
            missing: Vec::new(),
            unexpected: Vec::new(),
            reshaped: Vec::new(),
            notes,
        };
        let (found, used) = (Vec::new(), BTreeSet::new());
        Self { import, found, used, report, lacking: Vec::new(), misshapen: Vec::new(), astray: Vec::new() }
    }

    /// Reads the states `own` of a part of the model, all of them or none.
    fn part(&mut self, program: &Program, part: &str, own: &[usize]) {
        let heads = own.iter().filter(|&&at| program.states[at].name.ends_with(".bias")).count();
        if part.ends_with("segmentation_head.") && self.other_heads(part, heads) {
            return self.report.missing.extend(own.iter().map(|&at| program.states[at].name.clone()));
        }
        let theirs: Vec<Option<String>> =
            own.iter().map(|&at| self.import.named(part, &program.states[at].name)).collect();
        let held = theirs.iter().any(Option::is_some);
        for (&at, theirs) in own.iter().zip(theirs) {
            let state = &program.states[at];
            let head = head(part, &state.name).filter(|&head| theirs.is_none() && head > 0);
            let from = theirs.or_else(|| {
                self.import.named(part, &format!("{part}0.{}", last(&state.name)?)).filter(|_| head.is_some())
            });
            match from {
                Some(from) => self.take(program, at, from, head.unwrap_or(0)),
                None if held && !state.name.ends_with("num_batches_tracked") => self.lacking.push(state.name.clone()),
                None => self.report.missing.push(state.name.clone()),
            }
        }
    }

    /// Whether the file's segmentation head makes another number of maps than the model's.
    fn other_heads(&mut self, part: &str, heads: usize) -> bool {
        let Some(place) = self.import.place(part) else { return false };
        let of = |at: usize| self.import.file.get(&format!("{place}{at}.bias"));
        let Some(first) = of(0) else { return false };
        let maps = first.elements() + (1..).take_while(|&at| of(at).is_some()).count();
        if maps != heads {
            let note =
                format!("its segmentation head makes {maps} maps, the model's {heads}: the model's starts fresh");
            self.report.notes.push(note);
        }
        maps != heads
    }

    /// Reads one tensor; of a segmentation head for several maps, the row `row`.
    fn take(&mut self, program: &Program, at: usize, from: String, row: usize) {
        let state = &program.states[at];
        let Some(tensor) = self.import.file.get(&from) else { return };
        match reshape::read(program, state, &self.import.file, tensor, row) {
            Err(what) => self.misshapen.push(what),
            Ok((numbers, how)) => {
                self.astray.extend(numbers.astray(&from));
                if let Some(how) = how {
                    let (name, to) = (state.name.clone(), names::file_shape(program, state));
                    self.report.reshaped.push(Reshaped { name, from: tensor.shape.clone(), to, how });
                }
                self.report.loaded.push((state.name.clone(), from.clone()));
                self.found.push((at, numbers));
                self.used.insert(from);
            }
        }
    }

    fn finish(mut self) -> Result<(Vec<(usize, Numbers)>, Report), WeightsError> {
        let path = self.import.file.path();
        if !(self.lacking.is_empty() && self.misshapen.is_empty()) {
            let mut why = "it does not fit this model".to_owned();
            why += &list("missing", &self.lacking);
            why += &list("misshapen", &self.misshapen);
            why += ": give weights of the same sizes";
            if self.misshapen.iter().any(|what| what.starts_with("attnpool.")) {
                why += &format!(
                    ", or the heads of its attention pool by --set {HEADS}, their width by --set attention_head_dim=N"
                );
            }
            return Err(WeightsError::unusable(path, why));
        }
        if !self.astray.is_empty() {
            return Err(WeightsError::NotFinite { path: path.into(), tensors: self.astray });
        }
        let rest = self.import.file.tensors().keys().filter(|name| !self.used.contains(*name));
        self.report.unexpected = rest.cloned().collect();
        Ok((self.found, self.report))
    }
}

/// The number of the segmentation head that a name belongs to.
fn head(part: &str, name: &str) -> Option<usize> {
    name.strip_prefix(part).filter(|_| part.ends_with("segmentation_head."))?.split('.').next()?.parse().ok()
}

fn last(name: &str) -> Option<&str> {
    name.rsplit('.').next()
}

/// The file of weights that a path stands for: of a folder the one in it, of a run's the one in its newest checkpoint.
///
/// # Errors
/// If a folder holds none, or the checkpoint is not what was written.
pub fn weights_file(path: &Path) -> Result<PathBuf, WeightsError> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    if let Some(file) = FILES.iter().map(|name| path.join(name)).find(|file| file.is_file()) {
        return Ok(file);
    }
    let unusable = |why: String| WeightsError::unusable(path, why);
    let newest = folder::newest(path).map_err(|error| unusable(error.to_string()))?;
    let checkpoint = newest.ok_or_else(|| {
        unusable(format!("it is no run with a checkpoint, and holds none of {}; name a file", FILES.join(", ")))
    })?;
    folder::verify(&checkpoint).map_err(|error| unusable(error.to_string()))?;
    Ok(checkpoint.join(folder::WEIGHTS))
}

/// How the names of the tower's encoder begin in a file.
fn prefix(tower: Tower, file: &TensorFile) -> Result<String, String> {
    let mark = tower.mark();
    let ends = file.tensors().keys().filter_map(|name| name.strip_suffix(mark));
    let mut found: Vec<&str> = ends.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).collect();
    if tower == Tower::Image {
        found.retain(|prefix| file.get(&format!("{prefix}conv1.weight")).is_some());
    }
    match found[..] {
        [prefix] if tower == Tower::Image && file.get(&format!("{prefix}layer1.0.conv3.weight")).is_none() => {
            Err("its ResNet has basic blocks (ResNet-18 or 34), the model has bottlenecks: give a ResNet-50".into())
        }
        [prefix] => Ok(prefix.to_owned()),
        [] => {
            let what = if tower == Tower::Image { "ResNet under torchvision's" } else { "BERT under transformers'" };
            let names: Vec<&str> = file.tensors().keys().map(String::as_str).take(4).collect();
            Err(format!("it holds no {what} names: no tensor ends in {mark}; its first are {}", names.join(", ")))
        }
        _ => {
            Err(format!("it holds {} such towers, below {}; save the one that is meant", found.len(), found.join(", ")))
        }
    }
}
