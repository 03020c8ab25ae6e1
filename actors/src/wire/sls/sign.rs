//! Signatures of requests: V1 (`LOG`, HMAC-SHA1) and V4 (`SLS4-HMAC-SHA256`), made and checked.

use chrono::{DateTime, NaiveDateTime, Utc};
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use secrecy::ExposeSecret;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::query::{decode_query, encode};
use super::request::SlsRequest;
use crate::config::{Credentials, Signature};
use crate::wire::text::escape_foreign;

/// Version of the protocol, sent with every request.
pub const API_VERSION: &str = "0.6.0";
/// Header of an STS token; signed by both versions.
pub const TOKEN_HEADER: &str = "x-acs-security-token";
/// How far the clocks of a client and of SLS may differ, in seconds.
pub const MAX_CLOCK_SKEW_S: i64 = 15 * 60;

const METHOD_V1: &str = "hmac-sha1";
const SCHEME_V1: &str = "LOG ";
const SCHEME_V4: &str = "SLS4-HMAC-SHA256 ";
const SCOPE_V4: &str = "sls/aliyun_v4_request";

/// What a signature covers.
pub struct Signed<'a, N, V> {
    /// Method in upper case.
    pub method: &'a str,
    /// Path as on the request line.
    pub path: &'a str,
    /// Query parameters, decoded, in any order.
    pub query: &'a [(N, V)],
    /// All headers, in any order and case; those that are not signed are ignored.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<N: AsRef<str>, V: AsRef<str>> Signed<'_, N, V> {
    fn header(&self, name: &str) -> &str {
        find(self.headers, name).unwrap_or("")
    }

    fn sorted_query(&self) -> Vec<(&str, &str)> {
        let mut query: Vec<_> = self.query.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        query.sort_by_key(|(name, _)| *name);
        query
    }

    fn sorted_headers(&self, is_signed: impl Fn(&str) -> bool) -> Vec<(String, &str)> {
        let lower = self.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.trim()));
        let mut headers: Vec<_> = lower.filter(|(name, _)| is_signed(name)).collect();
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        headers
    }
}

fn find<'a>(headers: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn is_sls_header(name: &str) -> bool {
    name.starts_with("x-log-") || name.starts_with("x-acs-")
}

/// The text that V1 signs, with `date` in the place of the date.
pub fn v1_string_to_sign<N: AsRef<str>, V: AsRef<str>>(request: &Signed<'_, N, V>, date: &str) -> String {
    let mut text = String::new();
    for line in [request.method, request.header("content-md5"), request.header("content-type"), date] {
        text.push_str(line);
        text.push('\n');
    }
    for (name, value) in request.sorted_headers(|name| is_sls_header(name) && name != "x-log-date") {
        text.push_str(&name);
        text.push(':');
        text.push_str(value);
        text.push('\n');
    }
    text.push_str(request.path);
    let mut separator = '?';
    for (name, value) in request.sorted_query() {
        text.push(separator);
        text.push_str(name);
        text.push('=');
        text.push_str(value);
        separator = '&';
    }
    text
}

/// The base64 text of a V1 signature.
pub fn v1_signature(secret: &str, string_to_sign: &str) -> String {
    BASE64.encode(&v1_mac(secret, string_to_sign).finalize().into_bytes())
}

fn v1_mac(secret: &str, string_to_sign: &str) -> Hmac<Sha1> {
    let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(string_to_sign.as_bytes());
    mac
}

/// The canonical request of V4; `body_sha256` is the lower-case hexadecimal hash of the body on the wire.
pub fn v4_canonical_request<N: AsRef<str>, V: AsRef<str>>(request: &Signed<'_, N, V>, body_sha256: &str) -> String {
    let mut text = format!("{}\n{}\n", request.method, request.path);
    for (at, (name, value)) in request.sorted_query().into_iter().enumerate() {
        if at > 0 {
            text.push('&');
        }
        // Names stand raw, and an empty value has no `=`: that is how the service does it.
        text.push_str(name);
        if !value.is_empty() {
            text.push('=');
            text.push_str(&encode(value));
        }
    }
    text.push('\n');
    let headers = request.sorted_headers(|name| is_sls_header(name) || name == "content-type" || name == "host");
    let mut names = String::new();
    for (name, value) in &headers {
        text.push_str(name);
        text.push(':');
        text.push_str(value);
        text.push('\n');
        if !names.is_empty() {
            names.push(';');
        }
        names.push_str(name);
    }
    text.push('\n');
    text.push_str(&names);
    text.push('\n');
    text.push_str(body_sha256);
    text
}

/// The text that V4 signs; `date_time` is `x-log-date`, and `date` its first eight characters.
fn v4_string_to_sign(date_time: &str, date: &str, region: &str, canonical_request: &str) -> String {
    let hash = HEXLOWER.encode(&Sha256::digest(canonical_request.as_bytes()));
    format!("{}\n{date_time}\n{date}/{region}/{SCOPE_V4}\n{hash}", SCHEME_V4.trim_end())
}

/// The key that V4 derives for one day and region.
fn v4_signing_key(secret: &str, date: &str, region: &str) -> [u8; 32] {
    let mut key = hmac_sha256(format!("aliyun_v4{secret}").as_bytes(), date);
    for part in [region, "sls", "aliyun_v4_request"] {
        key = hmac_sha256(&key, part);
    }
    key
}

/// The lower-case hexadecimal text of a V4 signature.
fn v4_signature(signing_key: &[u8; 32], string_to_sign: &str) -> String {
    HEXLOWER.encode(&hmac_sha256(signing_key, string_to_sign))
}

fn sha256_mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac
}

fn hmac_sha256(key: &[u8], text: &str) -> [u8; 32] {
    sha256_mac(key, text).finalize().into_bytes().into()
}

/// Upper-case hexadecimal MD5, as `content-md5` has it.
fn content_md5(body: &[u8]) -> String {
    HEXUPPER.encode(&Md5::digest(body))
}

/// Lower-case hexadecimal SHA-256, as `x-log-content-sha256` has it.
pub fn content_sha256(body: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(body))
}

/// A time as HTTP's `date` header has it.
pub fn http_date(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Adds every header that depends on credentials, host and time, and signs the request.
///
/// `host` is what the `host` header says, the port included where it is not the scheme's own. To be called once, last;
/// all headers have to be sent as they then are.
pub fn sign_request(
    request: &mut SlsRequest,
    credentials: &Credentials,
    signature: &Signature,
    host: &str,
    now: DateTime<Utc>,
) {
    request.headers.push(("host", host.to_owned()));
    request.headers.push(("x-log-apiversion", API_VERSION.to_owned()));
    if request.header_value("x-log-bodyrawsize").is_none() {
        request.headers.push(("x-log-bodyrawsize", request.body.len().to_string()));
    }
    if let Some(token) = &credentials.security_token {
        request.headers.push((TOKEN_HEADER, token.expose_secret().to_owned()));
    }
    let (id, secret) = (&credentials.access_key_id, credentials.access_key_secret.expose_secret());
    let authorization = match signature {
        Signature::V1 => {
            let date = http_date(now);
            request.headers.push(("x-log-signaturemethod", METHOD_V1.to_owned()));
            if !request.body.is_empty() {
                request.headers.push(("content-md5", content_md5(&request.body)));
            }
            request.headers.push(("date", date.clone()));
            let headers = borrowed(&request.headers);
            let text = v1_string_to_sign(&signed(request, &headers), &date);
            format!("{SCHEME_V1}{id}:{}", v1_signature(secret, &text))
        }
        Signature::V4 { region } => {
            let date_time = now.format("%Y%m%dT%H%M%SZ").to_string();
            let date = &date_time[..8];
            let hash = content_sha256(&request.body);
            request.headers.push(("x-log-content-sha256", hash.clone()));
            request.headers.push(("x-log-date", date_time.clone()));
            let headers = borrowed(&request.headers);
            let canonical = v4_canonical_request(&signed(request, &headers), &hash);
            let text = v4_string_to_sign(&date_time, date, region, &canonical);
            let hex = v4_signature(&v4_signing_key(secret, date, region), &text);
            format!("{SCHEME_V4}Credential={id}/{date}/{region}/{SCOPE_V4},Signature={hex}")
        }
    };
    request.headers.push(("authorization", authorization));
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn signed<'a>(request: &'a SlsRequest, headers: &'a [(&'a str, &'a str)]) -> Signed<'a, &'static str, String> {
    Signed { method: request.method.as_str(), path: &request.path, query: &request.query, headers }
}

/// A request as a server received it.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// Method in upper case.
    pub method: &'a str,
    /// Path as on the request line, without query.
    pub path: &'a str,
    /// Query as on the request line, without `?`.
    pub raw_query: &'a str,
    /// All headers; `host` verbatim.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body as on the wire.
    pub body: &'a [u8],
}

/// Why a received request is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyError {
    /// `x-log-apiversion` is missing or not ours.
    ApiVersion {
        /// Whether the header was there.
        sent: bool,
    },
    /// `authorization` is missing or not readable.
    NotAuthorized,
    /// Nobody has this AccessKey id.
    UnknownKey {
        /// The id, escaped and cut.
        key_id: String,
    },
    /// `x-log-signaturemethod` of a V1 request is missing or not `hmac-sha1`.
    SignatureMethod {
        /// Whether the header was there.
        sent: bool,
    },
    /// The date is missing.
    MissingDate,
    /// The date cannot be read.
    InvalidDate,
    /// The date differs too much from the server's time.
    ClockSkew,
    /// The hash of the body is missing or another's.
    BodyHash,
    /// The signature is another's.
    Signature {
        /// What was sent, escaped and cut.
        received: String,
    },
    /// The STS token is not the expected one.
    Token,
}

impl VerifyError {
    /// HTTP status, `errorCode` and `errorMessage` of the answer.
    pub fn answer(&self) -> (u16, &'static str, String) {
        match self {
            Self::ApiVersion { sent: false } => (400, "MissingAPIVersion", "x-log-apiversion does not exist".into()),
            Self::ApiVersion { sent: true } => (400, "InvalidAPIVersion", "x-log-apiversion is not supported".into()),
            Self::NotAuthorized => (401, "Unauthorized", "the authorization header is missing or malformed".into()),
            Self::UnknownKey { key_id } => (401, "Unauthorized", format!("AccessKeyId not found: {key_id}")),
            Self::SignatureMethod { sent: false } => {
                (400, "MissingSignatureMethod", "x-log-signaturemethod does not exist".into())
            }
            Self::SignatureMethod { sent: true } => {
                (400, "InvalidSignatureMethod", "signature method must be hmac-sha1".into())
            }
            Self::MissingDate => (400, "MissingDate", "the date header does not exist".into()),
            Self::InvalidDate => (400, "InvalidDateFormat", "the date header cannot be read".into()),
            Self::ClockSkew => {
                (400, "RequestTimeExpired", "request time differs from current time by more than 15 minutes".into())
            }
            Self::BodyHash => (400, "ParameterInvalid", "the body does not match its hash".into()),
            Self::Signature { received } => (401, "SignatureNotMatch", format!("signature {received} not match")),
            Self::Token => (401, "Unauthorized", "The security token you provided is invalid".into()),
        }
    }
}

/// The key that a request claims to be signed with, as a server knows it.
pub struct KnownKey<'a> {
    /// AccessKey secret.
    pub secret: &'a str,
    /// STS token that has to come along, if any.
    pub token: Option<&'a str>,
}

/// Checks a received request; `lookup` finds the key of an AccessKey id, `now` is the server's time, and without it
/// dates of any age are taken. Signatures are compared in constant time.
///
/// # Errors
/// [`VerifyError`], as the service would refuse it.
pub fn verify<'k>(
    request: Received<'_>,
    lookup: impl FnOnce(&str) -> Option<KnownKey<'k>>,
    now: Option<DateTime<Utc>>,
) -> Result<(), VerifyError> {
    match find(request.headers, "x-log-apiversion") {
        Some(API_VERSION) => {}
        other => return Err(VerifyError::ApiVersion { sent: other.is_some() }),
    }
    let claim = find(request.headers, "authorization").and_then(Claim::parse).ok_or(VerifyError::NotAuthorized)?;
    let key =
        lookup(claim.key_id()).ok_or_else(|| VerifyError::UnknownKey { key_id: escape_foreign(claim.key_id(), 64) })?;
    match claim {
        Claim::V1 { signature, .. } => verify_v1(request, key.secret, signature, now)?,
        Claim::V4 { date, region, signature, .. } => verify_v4(request, key.secret, date, region, signature, now)?,
    }
    // The token is signed, so only the owner of the key learns whether it was the right one.
    match key.token {
        Some(token) if find(request.headers, TOKEN_HEADER) != Some(token) => Err(VerifyError::Token),
        _ => Ok(()),
    }
}

/// What an `authorization` header says.
enum Claim<'a> {
    V1 { key_id: &'a str, signature: &'a str },
    V4 { key_id: &'a str, date: &'a str, region: &'a str, signature: &'a str },
}

impl<'a> Claim<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        if let Some(rest) = header.strip_prefix(SCHEME_V1) {
            let (key_id, signature) = rest.rsplit_once(':')?;
            return Some(Self::V1 { key_id, signature });
        }
        let rest = header.strip_prefix(SCHEME_V4)?.strip_prefix("Credential=")?;
        let (scope, signature) = rest.split_once(",Signature=")?;
        let mut parts = scope.strip_suffix(SCOPE_V4)?.strip_suffix('/')?.splitn(3, '/');
        let (key_id, date, region) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self::V4 { key_id, date, region, signature })
    }

    fn key_id(&self) -> &'a str {
        match self {
            Self::V1 { key_id, .. } | Self::V4 { key_id, .. } => key_id,
        }
    }
}

fn verify_v1(
    request: Received<'_>,
    secret: &str,
    signature: &str,
    now: Option<DateTime<Utc>>,
) -> Result<(), VerifyError> {
    match find(request.headers, "x-log-signaturemethod") {
        Some(METHOD_V1) => {}
        other => return Err(VerifyError::SignatureMethod { sent: other.is_some() }),
    }
    // Some clients send both dates, and which of the two they sign is not settled: either may verify.
    let dates: Vec<&str> = ["x-log-date", "date"].into_iter().filter_map(|name| find(request.headers, name)).collect();
    let first = *dates.first().ok_or(VerifyError::MissingDate)?;
    match find(request.headers, "content-md5") {
        Some(hash) if hash.eq_ignore_ascii_case(&content_md5(request.body)) => {}
        None if request.body.is_empty() => {}
        _ => return Err(VerifyError::BodyHash),
    }
    let query = decode_query(request.raw_query);
    let received = BASE64.decode(signature.as_bytes()).unwrap_or_default();
    let signed = Signed { method: request.method, path: request.path, query: &query, headers: request.headers };
    let verified =
        dates.iter().find(|date| v1_mac(secret, &v1_string_to_sign(&signed, date)).verify_slice(&received).is_ok());
    let sent_at = DateTime::parse_from_rfc2822(verified.unwrap_or(&first)).map_err(|_| VerifyError::InvalidDate)?;
    check_clock(sent_at.to_utc(), now)?;
    match verified {
        Some(_) => Ok(()),
        None => Err(VerifyError::Signature { received: escape_foreign(signature, 128) }),
    }
}

fn verify_v4(
    request: Received<'_>,
    secret: &str,
    date: &str,
    region: &str,
    signature: &str,
    now: Option<DateTime<Utc>>,
) -> Result<(), VerifyError> {
    let date_time = find(request.headers, "x-log-date").ok_or(VerifyError::MissingDate)?;
    let sent_at =
        NaiveDateTime::parse_from_str(date_time, "%Y%m%dT%H%M%SZ").map_err(|_| VerifyError::InvalidDate)?.and_utc();
    if sent_at.format("%Y%m%d").to_string() != date {
        return Err(VerifyError::InvalidDate);
    }
    check_clock(sent_at, now)?;
    let hash = content_sha256(request.body);
    if find(request.headers, "x-log-content-sha256") != Some(hash.as_str()) {
        return Err(VerifyError::BodyHash);
    }
    let query = decode_query(request.raw_query);
    let received = HEXLOWER.decode(signature.as_bytes()).unwrap_or_default();
    let signed = Signed { method: request.method, path: request.path, query: &query, headers: request.headers };
    let text = v4_string_to_sign(date_time, date, region, &v4_canonical_request(&signed, &hash));
    sha256_mac(&v4_signing_key(secret, date, region), &text)
        .verify_slice(&received)
        .map_err(|_| VerifyError::Signature { received: escape_foreign(signature, 128) })
}

fn check_clock(sent_at: DateTime<Utc>, now: Option<DateTime<Utc>>) -> Result<(), VerifyError> {
    match now {
        Some(now) if (now - sent_at).num_seconds().abs() > MAX_CLOCK_SKEW_S => Err(VerifyError::ClockSkew),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
