//! The four layers: what each says, under which name, and where it was read.
//!
//! Each layer is collected by the `config` crate and then named canonically here, because a conflict between two names
//! of one key, an unknown key or a wrong value has to be told with the file, variable or flag that the user wrote.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::Problem;
use super::flags::Layers;
use super::keys::{self, KEYS, Key};
use super::{lines, variables};

/// What an operator reads first; its values are the lowest layer.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

const PREFIX: &str = "SLS_SYSLOG";
const MAX_FILE: u64 = 1 << 20;

/// One layer under canonical names, for the merge.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    values: BTreeMap<&'static str, Value>,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }
}

/// All layers, merged; each value with its origin.
#[derive(Debug, Default)]
pub struct Merged {
    values: BTreeMap<String, Value>,
    /// The settings file, if one was read.
    pub file: Option<PathBuf>,
    /// Variables that look as if they were meant for us and are not read.
    pub notes: Vec<String>,
}

impl Merged {
    /// The value of a key, from the topmost layer that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }
}

/// Where layers are read from; tests pass their own.
#[derive(Debug)]
pub struct World {
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The file that is read if no other is named and it exists; else the same with the ending of YAML.
    pub usual_file: PathBuf,
    /// Whether this process belongs to root.
    pub is_root: bool,
}

impl World {
    /// The real one.
    pub fn real() -> Self {
        // The owner of what a process sees of itself is the one on whose behalf it runs. Elsewhere than on Linux a
        // state directory of root's own is as good.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
        Self { environment: std::env::vars_os().collect(), usual_file: "/etc/sls-syslog/config.toml".into(), is_root }
    }

    /// Where this process keeps what has to outlast it: as the service manager says, else as the system has it.
    fn state_folder(&self) -> Option<PathBuf> {
        let absolute = |name| self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let given = self.variable("STATE_DIRECTORY").and_then(|folders| std::env::split_paths(folders).next());
        given
            .or_else(|| self.is_root.then(|| "/var/lib/sls-syslog".into()))
            .or_else(|| absolute("XDG_STATE_HOME").map(|folder| folder.join("sls-syslog")))
            .or_else(|| absolute("HOME").map(|folder| folder.join(".local/state/sls-syslog")))
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
    }
}

/// Reads and merges all layers; what is wrong in them is added to `problems`.
pub fn merge(flags: &Layers, world: &World, problems: &mut Vec<Problem>) -> Merged {
    let file = file_path(flags, world);
    let mut defaults = text_layer(DEFAULT_TOML, FileFormat::Toml, "default", problems);
    if let Some(folder) = world.state_folder() {
        let path = folder.join("dead-letter.jsonl").to_string_lossy().into_owned();
        defaults.values.insert("dead_letter.path", Value::new(Some(&"default".to_owned()), path));
    }
    let mut layers = vec![
        defaults,
        file.as_deref().map_or_else(Layer::default, |path| file_layer(path, problems)),
        environment_layer(world, problems),
        flag_layer(flags, problems),
    ];
    keep_credentials_of_one_layer(&mut layers);
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let merged = builder.build().and_then(|merged| merged.collect());
    let mut values = BTreeMap::new();
    match merged {
        Ok(tree) => flatten("", tree, &mut |name, value| {
            values.insert(name, value);
        }),
        Err(_) => problems.push(Problem::general("the layers cannot be merged")),
    }
    let mut merged = Merged { values, file, notes: Vec::new() };
    mistyped_variables(world, &mut merged, problems);
    merged
}

/// Answers variables that nobody reads with the name that was probably meant: refused where that setting is given
/// nowhere, else only noted, since the environment belongs to others too.
fn mistyped_variables(world: &World, merged: &mut Merged, problems: &mut Vec<Problem>) {
    let mut names: Vec<&str> =
        world.environment.iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.to_str()).collect();
    names.sort_unstable();
    for name in names {
        let Some(meant) = variables::meant_by(name) else { continue };
        let text = format!("environment variable {} is not read; did you mean {}?", printable(name), meant.variable);
        match merged.get(meant.key).is_some_and(|value| value.origin() != Some("default")) || !meant.certain {
            true => merged.notes.push(text),
            false => problems.push(Problem::general(text)),
        }
    }
}

fn file_path(flags: &Layers, world: &World) -> Option<PathBuf> {
    flags.config.clone().or_else(|| world.variable("SLS_SYSLOG_CONFIG").map(PathBuf::from)).or_else(|| {
        [world.usual_file.clone(), world.usual_file.with_extension("yaml")].into_iter().find(|f| f.exists())
    })
}

/// Collects what one layer says and refuses unknown keys and two names of one key with different values.
struct Collector<'a> {
    layer: Layer,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Collector<'a> {
    fn new(problems: &'a mut Vec<Problem>) -> Self {
        Self { layer: Layer::default(), problems }
    }

    fn add(&mut self, name: &str, value: Value, origin: &str) {
        match keys::find(name) {
            Some(key) => self.add_key(key, value, origin),
            None => self.unknown(name, &value, origin),
        }
    }

    fn add_key(&mut self, key: &'static Key, value: Value, origin: &str) {
        // As only YAML can say it.
        if matches!(value.kind, ValueKind::Nil) {
            self.problems.push(Problem::key(key.name, "has no value; write one, or remove the line").of(origin));
            return;
        }
        let value = Value::new(Some(&origin.to_owned()), value.kind);
        if let Some(earlier) = self.layer.values.get(key.name)
            && shown(&earlier.kind) != shown(&value.kind)
        {
            let earlier = earlier.origin().unwrap_or_default();
            let rule = format!("is set to different values by {earlier} and by {origin}; remove one of them");
            self.problems.push(Problem::key(key.name, rule));
        }
        self.layer.values.insert(key.name, value);
    }

    /// The value is not repeated: it may be a secret under a wrong name.
    fn unknown(&mut self, name: &str, value: &Value, origin: &str) {
        let is_section = KEYS.iter().any(|key| key.name.starts_with(&format!("{name}.")));
        let rule = match keys::nearest(name) {
            _ if is_section && !matches!(value.kind, ValueKind::Table(_)) => "is a section, not a key".to_owned(),
            Some(nearest) => format!("is not a key; did you mean {nearest}?"),
            None => "is not a key; config/default.toml and `sls-syslog config show` list them all".to_owned(),
        };
        self.problems.push(Problem::key(&printable(name), rule).of(origin));
    }
}

/// A foreign name, bounded and escaped for a terminal.
fn printable(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_debug).collect()
}

fn flatten(prefix: &str, tree: Map<String, Value>, each: &mut dyn FnMut(String, Value)) {
    for (name, value) in tree {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(table) if !table.is_empty() => flatten(&name, table, each),
            ValueKind::Table(_) => {}
            _ => each(name, value),
        }
    }
}

fn text_layer(text: &str, format: FileFormat, origin: &str, problems: &mut Vec<Problem>) -> Layer {
    let lines = match format {
        FileFormat::Yaml => lines::of_yaml(text),
        _ => Ok(lines::of_toml(text)),
    };
    let read = lines.and_then(|lines| match File::from_str(text, format).collect() {
        Ok(tree) => Ok((tree, lines)),
        Err(error) => {
            let name = if format == FileFormat::Yaml { "YAML of keys and values" } else { "TOML" };
            Err(format!("is not valid {name}{}", position(&error)))
        }
    });
    match read {
        Ok((tree, lines)) => {
            let mut entries = Vec::new();
            flatten("", tree, &mut |name, value| entries.push((name, value)));
            // A hash map's order would make the messages differ from run to run.
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let mut collector = Collector::new(problems);
            for (name, value) in entries {
                let line = lines.get(&name).map(|line| format!(", line {line}")).unwrap_or_default();
                let origin = if origin == "default" {
                    origin.to_owned()
                } else {
                    format!("{} in {origin}{line}", printable(&name))
                };
                collector.add(&name, value, &origin);
            }
            collector.layer
        }
        Err(what) => {
            problems.push(Problem::general(format!("{origin} {what}")));
            Layer::default()
        }
    }
}

/// The parser's own text quotes the line, which may hold a secret: only the position is taken.
fn position(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let digits = |after: &str| -> Option<String> {
        let digits: String = text.split_once(after)?.1.chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then_some(digits)
    };
    match (digits("at line "), digits(", column ")) {
        (Some(line), Some(column)) => format!(", line {line}, column {column}"),
        _ => String::new(),
    }
}

fn file_layer(path: &Path, problems: &mut Vec<Problem>) -> Layer {
    let origin = format!("file {}", path.display());
    let is_yaml = path.extension().is_some_and(|end| ["yaml", "yml"].iter().any(|yaml| end.eq_ignore_ascii_case(yaml)));
    let format = if is_yaml { FileFormat::Yaml } else { FileFormat::Toml };
    let read = std::fs::metadata(path).and_then(|meta| {
        if meta.len() > MAX_FILE {
            Err(std::io::Error::other("larger than 1 MiB"))
        } else {
            std::fs::read_to_string(path)
        }
    });
    match read {
        Ok(text) => text_layer(&text, format, &origin, problems),
        Err(error) => {
            problems.push(Problem::general(format!("{origin} cannot be read: {error}")));
            Layer::default()
        }
    }
}

fn environment_layer(world: &World, problems: &mut Vec<Problem>) -> Layer {
    let mut collector = Collector::new(problems);
    let mut variables: Vec<_> = world.environment.iter().filter(|(_, value)| !value.is_empty()).collect();
    variables.sort();
    let prefix = format!("{PREFIX}__");
    for (name, value) in &variables {
        let Some(name) = name.to_str() else { continue };
        let short = KEYS.iter().find(|key| key.short == Some(name));
        if short.is_none() && !name.starts_with(&prefix) {
            continue;
        }
        let origin = format!("environment variable {}", printable(name));
        let Some(value) = value.to_str() else {
            collector.problems.push(Problem::general(format!("{origin} is not UTF-8")));
            continue;
        };
        if let Some(key) = short {
            collector.add_key(key, Value::new(None, value), &origin);
            continue;
        }
        // One variable at a time, so that its name is known when its value is refused.
        let one = Map::from_iter([(name.to_owned(), value.to_owned())]);
        let source = Environment::with_prefix(PREFIX).prefix_separator("__").separator("__").source(Some(one));
        for (key, value) in source.collect().unwrap_or_default() {
            collector.add(&key, value, &origin);
        }
    }
    ambient_credentials(world, &mut collector);
    collector.layer
}

/// The family of Alibaba Cloud's own tools, as a whole or not at all.
fn ambient_credentials(world: &World, collector: &mut Collector<'_>) {
    const FAMILY: [(&str, &str); 3] = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "source.access_key_id"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "source.access_key_secret"),
        ("ALIBABA_CLOUD_SECURITY_TOKEN", "source.security_token"),
    ];
    let own = CREDENTIALS.iter().any(|key| collector.layer.values.contains_key(key));
    if own || world.variable(FAMILY[0].0).is_none() {
        return;
    }
    for (variable, name) in FAMILY {
        let value = world.variable(variable).and_then(|value| value.to_str());
        if let (Some(value), Some(key)) = (value, keys::find(name)) {
            collector.add_key(key, Value::new(None, value), &format!("environment variable {variable}"));
        }
    }
}

fn flag_layer(flags: &Layers, problems: &mut Vec<Problem>) -> Layer {
    let mut collector = Collector::new(problems);
    for text in &flags.set {
        // The text is not repeated: it may hold what was meant to be secret.
        let Some((name, value)) = text.split_once('=') else {
            collector.problems.push(Problem::general("flag --set needs KEY=VALUE, as in --set destination.port=6514"));
            continue;
        };
        let name = name.trim();
        let origin = format!("flag --set {}", printable(name));
        match keys::find(name) {
            Some(key) if key.secret => collector.problems.push(
                Problem::key(
                    key.name,
                    "has no flag, because command lines can be read by everyone; use the environment or a file",
                )
                .of(&origin),
            ),
            _ => collector.add(name, Value::new(None, value), &origin),
        }
    }
    for (flag, name, value) in &flags.named {
        collector.add(name, Value::new(None, value.as_str()), &format!("flag --{flag}"));
    }
    collector.layer
}

const CREDENTIALS: [&str; 5] = [
    "source.access_key_id",
    "source.access_key_secret",
    "source.access_key_secret_file",
    "source.security_token",
    "source.security_token_file",
];

/// A secret or token never joins an access key id of a higher layer, and of a value and its file the higher one counts.
fn keep_credentials_of_one_layer(layers: &mut [Layer]) {
    if let Some(top) = layers.iter().rposition(|layer| layer.values.contains_key(CREDENTIALS[0])) {
        for layer in &mut layers[..top] {
            layer.values.retain(|key, _| !CREDENTIALS.contains(key));
        }
    }
    for pair in [&CREDENTIALS[1..3], &CREDENTIALS[3..5]] {
        if let Some(top) = layers.iter().rposition(|layer| pair.iter().any(|key| layer.values.contains_key(key))) {
            for layer in &mut layers[..top] {
                layer.values.retain(|key, _| !pair.contains(key));
            }
        }
    }
}

/// A scalar as text; `None` for lists and tables.
pub fn shown(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::Nil => Some(String::new()),
        ValueKind::Array(_) | ValueKind::Table(_) => None,
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::Boolean(value) => Some(value.to_string()),
        ValueKind::I64(value) => Some(value.to_string()),
        ValueKind::I128(value) => Some(value.to_string()),
        ValueKind::U64(value) => Some(value.to_string()),
        ValueKind::U128(value) => Some(value.to_string()),
        ValueKind::Float(value) => Some(value.to_string()),
    }
}
