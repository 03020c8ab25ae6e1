//! On which line of a settings file each key stands, and what of YAML is not taken.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::Marker;

/// The line of each key, from 1, under the name that the file gives it.
pub type Lines = BTreeMap<String, usize>;

/// Sections in sections; ours are two deep.
const DEEPEST: usize = 16;

/// Of a TOML file; nothing if it cannot be read.
pub fn of_toml(text: &str) -> Lines {
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        walk("", table.get_ref(), text, &mut lines);
    }
    lines
}

fn walk(prefix: &str, table: &DeTable<'_>, text: &str, lines: &mut Lines) {
    for (key, value) in table {
        let name = below(prefix, key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            walk(&name, inner, text, lines);
        }
        let before = text.as_bytes().get(..key.span().start).unwrap_or_default();
        lines.insert(name, 1 + before.iter().filter(|byte| **byte == b'\n').count());
    }
}

fn below(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// A list or a section that is being read.
struct Open {
    name: String,
    is_section: bool,
    /// The key whose value comes next.
    key: Option<String>,
}

/// Of a YAML file.
///
/// # Errors
/// It is none, or has what is not taken: what and where, without a word of the file, which may hold a secret.
pub fn of_yaml(text: &str) -> Result<Lines, String> {
    let mut lines = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut documents = 0;
    // Event by event: the library's own loader calls itself for what lies in something else, however deep.
    let mut parser = Parser::new_from_str(text);
    loop {
        let (event, mark) = parser.next_token().map_err(|e| format!("is not valid YAML, {}", place(e.marker())))?;
        let refused = |what: &str| Err(format!("{what}, {}", place(&mark)));
        match event {
            Event::StreamEnd => return Ok(lines),
            Event::DocumentStart => {
                documents += 1;
                if documents > 1 {
                    return refused("has a second document; write one");
                }
            }
            Event::Alias(_) => return refused("has an alias; write the value itself"),
            Event::Scalar(text, ..) => match open.last_mut() {
                Some(Open { name, is_section: true, key: key @ None }) => {
                    let named = below(name, &text);
                    if let Some(earlier) = lines.insert(named.clone(), mark.line()) {
                        return refused(&format!("has a key twice, first on line {earlier} and again"));
                    }
                    *key = Some(named);
                }
                Some(section) => section.key = None,
                None => {}
            },
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let name = match open.last() {
                    Some(Open { is_section: true, key: None, .. }) => return refused("has a key that is no text"),
                    Some(Open { key, name, .. }) => key.as_ref().unwrap_or(name).clone(),
                    None => String::new(),
                };
                if open.len() == DEEPEST {
                    return refused("has too many sections in sections");
                }
                open.push(Open { name, is_section: matches!(event, Event::MappingStart(..)), key: None });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                if let Some(outer) = open.last_mut() {
                    outer.key = None;
                }
            }
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
        }
    }
}

fn place(mark: &Marker) -> String {
    format!("line {}, column {}", mark.line(), mark.col() + 1)
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

    #[test]
    fn every_way_to_write_a_key_in_yaml_has_its_line() {
        let text = "# top\nport: 1\n\ndestination:\n  tag: |\n    sep: x\n  list:\n    - a: 1\n    - [b, {c: 2}]\n  relp: {\n    \
                    window: 1 }\n  \"quoted key\": 2\n  tls:\n    server_name:\n      a\ndestination.sep: x\n";
        let lines = of_yaml(text).expect("YAML");
        for (name, line) in [
            ("port", 2),
            ("destination", 4),
            ("destination.tag", 5),
            ("destination.relp.window", 11),
            ("destination.quoted key", 12),
            ("destination.tls.server_name", 14),
            ("destination.sep", 16),
        ] {
            assert_eq!(lines.get(name), Some(&line), "{name} of {lines:?}");
        }
        for empty in ["", "# nothing\n", "---\n"] {
            assert_eq!(of_yaml(empty), Ok(Lines::new()), "{empty:?}");
        }
    }
}
