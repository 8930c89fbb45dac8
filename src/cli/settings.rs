//! Settings from a TOML file.

use toml::Value;

use crate::model::config::Config;
use crate::train::config::RunConfig;

/// Puts the keys of a file over `config`: plain keys as in `--set`, `[schedule]` as a table, `[[groups]]` as a list.
pub fn apply_toml(config: &mut RunConfig, text: &str) -> Result<(), String> {
    let table: toml::Table = text.parse().map_err(|error| one_line(text, &error))?;
    for (key, value) in &table {
        match value {
            Value::Table(fields) if key == "schedule" => {
                for (field, value) in fields {
                    set(config, &format!("schedule.{field}"), value)?;
                }
            }
            Value::Array(_) if key == "groups" => {
                config.train.groups = value.clone().try_into().map_err(|error| format!("groups: {error}"))?;
            }
            _ => set(config, key, value)?,
        }
    }
    Ok(())
}

/// Takes the model that a run's `config.json` describes, or that of imported weights.
pub fn apply_model(config: &mut RunConfig, text: &str) -> Result<(), String> {
    let own = serde_json::from_str::<RunConfig>(text).map(|run| run.model);
    config.model =
        own.or_else(|_| Config::from_json(text)).map_err(|error| format!("{error}; give a run's config.json"))?;
    Ok(())
}

/// The parser's own text shows the place over several lines.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message().trim().replace('\n', ", "))
}

fn set(config: &mut RunConfig, key: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    config.set(key, &text).map_err(|error| error.to_string())
}
