//! A refused setting.

use std::fmt;

/// Why a setting is refused: key, value unless secret, layer, rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    key: Option<String>,
    value: Option<String>,
    origin: Option<String>,
    rule: String,
}

impl Problem {
    /// A refusal that is about no single key.
    pub fn general(rule: impl Into<String>) -> Self {
        Self { key: None, value: None, origin: None, rule: rule.into() }
    }

    /// A refusal of a key.
    pub fn key(key: &str, rule: impl Into<String>) -> Self {
        Self { key: Some(key.to_owned()), ..Self::general(rule) }
    }

    /// Adds where the key was set.
    pub fn of(mut self, origin: &str) -> Self {
        self.origin = Some(origin.to_owned());
        self
    }

    /// Adds the value, cut and escaped for a terminal.
    pub fn with_value(mut self, value: &str) -> Self {
        let cut: String = value.chars().take(80).flat_map(char::escape_debug).collect();
        self.value = Some(if value.chars().nth(80).is_some() { format!("{cut}…") } else { cut });
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            f.write_str(key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            if let Some(origin) = &self.origin {
                write!(f, " ({origin})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.rule)
    }
}

impl Problem {
    /// Whether it is about this key.
    pub fn is_about(&self, key: &str) -> bool {
        self.key.as_deref() == Some(key)
    }

    /// Whether it is about a key of this section.
    pub fn is_in(&self, section: &str) -> bool {
        self.key.as_deref().and_then(|key| key.strip_prefix(section)).is_some_and(|rest| rest.starts_with('.'))
    }
}
