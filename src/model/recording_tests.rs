//! Recordings of every preset and recipe: they are made, name what is published, and hold together.

use std::collections::HashSet;

use super::*;
use crate::base::Kind;
use crate::model::config::{DecoderObjective, MaskAggregation, MaskUpsample, PRESETS, RECIPES};
use crate::program::Program;
use crate::program::record::{Origin, Role, State};

const SHAPES: Shapes = Shapes { batch: 2, text_len: 8, source: Source::Numbers };

fn step(config: &Config, phase: Phase) -> Program {
    let mut r = record_step(config, &SHAPES, phase, Reports::Tokens).unwrap();
    let group = Group::all(r.program(), config);
    optimize(&mut r, &[group]).unwrap();
    r.finish()
}

fn elements(program: &Program, wanted: impl Fn(usize) -> bool) -> usize {
    let states = program.states.iter().enumerate().filter(|&(at, _)| wanted(at));
    states.map(|(_, state)| program.spec(state.value).shape.elements()).sum()
}

#[test]
fn every_preset_and_recipe_is_recorded() {
    for preset in PRESETS {
        for recipe in RECIPES {
            let config = Config::preset(preset).unwrap().with_recipe(recipe).unwrap();
            for source in [Source::Bytes, Source::Numbers] {
                let shapes = Shapes { source, ..SHAPES };
                record_evaluate(&config, &shapes).unwrap();
                record_segment(&config, &shapes).unwrap();
                record_step(&config, &shapes, Phase::Full, Reports::Tokens).unwrap();
            }
            let program = step(&config, Phase::Full);
            assert_eq!(program.gradients.len(), optimizer::trainable(&program).count(), "{preset} {recipe}");
            for &(at, gradient) in &program.gradients {
                let state = &program.states[at];
                assert_eq!(program.spec(gradient), program.spec(state.value), "{}", state.name);
            }
        }
    }
}

#[test]
fn full_has_the_published_number_of_parameters() {
    let program = step(&Config::default(), Phase::Full);
    let role = |at: usize| program.states[at].role;
    let parameters = elements(&program, |at| matches!(role(at), Role::Parameter { .. }));
    let (total, dead_convolution, pooler) = (141_446_673, 131_200, 590_592);
    assert_eq!(parameters, total - dead_convolution - pooler);
    let trainable = elements(&program, |at| role(at) == Role::Parameter { trainable: true });
    assert_eq!(trainable, 77_655_825 - dead_convolution - pooler);
    let part = |prefix: &str| {
        elements(&program, |at| {
            program.states[at].name.starts_with(prefix) && matches!(role(at), Role::Parameter { .. })
        })
    };
    assert_eq!(part("img_model.encoder."), 23_508_032);
    assert_eq!(part("img_model.decoder.") + part("img_model.segmentation_head."), 9_013_073);
    assert_eq!([part("proj_v."), part("attnpool."), part("proj_t.")], [278_528, 90_880, 114_688]);
    assert_eq!(part("lm_model."), 108_310_272 - pooler);
    assert_eq!(part("lm_model.encoder.layer.0."), 7_087_872);
}

#[test]
fn names_are_distinct_and_phases_share_their_states() {
    let config = Config::preset("tiny").unwrap();
    let (full, warmup) = (step(&config, Phase::Full), step(&config, Phase::Warmup));
    let names = |program: &Program| program.states.iter().map(|state| state.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&full), names(&warmup));
    assert_eq!(names(&full).into_iter().collect::<HashSet<_>>().len(), full.states.len());
    let without: Vec<&str> = optimizer::trainable(&warmup)
        .filter(|at| warmup.gradients.iter().all(|(with, _)| with != at))
        .map(|at| warmup.states[at].name.as_str())
        .collect();
    let decodes = |name: &&str| name.starts_with("img_model.decoder.") || name.starts_with("img_model.segmentation_");
    assert_eq!(without.len(), 5 * 2 * 3 + 2);
    assert!(without.iter().all(decodes), "{without:?}");
    let unweighted = step(&Config { segmentation_weight: 0.0, ..config }, Phase::Full);
    assert_eq!(unweighted.gradients.len(), warmup.gradients.len());
}

#[test]
fn every_statistic_moves_and_every_trainable_parameter_is_updated() {
    let config = Config::preset("micro").unwrap();
    for phase in [Phase::Warmup, Phase::Full] {
        let program = step(&config, phase);
        let mut updated = vec![0; program.states.len()];
        for node in &program.nodes {
            for overwrite in node.overwrites.iter().flatten().filter(|overwrite| overwrite.must) {
                let Origin::State(at) = program.values[node.inputs[overwrite.input].index()].origin else {
                    panic!("{} updates what is no state", node.scope)
                };
                updated[at] += 1;
            }
        }
        for (state, updated) in program.states.iter().zip(updated) {
            let frozen = state.role == Role::Parameter { trainable: false };
            assert_eq!(updated, usize::from(!frozen), "{}", state.name);
            assert_eq!(frozen, state.name.starts_with("lm_model.encoder.layer.0."), "{}", state.name);
        }
    }
    let evaluated = record_evaluate(&config, &SHAPES).unwrap().finish();
    assert!(evaluated.nodes.iter().all(|node| node.overwrites.iter().flatten().all(|overwrite| !overwrite.must)));
}

#[test]
fn decoders_have_the_heads_that_their_objective_asks_for() {
    let heads = |decoder_objective, mask_aggregation| {
        let config = Config { decoder_objective, mask_aggregation, ..Config::preset("micro").unwrap() };
        let program = step(&config, Phase::Full);
        let decodes = program.states.iter().any(|state| state.name.starts_with("img_model.decoder."));
        assert_eq!(decodes, decoder_objective != DecoderObjective::None);
        let name = |state: &State| {
            state.name.strip_prefix("img_model.segmentation_head.")?.strip_suffix(".bias").map(str::to_owned)
        };
        program.states.iter().filter_map(name).collect::<Vec<_>>()
    };
    let each = ["0", "1", "2", "3"];
    assert_eq!(heads(DecoderObjective::PseudoSegmentation, MaskAggregation::Mean), each[..1]);
    assert_eq!(heads(DecoderObjective::PseudoSegmentation, MaskAggregation::PerHead), each);
    assert_eq!(heads(DecoderObjective::ShuffledMasks, MaskAggregation::PerHead), each);
    assert_eq!(heads(DecoderObjective::Reconstruction, MaskAggregation::PerHead), each[..1]);
    assert_eq!(heads(DecoderObjective::None, MaskAggregation::PerHead), each[..0]);
}

#[test]
fn outputs_are_those_of_the_specification() {
    let config = Config { mask_upsample: MaskUpsample::Bilinear, ..Config::preset("micro").unwrap() };
    let program = step(&config, Phase::Full);
    for (name, dims) in [
        ("out.image_embedding", &[2, 16][..]),
        ("out.text_embedding", &[2, 16]),
        ("out.attention_map", &[2, 4, 2, 2]),
        ("out.segmentation_logits", &[2, 64, 64, 1]),
        ("out.pseudo_mask", &[2, 64, 64]),
        ("loss.contrastive", &[1]),
        ("loss.segmentation", &[1]),
        ("loss.total", &[1]),
        ("top1", &[1]),
        ("top5", &[1]),
        ("finite", &[2]),
    ] {
        let spec = program.spec(program.output(name).unwrap());
        assert_eq!((spec.shape.dims(), spec.kind), (dims, Kind::Exact), "{name}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let micro = Config::preset("micro").unwrap();
    let refused = |config: Config, shapes: Shapes| {
        record_step(&config, &shapes, Phase::Full, Reports::Tokens).map(|_| ()).unwrap_err().to_string()
    };
    let error = refused(Config { attention_heads: 0, ..micro.clone() }, SHAPES);
    assert!(error.contains("attention_heads is 0"), "{error}");
    let error = refused(micro.clone(), Shapes { text_len: 33, ..SHAPES });
    assert!(error.contains("max_positions"), "{error}");
    let error = refused(micro.clone(), Shapes { batch: 0, ..SHAPES });
    assert!(error.contains("batch of 0"), "{error}");
    let shuffled = Config { decoder_objective: DecoderObjective::ShuffledMasks, ..micro.clone() };
    let error = refused(shuffled, Shapes { batch: 1, ..SHAPES });
    assert!(error.contains("decoder_objective is shuffled-masks"), "{error}");
    let error = refused(Config { image_size: 32, ..micro }, Shapes { batch: 1, ..SHAPES });
    assert!(error.contains("layer4.0.bn2"), "{error}");
}
