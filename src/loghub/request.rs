//! A request as it was received: project, path, parameters, body.

use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::Method;
use bytes::Bytes;
use sls_syslog_actors::loghub::Refusal;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::wire::sls::body::decompress;
use sls_syslog_actors::wire::sls::query::{decode_query, decode_segment};
use sls_syslog_actors::wire::sls::reply::Compression;

/// A request, decoded.
pub struct Request {
    pub method: Method,
    /// The label of `Host` before the first dot.
    pub project: String,
    /// Path without empty segments, percent-decoded.
    pub segments: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Request {
    /// Decodes; `raw_query` as on the request line.
    pub fn new(http: &HttpRequest, headers: &[(&str, &str)], raw_query: &str, body: Bytes) -> Self {
        let host = headers.iter().find(|(name, _)| *name == "host").map_or("", |(_, host)| *host);
        let segments = http.uri().path().split('/').filter(|segment| !segment.is_empty());
        Self {
            method: http.method().clone(),
            project: host.split('.').next().unwrap_or_default().to_owned(),
            segments: segments.map(decode_segment).collect(),
            query: decode_query(raw_query),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body,
        }
    }

    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter that has to be there and to be readable.
    pub fn required<T: FromStr>(&self, name: &str) -> Result<T, Refusal> {
        let text =
            self.parameter(name).ok_or_else(|| Refusal::parameter(format!("Parameter {name} does not exist")))?;
        text.parse().map_err(|_| Refusal::parameter(format!("Parameter {name} is not valid")))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.trim())
    }

    /// The first compression that the client asks for and that is known, or none.
    pub fn accepted_compression(&self) -> Compression {
        let known = |header: &str| header.split(',').find_map(|token| Compression::from_name(token.trim()));
        self.header("accept-encoding").and_then(known).unwrap_or(Compression::None)
    }

    /// The body as JSON.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self, what: &str) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Refusal::new(400, "JsonInfoInvalid", format!("{what} is of error format")))
    }

    /// The uncompressed body of a put, of at most so many bytes.
    pub fn put_body(&self, most: usize) -> Result<Bytes, Refusal> {
        let declared = match self.header("x-log-bodyrawsize").map(str::parse::<u64>) {
            None => None,
            Some(Ok(size)) => Some(size),
            Some(Err(_)) => {
                return Err(Refusal::new(400, "InvalidBodyRawSize", "x-log-bodyrawsize is no number".into()));
            }
        };
        let Some(name) = self.header("x-log-compresstype").filter(|name| !name.is_empty()) else {
            return Ok(self.body.clone());
        };
        let unknown = || Refusal::new(400, "InvalidCompressType", format!("{name} is not supported"));
        let compression = Compression::from_name(name).ok_or_else(unknown)?;
        let missing = || Refusal::new(400, "MissingBodyRawSize", "x-log-bodyrawsize does not exist".into());
        let size = declared.ok_or_else(missing)?;
        // Before memory is taken for it.
        if size > most as u64 {
            return Err(too_large(most));
        }
        let mut buffer = Vec::new();
        decompress(&self.body, compression, size, &mut buffer)
            .map(Bytes::copy_from_slice)
            .map_err(|e| Refusal::new(400, "PostBodyUncompressError", e.to_string()))
    }
}

/// 413 `PostBodyTooLarge`.
pub fn too_large(most: usize) -> Refusal {
    Refusal::new(413, "PostBodyTooLarge", format!("body size must little than {most}"))
}

/// A shard number of a path.
pub fn shard(segment: &str) -> Result<ShardId, Refusal> {
    segment.parse().map(ShardId).map_err(|_| Refusal::parameter("invalid shard id".into()))
}

/// A hash key: up to 32 hexadecimal digits of any case, a shorter one is a prefix.
pub fn hash_key(text: &str) -> Result<u128, Refusal> {
    let digits = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let padded = format!("{text:0<32}");
    u128::from_str_radix(&padded, 16).ok().filter(|_| digits).ok_or_else(|| Refusal::parameter("invalid key".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_hash_key_is_a_prefix_of_any_case() {
        assert_eq!(hash_key("5F"), Ok(0x5f << 120));
        assert_eq!(hash_key("5f"), hash_key("5F"));
        assert_eq!(hash_key(&"f".repeat(32)), Ok(u128::MAX));
        for bad in ["", "+5", "xyz", &"0".repeat(33)] {
            assert!(hash_key(bad).is_err(), "{bad:?}");
        }
    }
}
