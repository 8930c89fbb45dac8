//! The words of reports in each style. `{size}`, `{side}`, `{zone}`, `{noun}`, `{nouns}`, `{grade}`, `{view}`, `{phrase}`,
//! `{a}`, `{is}` stand for what the finding decides.

use super::finding::Kind;

/// A line on the rest of the film, and the kinds that it denies.
pub(super) type Rest = (&'static [Kind], &'static str);

/// What a style's reports are made of.
pub(super) struct Words {
    /// Singular and plural of each kind that lies in a lung.
    pub opacity: &'static [[&'static str; 2]],
    pub consolidation: &'static [[&'static str; 2]],
    pub nodule: &'static [[&'static str; 2]],
    pub effusion: &'static [[&'static str; 2]],
    pub pneumothorax: &'static [[&'static str; 2]],
    /// Details that go with these kinds, in this order; no word of another kind, side, zone or size is in them.
    pub details: [&'static str; 5],
    /// Phrases on a finding of one lung, of both lungs, and on the heart.
    pub one_side: &'static [&'static str],
    pub both_sides: &'static [&'static str],
    pub heart: &'static [&'static str],
    /// Phrases on devices.
    pub endotracheal_tube: &'static [&'static str],
    pub nasogastric_tube: &'static [&'static str],
    pub central_line: &'static [&'static str],
    pub chest_tube: &'static [&'static str],
    pub pacemaker: &'static [&'static str],
    /// Upper, middle and lower third of a lung.
    pub zones: [&'static str; 3],
    /// Small, moderate and large hearts.
    pub grades: [&'static str; 3],
    /// Sentences around a phrase.
    pub sentences: &'static [&'static str],
    /// Sentences on a film without findings.
    pub normal: &'static [&'static str],
    /// A line is used only where none of its kinds is present, and each kind is denied at most once.
    pub rest: &'static [Rest],
    /// Sentences that may begin a report.
    pub openings: &'static [&'static str],
    /// Whether findings come after the rest.
    pub findings_last: bool,
}

const LUNGS: &[Kind] = &[Kind::Opacity, Kind::Consolidation, Kind::Nodule, Kind::Effusion, Kind::Pneumothorax];

pub(super) const TRAINING: Words = Words {
    opacity: &[
        ["hazy opacity", "hazy opacities"],
        ["ill-defined opacity", "ill-defined opacities"],
        ["patchy opacity", "patchy opacities"],
        ["ground-glass opacity", "ground-glass opacities"],
    ],
    consolidation: &[
        ["consolidation", "consolidations"],
        ["dense consolidation", "dense consolidations"],
        ["airspace consolidation", "airspace consolidations"],
        ["focal consolidation", "focal consolidations"],
    ],
    nodule: &[["nodule", "nodules"], ["rounded nodule", "rounded nodules"], ["pulmonary nodule", "pulmonary nodules"]],
    effusion: &[["pleural effusion", "pleural effusions"]],
    pneumothorax: &[["pneumothorax", "pneumothoraces"]],
    details: [
        " with preserved vessels",
        " with air bronchograms",
        " with smooth margins",
        " with blunting of the costophrenic angle",
        " with a visible pleural line",
    ],
    one_side: &[
        "{size} {noun} in the {side} {zone} zone",
        "{size} {noun} in the {zone} zone of the {side} lung",
        "{size} {side} {zone} zone {noun}",
        "{size} {side} {noun} in the {zone} zone",
    ],
    both_sides: &[
        "{size} bilateral {nouns} in the {zone} zones",
        "{size} bilateral {zone} zone {nouns}",
        "{size} {nouns} in both {zone} zones, bilateral",
    ],
    heart: &[
        "{grade} cardiomegaly",
        "{grade} cardiomegaly with enlarged cardiac silhouette",
        "{grade} cardiomegaly with enlarged heart",
    ],
    endotracheal_tube: &["endotracheal tube with tip above the carina", "endotracheal tube within the trachea"],
    nasogastric_tube: &["nasogastric tube with tip in the stomach", "nasogastric tube below the diaphragm"],
    central_line: &[
        "{side} central venous catheter with tip in the superior vena cava",
        "{side} central venous catheter",
    ],
    chest_tube: &["{side} chest tube", "{side} chest tube with tip towards the apex"],
    pacemaker: &["{side} pacemaker with leads over the heart", "{side} chest wall pacemaker"],
    zones: ["upper", "mid", "lower"],
    grades: ["mild", "moderate", "severe"],
    sentences: &["{phrase}.", "There {is} {a}{phrase}.", "{a}{phrase} {is} seen.", "{a}{phrase} {is} present."],
    normal: &[
        "Normal chest radiograph.",
        "No acute cardiopulmonary abnormality.",
        "Normal study.",
        "No acute cardiopulmonary disease.",
        "The chest is normal.",
    ],
    rest: &[
        (&[Kind::Effusion, Kind::Pneumothorax], "No pleural effusion or pneumothorax."),
        (&[Kind::Effusion, Kind::Pneumothorax], "There is no pneumothorax or pleural effusion."),
        (&[Kind::Consolidation, Kind::Effusion], "No focal consolidation or pleural effusion."),
        (
            &[Kind::Consolidation, Kind::Effusion, Kind::Pneumothorax],
            "No consolidation, pleural effusion or pneumothorax.",
        ),
        (&[Kind::Effusion], "No pleural effusion."),
        (&[Kind::Effusion], "There is no pleural effusion."),
        (&[Kind::Effusion], "The costophrenic angles are sharp."),
        (&[Kind::Pneumothorax], "No pneumothorax."),
        (&[Kind::Pneumothorax], "There is no evidence of pneumothorax."),
        (&[Kind::Consolidation], "No focal consolidation."),
        (&[Kind::Consolidation, Kind::Opacity], "No consolidation or opacity."),
        (&[Kind::Nodule], "No pulmonary nodule is identified."),
        (LUNGS, "The lungs are clear."),
        (LUNGS, "Clear lungs."),
        (&[Kind::Cardiomegaly], "Heart size is normal."),
        (&[Kind::Cardiomegaly], "The heart is normal in size."),
        (&[Kind::Cardiomegaly], "Normal cardiac silhouette."),
        (&[Kind::Cardiomegaly], "The heart is not enlarged."),
        (&[Kind::Cardiomegaly], "No cardiomegaly."),
        (&[], "The mediastinal contours are unremarkable."),
        (&[], "The mediastinum is not widened."),
        (&[], "The trachea is midline."),
        (&[], "No acute bony abnormality."),
        (&[], "The bones are intact."),
        (&[], "No rib fracture is seen."),
        (&[], "The hila are normal."),
    ],
    openings: &["{view} chest radiograph.", "{view} view of the chest."],
    findings_last: false,
};

/// Most words are words of training too, or made of their pieces: a model that never met a word knows nothing of it.
pub(super) const EVALUATION: Words = Words {
    opacity: &[
        ["area of hazy opacity", "areas of hazy opacity"],
        ["patchy opacification", "areas of patchy opacification"],
        ["ground-glass density", "ground-glass densities"],
        ["hazy infiltrate", "hazy infiltrates"],
    ],
    consolidation: &[
        ["focus of consolidation", "foci of consolidation"],
        ["area of dense airspace disease", "areas of dense airspace disease"],
        ["consolidated area", "consolidated areas"],
    ],
    nodule: &[
        ["nodular density", "nodular densities"],
        ["round lesion", "round lesions"],
        ["lung nodule", "lung nodules"],
    ],
    effusion: &[["effusion", "effusions"], ["amount of pleural fluid", "amounts of pleural fluid"]],
    pneumothorax: &[["pneumothorax", "pneumothoraces"], ["amount of pleural air", "amounts of pleural air"]],
    details: [
        " with visible vessels",
        " with bronchograms",
        " with a round margin",
        " blunting the costophrenic angle",
        " with the pleural line visible",
    ],
    one_side: &[
        "{size} {noun} within the {zone} zone of the {side} lung",
        "{size} {noun} of the {side} {zone} lung",
        "{size} {side}-sided {zone} lung {noun}",
        "{size} {zone} lung {noun} on the {side}",
    ],
    both_sides: &[
        "{size} {nouns} within the {zone} zone of both lungs",
        "{size} {zone} lung {nouns} on both sides",
        "{size} {nouns} of both {zone} lungs",
    ],
    heart: &["{grade} enlargement of the heart", "{grade} cardiac enlargement", "{grade} cardiomegaly by size"],
    endotracheal_tube: &["tracheal tube ending above the carina", "endotracheal airway within the trachea"],
    nasogastric_tube: &["feeding tube ending in the stomach", "gastric tube seen below the diaphragm"],
    central_line: &["{side} central line ending in the superior vena cava", "{side} venous line"],
    chest_tube: &["{side} pleural drain", "{side} thoracic drain ending at the apex"],
    pacemaker: &["{side} pacing device with leads at the heart", "{side} cardiac pacemaker device"],
    zones: ["upper", "mid", "lower"],
    grades: ["slight", "moderate", "marked"],
    sentences: &[
        "{a}{phrase} {is} noted.",
        "Radiograph with {a}{phrase}.",
        "Evidence of {a}{phrase}.",
        "{a}{phrase} {is} identified.",
    ],
    normal: &[
        "Unremarkable chest.",
        "Radiograph within normal limits.",
        "Normal heart and lungs.",
        "Negative for acute disease.",
        "Unremarkable cardiopulmonary status.",
    ],
    rest: &[
        (&[Kind::Effusion, Kind::Pneumothorax], "The pleural spaces are free of fluid and air."),
        (&[Kind::Effusion, Kind::Pneumothorax], "Neither pneumothorax nor effusion is seen."),
        (&[Kind::Consolidation, Kind::Effusion], "Consolidation or effusion is not seen."),
        (
            &[Kind::Consolidation, Kind::Effusion, Kind::Pneumothorax],
            "Consolidation, effusion and pneumothorax are absent.",
        ),
        (&[Kind::Effusion], "Pleural effusion is not seen."),
        (&[Kind::Effusion], "Negative for pleural effusion."),
        (&[Kind::Effusion], "Both costophrenic angles are preserved."),
        (&[Kind::Pneumothorax], "Pneumothorax is not identified."),
        (&[Kind::Pneumothorax], "Without evidence of pneumothorax."),
        (&[Kind::Consolidation], "Airspace disease is not present."),
        (&[Kind::Consolidation, Kind::Opacity], "Neither opacity nor consolidation is identified."),
        (&[Kind::Nodule], "Without pulmonary nodules."),
        (LUNGS, "Both lungs are free of disease."),
        (LUNGS, "Lungs within normal limits."),
        (&[Kind::Cardiomegaly], "Heart within normal limits."),
        (&[Kind::Cardiomegaly], "Cardiac size is preserved."),
        (&[Kind::Cardiomegaly], "The cardiac silhouette is unremarkable."),
        (&[Kind::Cardiomegaly], "Cardiomegaly is not seen."),
        (&[Kind::Cardiomegaly], "The heart is of normal size."),
        (&[], "The mediastinum is central."),
        (&[], "Normal mediastinal margins."),
        (&[], "Trachea in the midline."),
        (&[], "The ribs are intact."),
        (&[], "Bony fracture is not seen."),
        (&[], "The hilar contours are preserved."),
        (&[], "Unremarkable chest wall."),
    ],
    openings: &["Frontal {view} view.", "{view} radiograph of the chest."],
    findings_last: true,
};
