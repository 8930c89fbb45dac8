//! Settings from a TOML file.

use toml::Value;

use crate::train::config::RunConfig;

/// Puts the keys of a file over `config`: plain keys as in `--set`, `[schedule]` as a table, `[[groups]]` as a list.
pub fn apply_toml(config: &mut RunConfig, text: &str) -> Result<(), String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string().trim().to_string())?;
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

fn set(config: &mut RunConfig, key: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    config.set(key, &text).map_err(|error| error.to_string())
}
