//! Image encoder, decoder, projection and attention pool as an ONNX graph, by running statistics.
//!
//! | | name | shape | |
//! |---|---|---|---|
//! | input | `image` | [batch, 1, side, side] | gray values in [0, 1]; normalised within |
//! | output | `segmentation_logits` | [batch, masks, side, side] | before the sigmoid; absent without a decoder that learns masks |
//! | | `image_embedding` | [batch, projection_dim] | not normalised |
//! | | `attention_map` | [batch, heads, side / 32, side / 32] | of the attention pool |
//! | | `features` | [batch, 32 resnet_width] | mean of the deepest map |
//!
//! Operators are of opset 17; numbers of fields are those of onnx.proto, version 1.12 (IR 8).

use std::collections::BTreeMap;
use std::path::Path;

use super::{Model, WeightsError, write_beside};
use crate::base::protobuf::Message;
use crate::checkpoint::tensors::reals;
use crate::model::config::{Config, Normalise};

const IR: i64 = 8;
const OPSET: i64 = 17;
/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;
/// Longest message that protocol buffers take.
const LONGEST: usize = (1 << 31) - 1;

/// An attribute of a node.
enum Attribute {
    Integer(i64),
    Integers(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

struct Graph<'a> {
    config: &'a Config,
    /// Shape and numbers of everything that there is under published names, without `img_model.`.
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    nodes: Vec<Message>,
    constants: Vec<Message>,
    missing: Vec<String>,
}

/// Writes the graph to a file.
///
/// # Errors
/// If a tensor is missing or not finite, or the file cannot be written.
pub fn onnx(model: &Model<'_>, path: &Path) -> Result<(), WeightsError> {
    let config = model.config;
    let decodes = config.decoder_objective.segments();
    let mut tensors = model.named(&["proj_v.", "attnpool."], "")?;
    tensors.extend(if decodes { model.unet()? } else { model.named(&["img_model.encoder."], "img_model.")? });
    let numbers = |(name, tensor): (String, super::Outgoing<'_>)| {
        Some((name, (tensor.shape, reals(tensor.dtype, &tensor.data)?)))
    };
    let weights = tensors.into_iter().filter_map(numbers).collect();
    let mut graph = Graph { config, weights, nodes: Vec::new(), constants: Vec::new(), missing: Vec::new() };
    let mut outputs = Vec::new();
    let maps = graph.encoder();
    if decodes {
        let logits = graph.decoder(&maps);
        graph.node("Identity", &[&logits], "segmentation_logits", &[]);
        outputs.push(("segmentation_logits", vec![config.masks(), config.image_size, config.image_size]));
    }
    outputs.extend(graph.projection(&maps[4]));
    if !graph.missing.is_empty() {
        let why =
            format!("it lacks {}: export weights of the model that config.json describes", graph.missing.join(", "));
        return Err(WeightsError::unusable(model.weights.path(), why));
    }
    let bytes = graph.message(model, &outputs);
    if bytes.as_ref().len() > LONGEST {
        return Err(WeightsError::unusable(model.weights.path(), "the graph is longer than the 2 GiB that ONNX takes"));
    }
    write_beside(path, bytes.as_ref()).map_err(|source| WeightsError::File { path: path.into(), source })
}

impl Graph<'_> {
    /// Adds a node with one output, which has the name that is returned.
    fn node(&mut self, op: &str, inputs: &[&str], name: &str, attributes: &[(&str, Attribute)]) -> String {
        let node = Message::default().each(1, inputs).bytes(2, name).bytes(3, format!("{name}.node")).bytes(4, op);
        let node = attributes.iter().fold(node, |node, (name, value)| {
            let attribute = Message::default().bytes(1, name);
            node.bytes(
                5,
                match value {
                    Attribute::Float(number) => attribute.float(2, *number).integer(20, 1),
                    Attribute::Integer(number) => attribute.integer(3, *number).integer(20, 2),
                    Attribute::Text(text) => attribute.bytes(4, text).integer(20, 3),
                    Attribute::Integers(numbers) => {
                        numbers.iter().fold(attribute, |attribute, &number| attribute.integer(8, number)).integer(20, 7)
                    }
                },
            )
        });
        self.nodes.push(node);
        name.to_owned()
    }

    fn constant(&mut self, name: &str, shape: &[usize], kind: i64, raw: impl AsRef<[u8]>) -> String {
        let tensor = shape.iter().fold(Message::default(), |tensor, &extent| tensor.integer(1, extent as i64));
        self.constants.push(tensor.integer(2, kind).bytes(8, name).bytes(9, raw));
        name.to_owned()
    }

    fn floats(&mut self, name: &str, shape: &[usize], numbers: &[f32]) -> String {
        self.constant(name, shape, FLOAT, bytemuck::cast_slice::<f32, u8>(numbers))
    }

    fn integers(&mut self, name: &str, numbers: &[i64]) -> String {
        self.constant(name, &[numbers.len()], INT64, bytemuck::cast_slice::<i64, u8>(numbers))
    }

    /// Takes a tensor, as it is in the file.
    fn weight(&mut self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let found = self.weights.get(name).cloned();
        found.unwrap_or_else(|| {
            self.missing.push(name.into());
            (vec![0; 4], Vec::new())
        })
    }

    fn stored(&mut self, name: &str) -> String {
        let (shape, numbers) = self.weight(name);
        self.floats(name, &shape, &numbers)
    }

    fn convolution(&mut self, x: &str, name: &str, stride: i64, bias: bool) -> String {
        let kernel =
            self.weights.get(&format!("{name}.weight")).map_or(1, |(shape, _)| shape.last().copied().unwrap_or(1));
        let mut inputs = vec![x.to_owned(), self.stored(&format!("{name}.weight"))];
        if bias {
            inputs.push(self.stored(&format!("{name}.bias")));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let (kernel, pad) = (kernel as i64, kernel as i64 / 2);
        let attributes = [
            ("kernel_shape", Attribute::Integers(vec![kernel; 2])),
            ("strides", Attribute::Integers(vec![stride; 2])),
            ("pads", Attribute::Integers(vec![pad; 4])),
        ];
        self.node("Conv", &inputs, &format!("{name}.out"), &attributes)
    }

    /// Batch norm by running statistics; one without weights has ones and zeros.
    fn norm(&mut self, x: &str, name: &str, affine: bool) -> String {
        let [mean, variance] = ["running_mean", "running_var"].map(|end| self.stored(&format!("{name}.{end}")));
        let channels = self.weight(&format!("{name}.running_mean")).1.len();
        let mut scale = |end: &str, start: f32| {
            let name = format!("{name}.{end}");
            if affine { self.stored(&name) } else { self.floats(&name, &[channels], &vec![start; channels]) }
        };
        let (weight, bias) = (scale("weight", 1.0), scale("bias", 0.0));
        let inputs = [x, &weight, &bias, &mean, &variance];
        self.node("BatchNormalization", &inputs, &format!("{name}.out"), &[("epsilon", Attribute::Float(1e-5))])
    }

    fn relu(&mut self, x: &str) -> String {
        self.node("Relu", &[x], &format!("{x}.relu"), &[])
    }

    fn convolved(&mut self, x: &str, convolution: &str, norm: &str, stride: i64) -> String {
        let x = self.convolution(x, convolution, stride, false);
        let x = self.norm(&x, norm, true);
        self.relu(&x)
    }

    /// Three channels of the film, normalised.
    fn ingest(&mut self) -> String {
        let image = self.node("Concat", &["image"; 3], "channels", &[("axis", Attribute::Integer(1))]);
        if self.config.normalise == Normalise::Unit {
            return image;
        }
        let mean = self.floats("mean", &[1, 3, 1, 1], &[0.485, 0.456, 0.406]);
        let deviation = self.floats("deviation", &[1, 3, 1, 1], &[0.229, 0.224, 0.225]);
        let image = self.node("Sub", &[&image, &mean], "centred", &[]);
        self.node("Div", &[&image, &deviation], "normalised", &[])
    }

    /// The five maps of the encoder.
    fn encoder(&mut self) -> [String; 5] {
        let image = self.ingest();
        let stem = self.convolved(&image, "encoder.conv1", "encoder.bn1", 2);
        let attributes = [
            ("kernel_shape", Attribute::Integers(vec![3; 2])),
            ("strides", Attribute::Integers(vec![2; 2])),
            ("pads", Attribute::Integers(vec![1; 4])),
        ];
        let mut x = self.node("MaxPool", &[&stem], "encoder.maxpool.out", &attributes);
        let mut maps = [stem, String::new(), String::new(), String::new(), String::new()];
        for (stage, &blocks) in self.config.resnet_layers.iter().enumerate().take(4) {
            for block in 0..blocks {
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                x = self.bottleneck(&x, &format!("encoder.layer{}.{block}", stage + 1), stride);
            }
            maps[stage + 1].clone_from(&x);
        }
        maps
    }

    fn bottleneck(&mut self, x: &str, name: &str, stride: i64) -> String {
        let y = self.convolved(x, &format!("{name}.conv1"), &format!("{name}.bn1"), 1);
        let y = self.convolved(&y, &format!("{name}.conv2"), &format!("{name}.bn2"), stride);
        let y = self.convolution(&y, &format!("{name}.conv3"), 1, false);
        let y = self.norm(&y, &format!("{name}.bn3"), true);
        let skip = if self.weights.contains_key(&format!("{name}.downsample.0.weight")) {
            let skip = self.convolution(x, &format!("{name}.downsample.0"), stride, false);
            self.norm(&skip, &format!("{name}.downsample.1"), true)
        } else {
            x.to_owned()
        };
        let sum = self.node("Add", &[&y, &skip], &format!("{name}.sum"), &[]);
        self.relu(&sum)
    }

    /// Logits of the masks.
    fn decoder(&mut self, maps: &[String; 5]) -> String {
        let mut x = maps[4].clone();
        let scales = self.floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
        for at in 0..self.config.decoder_channels.len() {
            let name = format!("decoder.blocks.{at}");
            let attributes = [
                ("mode", Attribute::Text("nearest")),
                ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
                ("nearest_mode", Attribute::Text("floor")),
            ];
            x = self.node("Resize", &[&x, "", &scales], &format!("{name}.upsampled"), &attributes);
            if let Some(skip) = 3usize.checked_sub(at).map(|skip| &maps[skip]) {
                x = self.node("Concat", &[&x, skip], &format!("{name}.joined"), &[("axis", Attribute::Integer(1))]);
            }
            x = self.convolved(&x, &format!("{name}.conv1.0"), &format!("{name}.conv1.1"), 1);
            x = self.convolved(&x, &format!("{name}.conv2.0"), &format!("{name}.conv2.1"), 1);
        }
        self.convolution(&x, "segmentation_head.0", 1, true)
    }

    /// Mean of the deepest map, its projection and the attention pool. Returns names and extents of the outputs.
    fn projection(&mut self, deepest: &str) -> Vec<(&'static str, Vec<usize>)> {
        let cells = self.config.image_size / 32;
        let mean = [("axes", Attribute::Integers(vec![2, 3])), ("keepdims", Attribute::Integer(0))];
        self.node("ReduceMean", &[deepest], "features", &mean);
        let x = self.convolution(deepest, "proj_v.0", 1, false);
        let x = self.norm(&x, "proj_v.1", false);
        let x = self.relu(&x);
        let x = self.convolution(&x, "proj_v.3", 1, false);
        let tokens = self.tokens(&x, cells * cells);
        let (context, map) = self.attend(&tokens);
        let shape = self.integers("map.shape", &[0, self.config.attention_heads as i64, cells as i64, cells as i64]);
        self.node("Reshape", &[&map, &shape], "attention_map", &[]);
        let context = self.dense(&context, "attnpool.mhsa.out_proj", "attnpool.pooled");
        self.dense(&context, "attnpool.c_proj", "image_embedding");
        vec![
            ("image_embedding", vec![self.config.projection_dim]),
            ("attention_map", vec![self.config.attention_heads, cells, cells]),
            ("features", vec![32 * self.config.resnet_width]),
        ]
    }

    fn dense(&mut self, x: &str, name: &str, out: &str) -> String {
        let [weight, bias] = ["weight", "bias"].map(|end| self.stored(&format!("{name}.{end}")));
        self.node("Gemm", &[x, &weight, &bias], out, &[("transB", Attribute::Integer(1))])
    }

    fn transpose(&mut self, x: &str, order: &[i64], name: &str) -> String {
        self.node("Transpose", &[x], name, &[("perm", Attribute::Integers(order.into()))])
    }

    /// The mean cell, then the cells, [batch, cells + 1, projection_dim], each with its place.
    fn tokens(&mut self, x: &str, cells: usize) -> String {
        let shape = self.integers("cells.shape", &[0, self.config.projection_dim as i64, cells as i64]);
        let x = self.node("Reshape", &[x, &shape], "cells.flat", &[]);
        let x = self.transpose(&x, &[0, 2, 1], "cells");
        let mean = [("axes", Attribute::Integers(vec![1])), ("keepdims", Attribute::Integer(1))];
        let mean = self.node("ReduceMean", &[&x], "cells.mean", &mean);
        let x = self.node("Concat", &[&mean, &x], "tokens.plain", &[("axis", Attribute::Integer(1))]);
        let place = self.stored("attnpool.positional_embedding");
        self.node("Add", &[&x, &place], "tokens", &[])
    }

    /// What the first token finds in all of them: context [batch, heads x head size] and its shares of the cells
    /// [batch, heads, 1, cells].
    fn attend(&mut self, tokens: &str) -> (String, String) {
        let (heads, size) = (self.config.attention_heads as i64, self.config.head_dim() as i64);
        let (zero, one, last) =
            (self.integers("at.0", &[0]), self.integers("at.1", &[1]), self.integers("at.end", &[i64::MAX]));
        let [axis1, axis3] = [("axis.1", 1), ("axis.3", 3)].map(|(name, axis)| self.integers(name, &[axis]));
        let first = self.node("Slice", &[tokens, &zero, &one, &axis1], "tokens.first", &[]);
        let shape = self.integers("heads.shape", &[0, -1, heads, size]);
        let inner = (heads * size) as usize;
        let mut part = |at: usize, from: &str, order: [i64; 4], name: &str| {
            let x = self.in_projection(from, at, inner, name);
            let x = self.node("Reshape", &[&x, &shape], &format!("{name}.heads"), &[]);
            self.transpose(&x, &order, name)
        };
        let query = part(0, &first, [0, 2, 1, 3], "query");
        let key = part(1, tokens, [0, 2, 3, 1], "key");
        let value = part(2, tokens, [0, 2, 1, 3], "value");
        let scale = self.floats("scale", &[], &[(size as f32).sqrt()]);
        let scores = self.node("MatMul", &[&query, &key], "scores.plain", &[]);
        let scores = self.node("Div", &[&scores, &scale], "scores", &[]);
        let shares = self.node("Softmax", &[&scores], "shares", &[("axis", Attribute::Integer(-1))]);
        let context = self.node("MatMul", &[&shares, &value], "context.heads", &[]);
        let shape = self.integers("context.shape", &[0, inner as i64]);
        let context = self.node("Reshape", &[&context, &shape], "context", &[]);
        let map = self.node("Slice", &[&shares, &one, &last, &axis3], "shares.cells", &[]);
        (context, map)
    }

    /// Third `at` of the attention's common projection: x · Wᵀ + b.
    fn in_projection(&mut self, x: &str, at: usize, inner: usize, name: &str) -> String {
        let (shape, weight) = self.weight("attnpool.mhsa.in_proj_weight");
        let (_, bias) = self.weight("attnpool.mhsa.in_proj_bias");
        let width = shape.get(1).copied().unwrap_or(0);
        let rows = weight.get(at * inner * width..(at + 1) * inner * width);
        let (Some(rows), Some(bias)) = (rows, bias.get(at * inner..(at + 1) * inner)) else {
            self.missing.push(format!("rows of attnpool.mhsa.in_proj for {inner} numbers"));
            return x.to_owned();
        };
        let turned: Vec<f32> =
            (0..width).flat_map(|column| (0..inner).map(move |row| rows[row * width + column])).collect();
        let weight = self.floats(&format!("{name}.weight"), &[width, inner], &turned);
        let bias = self.floats(&format!("{name}.bias"), &[inner], bias);
        let x = self.node("MatMul", &[x, &weight], &format!("{name}.product"), &[]);
        self.node("Add", &[&x, &bias], &format!("{name}.flat"), &[])
    }

    /// The whole, as a `ModelProto`.
    fn message(self, model: &Model<'_>, outputs: &[(&str, Vec<usize>)]) -> Message {
        let side = self.config.image_size;
        let graph = Message::default().each(1, self.nodes).bytes(2, "g2d").each(5, self.constants);
        let graph = graph.bytes(11, tensor("image", &[1, side, side]));
        let graph = outputs.iter().fold(graph, |graph, (name, extents)| graph.bytes(12, tensor(name, extents)));
        let message = Message::default().integer(1, IR).bytes(2, "g2d").bytes(3, env!("CARGO_PKG_VERSION"));
        let message = message.bytes(7, graph).bytes(8, Message::default().bytes(1, "").integer(2, OPSET));
        let words = model.provenance.iter().map(|(key, value)| Message::default().bytes(1, key).bytes(2, value));
        message.each(14, words)
    }
}

/// A `ValueInfoProto` of real numbers [batch, ..].
fn tensor(name: &str, extents: &[usize]) -> Message {
    let batch = Message::default().bytes(2, "batch");
    let known = extents.iter().map(|&extent| Message::default().integer(1, extent as i64));
    let shape = Message::default().each(1, std::iter::once(batch).chain(known));
    let kind = Message::default().integer(1, FLOAT).bytes(2, shape);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, kind))
}
