//! Made-up logs, as many and as fast as needed: web access, audit, tiny and large ones, and a collection of nasty bytes.
//!
//! The same seed makes the same logs. Each carries the name of its stream and its number there, from 0, in the fields
//! [`STREAM_KEY`] and [`NUMBER_KEY`], so that whoever receives them can prove that none is missing.

use chrono::DateTime;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::Block;

/// Field with the name of a log's stream.
pub const STREAM_KEY: &str = "stream";
/// Field with a log's number in its stream.
pub const NUMBER_KEY: &str = "n";

/// What kind of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Access log of a web server: 12 fields, about 500 bytes.
    Web,
    /// Audit trail: 20 fields, about 1.2 KB, with nanoseconds.
    Audit,
    /// 3 fields, about 80 bytes.
    Tiny,
    /// 3 fields, one of them with a report of 100 KB.
    Large,
    /// Newlines, NUL, broken UTF-8, separators, empty and repeated keys, very long values, many tags.
    Nasty,
}

/// Makes log groups.
pub struct Generator {
    kind: Kind,
    random: fastrand::Rng,
    log: Vec<u8>,
    number: itoa::Buffer,
    text: String,
    /// Date of the log group's second, as `2026-11-24T`.
    date: String,
}

impl Generator {
    /// Makes logs of this kind.
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self {
            kind,
            random: fastrand::Rng::with_seed(seed),
            log: Vec::new(),
            number: itoa::Buffer::new(),
            text: String::new(),
            date: String::new(),
        }
    }

    /// Appends one `LogGroup` with the logs of `stream` from the number `first` on, all of this second.
    pub fn group(&mut self, out: &mut Vec<u8>, stream: &str, first: u64, logs: u32, unix_s: u32) {
        let time = DateTime::from_timestamp(unix_s.into(), 0).unwrap_or_default();
        self.date = time.format("%Y-%m-%dT").to_string();
        for number in first..first + u64::from(logs) {
            self.log.clear();
            self.log.push(0x08);
            encode_varint(unix_s.into(), &mut self.log);
            let digits = self.number.format(number);
            field(&mut self.log, STREAM_KEY.as_bytes(), stream.as_bytes());
            field(&mut self.log, NUMBER_KEY.as_bytes(), digits.as_bytes());
            match self.kind {
                Kind::Web => self.web(unix_s),
                Kind::Audit => self.audit(unix_s),
                Kind::Tiny => self.tiny(),
                Kind::Large => self.large(),
                Kind::Nasty => self.nasty(number),
            }
            delimited(out, 1, &self.log);
        }
        self.envelope(out, stream, first);
    }

    /// A block of log groups, as many as begin below `bytes`, at most 1000 and at most `logs` logs; with it the number
    /// of its logs.
    pub fn block(
        &mut self,
        stream: &str,
        first: u64,
        logs: u64,
        logs_per_group: u32,
        bytes: usize,
        unix_s: u32,
    ) -> Option<(Block, u64)> {
        let (mut raw, mut ends, mut made) = (Vec::with_capacity(bytes + bytes / 8), Vec::new(), 0);
        while made < logs && raw.len() < bytes && ends.len() < 1000 {
            let now = u32::try_from((logs - made).min(logs_per_group.max(1).into())).unwrap_or(1);
            self.group(&mut raw, stream, first + made, now, unix_s);
            made += u64::from(now);
            ends.push(raw.len());
        }
        let mut begin = 0;
        let groups = ends.iter().map(|end| &raw[std::mem::replace(&mut begin, *end)..*end]);
        Some((Block::new(groups)?, made))
    }

    fn web(&mut self, unix_s: u32) {
        let random = &mut self.random;
        let (log, text) = (&mut self.log, &mut self.text);
        text.clear();
        for (at, part) in [10, random.u8(0..4), random.u8(..), random.u8(1..255)].into_iter().enumerate() {
            text.push_str(if at > 0 { "." } else { "" });
            text.push_str(self.number.format(part));
        }
        field(log, b"remote_addr", text.as_bytes());
        text.clear();
        push_clock(text, &self.date, unix_s, &mut self.number);
        field(log, b"time_local", text.as_bytes());
        field(log, b"request_method", pick(random, &["GET", "GET", "GET", "GET", "POST", "PUT"]).as_bytes());
        text.clear();
        text.push_str(pick(random, PATHS));
        text.push_str(self.number.format(random.u32(1000..9999)));
        text.push_str("?session=");
        for _ in 0..7 {
            text.push_str(self.number.format(random.u32(100_000..999_999)));
        }
        text.push_str("&page=");
        text.push_str(self.number.format(random.u8(1..20)));
        field(log, b"request_uri", text.as_bytes());
        field(log, b"status", pick(random, &["200", "200", "200", "200", "304", "404", "500"]).as_bytes());
        field(log, b"body_bytes_sent", self.number.format(random.u32(200..90_000)).as_bytes());
        text.clear();
        text.push_str("0.");
        text.push_str(self.number.format(random.u32(100..999)));
        field(log, b"request_time", text.as_bytes());
        field(log, b"http_referer", pick(random, REFERERS).as_bytes());
        field(log, b"http_user_agent", pick(random, AGENTS).as_bytes());
        field(log, b"host", pick(random, HOSTS).as_bytes());
    }

    fn audit(&mut self, unix_s: u32) {
        let random = &mut self.random;
        let (log, text) = (&mut self.log, &mut self.text);
        text.clear();
        for _ in 0..4 {
            text.push_str(self.number.format(random.u64(10_000_000..99_999_999)));
            text.push('-');
        }
        text.push_str("evt");
        field(log, b"eventId", text.as_bytes());
        text.clear();
        push_clock(text, &self.date, unix_s, &mut self.number);
        field(log, b"eventTime", text.as_bytes());
        field(log, b"eventName", pick(random, ACTIONS).as_bytes());
        field(log, b"serviceName", pick(random, &["Ecs", "Ram", "Oss", "Rds", "Slb", "Vpc", "Kms"]).as_bytes());
        field(log, b"eventVersion", b"1");
        field(log, b"acsRegion", pick(random, &["cn-hangzhou", "eu-central-1", "ap-southeast-1"]).as_bytes());
        field(log, b"apiVersion", b"2014-05-26");
        let user = random.u32(1..400);
        text.clear();
        text.push_str("{\"type\":\"ram-user\",\"principalId\":\"2871");
        text.push_str(self.number.format(100_000 + user));
        text.push_str("\",\"accountId\":\"1234567890123456\",\"userName\":\"operator-");
        text.push_str(self.number.format(user));
        text.push_str("\",\"sessionContext\":{\"attributes\":{\"mfaAuthenticated\":\"true\",\"creationDate\":\"");
        push_clock(text, &self.date, unix_s.saturating_sub(random.u32(0..3600)), &mut self.number);
        text.push_str("\"}}}");
        field(log, b"userIdentity", text.as_bytes());
        text.clear();
        text.push_str("10.0.");
        text.push_str(self.number.format(random.u8(..)));
        text.push('.');
        text.push_str(self.number.format(random.u8(1..255)));
        field(log, b"sourceIpAddress", text.as_bytes());
        field(log, b"userAgent", pick(random, AGENTS).as_bytes());
        text.clear();
        text.push_str("{\"RegionId\":\"cn-hangzhou\",\"InstanceId\":\"i-bp");
        text.push_str(self.number.format(random.u64(1 << 40..1 << 50)));
        text.push_str("\",\"InstanceType\":\"ecs.g7.2xlarge\",\"ClientToken\":\"");
        text.push_str(self.number.format(random.u64(1 << 60..)));
        text.push_str("\",\"DryRun\":false,\"Tags\":[{\"Key\":\"team\",\"Value\":\"payments\"},");
        text.push_str("{\"Key\":\"stage\",\"Value\":\"production\"}]}");
        field(log, b"requestParameters", text.as_bytes());
        text.clear();
        text.push_str("{\"RequestId\":\"");
        text.push_str(self.number.format(random.u64(1 << 60..)));
        text.push_str("\",\"TaskId\":\"t-bp");
        text.push_str(self.number.format(random.u32(..)));
        text.push_str("\"}");
        field(log, b"responseElements", text.as_bytes());
        field(log, b"requestId", self.number.format(random.u64(1 << 60..)).as_bytes());
        field(log, b"resourceType", b"ACS::ECS::Instance");
        field(log, b"resourceName", pick(random, HOSTS).as_bytes());
        field(log, b"errorCode", pick(random, &["", "", "", "Forbidden.RAM", "InvalidParameter"]).as_bytes());
        field(log, b"isGlobal", b"false");
        field(log, b"eventSource", b"ecs.cn-hangzhou.aliyuncs.com");
        log.push(0x25);
        log.extend_from_slice(&random.u32(0..1_000_000_000).to_le_bytes());
    }

    fn tiny(&mut self) {
        let level = pick(&mut self.random, &["debug: cache hit", "info: job done, next one", "warn: slow answer"]);
        field(&mut self.log, b"message", level.as_bytes());
    }

    fn large(&mut self) {
        let (random, text) = (&mut self.random, &mut self.text);
        text.clear();
        text.push('[');
        while text.len() < LARGE_BYTES {
            text.push_str("{\"event\":\"");
            text.push_str(pick(random, ACTIONS));
            text.push_str("\",\"host\":\"");
            text.push_str(pick(random, HOSTS));
            text.push_str("\",\"took_us\":");
            text.push_str(self.number.format(random.u32(100..5_000_000)));
            text.push_str("},");
        }
        text.push(']');
        field(&mut self.log, b"report", text.as_bytes());
    }

    fn nasty(&mut self, number: u64) {
        let log = &mut self.log;
        match number % 20 {
            0 => field(log, b"message", b"first line\nsecond line\r\nthird\rfourth"),
            1 => field(log, b"message", b"ends\n"),
            2 => field(log, b"message", b"nul\0in\0side"),
            3 => field(log, b"message", b"broken \xff\xfe utf-8 \xc3\x28 \xed\xa0\x80 \xf0\x9f"),
            4 => field(
                log,
                b"message",
                "\u{fffd} genuine, \u{4e2d}\u{6587}, \u{1f600}, \u{feff}bom, \u{202e}".as_bytes(),
            ),
            5 => field(log, b"message", b"a||b=c||d\\e=\\||"),
            6 => field(log, b"key with || and = inside", b"value"),
            7 => field(log, b"", b"a value without key"),
            8 => field(log, b"key without value", b""),
            9 => field(log, b"", b""),
            10 => field(log, b"message", &vec![b'x'; 100_000]),
            11 => {
                for value in [&b"one"[..], b"two", b"", b"three"] {
                    field(log, b"repeated", value);
                }
            }
            12 => field(log, b"message", b"<13>1 2026-01-01T00:00:00Z host app - - - looks like syslog"),
            13 => field(log, b"message", b"17 <13>1 - - - - - -"),
            14 => field(log, b"__topic__", b"over the topic"),
            15 => field(log, b"__time__", b"0"),
            16 => field(log, b"message", b"\x1b[31mred\x1b[0m \x07 \x7f \xc2\x85 \xe2\x80\xa8"),
            17 => {
                for at in 0..200_u32 {
                    field(log, format!("field{at}").as_bytes(), b"v");
                }
            }
            18 => {
                // Nanoseconds that are none.
                log.push(0x25);
                log.extend_from_slice(&u32::MAX.to_le_bytes());
            }
            // A field that the schema does not know.
            _ => log.extend_from_slice(&[0x7a, 3, b'a', b'b', b'c']),
        }
    }

    /// What follows the logs: topic, source and tags, which belong to each of them.
    fn envelope(&mut self, out: &mut Vec<u8>, stream: &str, first: u64) {
        let host = format!("web-{}", self.random.u8(1..40));
        match self.kind {
            Kind::Web => delimited(out, 3, b"nginx_access"),
            Kind::Audit => delimited(out, 3, b"actiontrail"),
            Kind::Tiny | Kind::Large => {}
            Kind::Nasty => delimited(out, 3, b"topic\nwith\0bytes \xff"),
        }
        delimited(out, 4, format!("10.1.0.{}", self.random.u8(1..255)).as_bytes());
        tag(out, b"__hostname__", host.as_bytes());
        tag(out, b"__path__", b"/var/log/app/access.log");
        tag(out, b"__pack_id__", format!("{stream}-{first:X}").as_bytes());
        if self.kind == Kind::Nasty {
            tag(out, b"", b"tag without key");
            tag(out, b"line\nbreak", b"in\nboth");
            tag(out, b"broken \xff", b"\xfe");
            tag(out, b"long", &vec![b't'; 3000]);
            tag(out, b"__hostname__", b"a second host name");
        }
    }
}

/// Size of a large log's report.
const LARGE_BYTES: usize = 100_000;
const PATHS: &[&str] =
    &["/api/v1/orders/", "/api/v1/customers/", "/shop/catalog/item-", "/static/js/bundle-", "/search/"];
const REFERERS: &[&str] = &[
    "https://shop.example.com/catalog/summer-collection/index.html",
    "https://www.example.com/search/results?category=shoes&sort=price",
    "https://shop.example.com/checkout/basket/confirmation.html",
    "-",
];
const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari",
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "okhttp/4.12.0 example-mobile/7.3 (Android 14; build 20261101)",
];
const HOSTS: &[&str] = &["shop.example.com", "www.example.com", "api.example.com", "static.example.com"];
const ACTIONS: &[&str] =
    &["StartInstance", "StopInstance", "CreateUser", "AttachPolicyToUser", "PutBucketAcl", "Decrypt"];

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn push_clock(text: &mut String, date: &str, unix_s: u32, number: &mut itoa::Buffer) {
    text.push_str(date);
    for (at, part) in [unix_s / 3600 % 24, unix_s / 60 % 60, unix_s % 60].into_iter().enumerate() {
        text.push_str(if at > 0 { ":" } else { "" });
        text.push_str(if part < 10 { "0" } else { "" });
        text.push_str(number.format(part));
    }
    text.push_str("+00:00");
}

fn field(log: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    pair(log, 2, key, value);
}

fn tag(group: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    pair(group, 6, key, value);
}

fn pair(out: &mut Vec<u8>, number: u8, key: &[u8], value: &[u8]) {
    let size = |bytes: &[u8]| 1 + encoded_len_varint(bytes.len() as u64) + bytes.len();
    out.push(number << 3 | 2);
    encode_varint((size(key) + size(value)) as u64, out);
    delimited(out, 1, key);
    delimited(out, 2, value);
}

fn delimited(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::loghub::count_logs;
    use crate::wire::sls::proto::{LogGroup, LogGroupList};

    fn group(kind: Kind, logs: u32) -> (usize, LogGroup) {
        let mut bytes = Vec::new();
        Generator::new(kind, 7).group(&mut bytes, "shard-3", 100, logs, 1_795_478_400);
        assert_eq!(count_logs(&bytes), Some(logs));
        (bytes.len(), LogGroup::decode(&bytes[..]).unwrap())
    }

    #[test]
    fn every_log_names_its_stream_and_its_number() {
        for kind in [Kind::Web, Kind::Audit, Kind::Tiny, Kind::Large, Kind::Nasty] {
            let (_, group) = group(kind, 60);
            for (at, log) in group.logs.iter().enumerate() {
                let value = |key: &str| log.contents.iter().find(|c| c.key == key).map(|c| c.value.clone()).unwrap();
                assert_eq!(value(STREAM_KEY), "shard-3");
                assert_eq!(value(NUMBER_KEY), (100 + at).to_string());
                assert_eq!(log.time, 1_795_478_400);
            }
            assert!(group.log_tags.iter().any(|tag| tag.key == "__hostname__"));
        }
    }

    #[test]
    fn sizes_and_fields_are_as_told() {
        for (kind, fields, from, to) in [
            (Kind::Web, 12, 470, 540),
            (Kind::Audit, 20, 1_100, 1_300),
            (Kind::Tiny, 3, 60, 100),
            (Kind::Large, 3, 100_000, 101_000),
        ] {
            let (bytes, group) = group(kind, 1000);
            assert!(group.logs.iter().all(|log| log.contents.len() == fields), "{kind:?}");
            assert!((from..to).contains(&(bytes / 1000)), "{kind:?}: {} bytes a log", bytes / 1000);
        }
    }

    #[test]
    fn web_logs_compress_as_real_ones_do() {
        let (block, logs) = Generator::new(Kind::Web, 1).block("s", 0, u64::MAX, 100, 2_000_000, 1).unwrap();
        let ratio = block.raw_size() as f64 / block.lz4().len() as f64;
        assert!((3.9..4.9).contains(&ratio), "{ratio:.2}:1");
        assert_eq!(logs, block.logs());
        assert!((2_000_000..2_100_000).contains(&block.raw_size()), "{}", block.raw_size());
    }

    #[test]
    fn the_same_seed_makes_the_same_block_and_it_reads_back() {
        let make = || Generator::new(Kind::Nasty, 5).block("s", 40, 130, 20, 1 << 20, 1).unwrap();
        let ((block, logs), (again, _)) = (make(), make());
        assert_eq!(block.lz4(), again.lz4());
        assert_eq!((logs, block.groups()), (130, 7));
        let raw = lz4::block::decompress(block.lz4(), Some(block.raw_size() as i32)).unwrap();
        let list = LogGroupList::decode(&raw[..]).unwrap();
        assert_eq!(list.log_groups.iter().map(|group| group.logs.len()).sum::<usize>(), 130);
    }
}
