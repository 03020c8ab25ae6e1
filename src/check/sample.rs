//! Messages as they would be sent, as text and bytes.

use serde::{Serialize, Serializer};
use sls_syslog_actors::config::DestinationConfig;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::LogHub;
use sls_syslog_actors::trouble::sentence;
use sls_syslog_actors::wire::format::{Position, RenderSettings, Renderer};
use sls_syslog_actors::wire::sls::error::{ErrorClass, SlsError};
use sls_syslog_actors::wire::syslog::framing::next_frame;

use super::Report;
use super::report::Check;
use crate::receiver::print_escaped;
use crate::survey::{self, ShardSurvey};
use crate::terminal::{Mark, Style};

/// Bytes of one message that are shown as hexadecimal; the rest only counts.
const MOST_HEX: usize = 64 << 10;
/// Log groups asked for at once.
const GROUPS: u32 = 10;

/// One message on its way out.
#[derive(Debug, Serialize)]
pub struct Sample {
    what: String,
    /// Without control characters.
    text: String,
    #[serde(rename = "hex", serialize_with = "as_hex")]
    bytes: Vec<u8>,
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&data_encoding::HEXLOWER.encode(bytes))
}

impl Sample {
    /// The first frame of `frames`: its message as text, and the bytes that go over the wire.
    pub fn new(what: impl Into<String>, config: &DestinationConfig, frames: &[u8]) -> Self {
        let (length, message) = next_frame(config.framing, frames).unwrap_or((frames.len(), 0..frames.len()));
        let mut text = Vec::new();
        // Cannot fail: it is written to memory.
        let _ = print_escaped(&mut text, &frames[message.clone()]);
        // UDP and RELP carry the message without the frame that it has inside this process.
        let bytes = if config.protocol.has_framing() { &frames[..length] } else { &frames[message] };
        let text = String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned();
        Self { what: what.into(), text, bytes: bytes.to_vec() }
    }

    /// Text and hexadecimal bytes. The text is one line, so that it can be copied.
    pub fn render(&self, style: Style) -> String {
        let title = format!("{}, {} bytes", self.what, self.bytes.len());
        let mut out = format!("\n{}\n{}\n", style.mark(Mark::Heading, &title), self.text);
        for (row, bytes) in self.bytes[..self.bytes.len().min(MOST_HEX)].chunks(16).enumerate() {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let ascii: String =
                bytes.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' }).collect();
            out += &format!("{:06x}  {:<47}  |{ascii}|\n", row * 16, hex.join(" "));
        }
        if self.bytes.len() > MOST_HEX {
            out += &format!("and {} bytes more\n", self.bytes.len() - MOST_HEX);
        }
        out
    }
}

/// Shows `wanted` logs: what the group reads next, else the oldest that SLS holds.
pub async fn show(
    hub: &dyn LogHub,
    shards: &[ShardSurvey],
    config: &DestinationConfig,
    wanted: u32,
    report: &mut Report,
) {
    const WHAT: &str = "logs";
    let mut renderer = Renderer::new(RenderSettings::from(config));
    let mut left = wanted as usize;
    for shard in shards {
        if left == 0 {
            break;
        }
        let id = shard.info.shard;
        match first_logs(hub, shard, &mut renderer, left).await {
            Ok(frames) => {
                let mut rest = &frames[..];
                while left > 0
                    && let Some((length, _)) = next_frame(config.framing, rest)
                {
                    report.sample(Sample::new(format!("shard {id}"), config, &rest[..length]));
                    rest = &rest[length..];
                    left -= 1;
                }
            }
            Err(why) => report.add(Check::failed(WHAT, format!("shard {id}: {why}"))),
        }
    }
    if left == wanted as usize {
        report.add(Check::warn(WHAT, "there is none in the logstore"));
    } else if left > 0 {
        report.add(Check::ok(WHAT, format!("{} shown; that is all there is to read now", wanted as usize - left)));
    }
}

/// Frames of up to `wanted` logs of one shard, from its checkpoint on, or from its begin where nothing waits there.
async fn first_logs(
    hub: &dyn LogHub,
    shard: &ShardSurvey,
    renderer: &mut Renderer,
    wanted: usize,
) -> Result<Vec<u8>, String> {
    let checkpoint = shard.checkpoint.as_ref().and_then(|answer| answer.as_ref().ok()?.cursor.clone());
    let begin = shard.oldest.as_ref().map(|place| place.cursor.clone()).map_err(sentence)?;
    for cursor in checkpoint.into_iter().chain([begin]) {
        let frames = match pull_frames(hub, shard.info.shard, cursor, renderer, wanted).await {
            // The checkpoint is older than what SLS holds.
            Err(error) if error.class() == ErrorClass::InvalidCursor => continue,
            other => other.map_err(|error| sentence(&error))?,
        };
        if !frames.is_empty() {
            return Ok(frames);
        }
    }
    Ok(Vec::new())
}

async fn pull_frames(
    hub: &dyn LogHub,
    shard: ShardId,
    mut cursor: Cursor,
    renderer: &mut Renderer,
    wanted: usize,
) -> Result<Vec<u8>, SlsError> {
    let (mut frames, mut messages) = (Vec::new(), 0);
    // One log group may hold no log at all, so there is an end to trying.
    for _ in 0..1 + wanted.div_ceil(GROUPS as usize) {
        let (raw, next) = survey::pull(hub, shard, &cursor, GROUPS).await?;
        let mut position = Position::default();
        while messages < wanted {
            // Small pieces: what is not wanted is not rendered.
            let rendered = renderer
                .render(&raw, &mut position, &mut frames, 64 << 10)
                .map_err(|error| SlsError::transport(format!("the log groups cannot be rendered: {error}")))?;
            messages += rendered.messages as usize;
            if rendered.done {
                break;
            }
        }
        match next {
            Some(next) if next != cursor && messages < wanted => cursor = next,
            _ => break,
        }
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use sls_syslog_actors::config::Protocol;

    use super::*;

    #[test]
    fn text_and_bytes_are_those_of_the_wire() {
        let udp = DestinationConfig::new("siem", Protocol::Udp);
        let sample = Sample::new("x", &udp, b"6 <14>\x1bb4 next");
        assert_eq!((sample.text.as_str(), &sample.bytes[..]), ("<14>\\u{1b}b", &b"<14>\x1bb"[..]));
        let tls = DestinationConfig::new("siem", Protocol::Tls);
        assert_eq!(Sample::new("x", &tls, b"6 <14>\x1bb").bytes, b"6 <14>\x1bb");
        let rendered = sample.render(Style::Plain);
        assert_eq!(
            rendered,
            "\nx, 6 bytes\n<14>\\u{1b}b\n000000  3c 31 34 3e 1b 62                                |<14>.b|\n"
        );
        assert_eq!(
            serde_json::to_string(&sample).unwrap(),
            r#"{"what":"x","text":"<14>\\u{1b}b","hex":"3c31343e1b62"}"#
        );
    }
}
