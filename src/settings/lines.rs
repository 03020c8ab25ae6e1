//! On which line of a settings file each key stands.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// The line of each key of a TOML file, from 1, under the name that the file gives it; nothing if it cannot be read.
pub fn of_toml(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        walk("", table.get_ref(), text, &mut lines);
    }
    lines
}

fn walk(prefix: &str, table: &DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        if let DeValue::Table(inner) = value.get_ref() {
            walk(&name, inner, text, lines);
        }
        let before = text.as_bytes().get(..key.span().start).unwrap_or_default();
        lines.insert(name, 1 + before.iter().filter(|byte| **byte == b'\n').count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_key_has_its_line() {
        let text = "# top\nport = 1\n\n[destination]\ntag = \"\"\"\nsep = x\n\"\"\"\ntls.server_name = \"a\"\n\
                    relp = { window = 1 }\n[destination.x]\n\"quoted key\" = 2\n";
        let lines = of_toml(text);
        for (name, line) in [
            ("port", 2),
            ("destination.tag", 5),
            ("destination.tls.server_name", 8),
            ("destination.relp.window", 9),
            ("destination.x.quoted key", 11),
        ] {
            assert_eq!(lines.get(name), Some(&line), "{name} of {lines:?}");
        }
        assert!(!lines.contains_key("destination.sep"));
        assert!(of_toml("port = ").is_empty());
    }
}
