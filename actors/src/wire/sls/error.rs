//! What SLS refuses, and what that means for whoever asked.

use std::time::Duration;

use serde::Deserialize;

use crate::wire::text::escape_foreign;

/// Longest error body that is read, in bytes.
pub const MAX_ERROR_BODY: usize = 64 * 1024;

/// Longest `errorMessage` that is kept, in bytes once escaped; a refused right names its resource near the end.
const MAX_MESSAGE: usize = 1024;
/// Longest code and request id that are kept.
const MAX_NAME: usize = 64;
/// The code of an answer that does not have the shape of SLS's errors, as the official clients call it.
const BAD_RESPONSE: &str = "BadResponse";

/// A request to SLS that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SlsError {
    /// SLS answered with an error of its own.
    #[error("SLS answered {status} {code}: {message} (request {request_id})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// SLS's `errorCode`, as sent; `BadResponse` if something else than SLS's error format came.
        code: String,
        /// SLS's `errorMessage`, escaped and cut.
        message: String,
        /// `x-log-requestid`, empty if there was none.
        request_id: String,
        /// The server's clock minus ours, in seconds, where the answer's `Date` could be read.
        clock_offset_s: Option<i64>,
    },
    /// No usable answer: connection, time-out, a body that is cut short or does not parse.
    #[error("{what}")]
    Transport {
        /// What failed, with its cause.
        what: String,
    },
}

/// What a failed request asks of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try again with back-off.
    Retry,
    /// A quota: try again after at least this long, growing.
    SlowDown(Duration),
    /// The consumer or this shard's lease is gone: stop at once, never retry.
    LeaseLost,
    /// The cursor is no longer (or never was) valid.
    InvalidCursor,
    /// The shard does not exist (any more).
    ShardGone,
    /// Somebody has to correct something (rights, keys, names, clock); before the first heartbeat it ends the process.
    Fatal,
}

#[derive(Deserialize)]
struct Body {
    #[serde(alias = "error_code")]
    #[serde(rename = "errorCode")]
    code: String,
    #[serde(alias = "error_message", rename = "errorMessage", default)]
    message: String,
}

impl SlsError {
    /// Makes an error of an answer whose status is not 200.
    pub fn refused(status: u16, body: &[u8], request_id: Option<&str>, clock_offset_s: Option<i64>) -> Self {
        let parsed = (body.len() <= MAX_ERROR_BODY).then(|| serde_json::from_slice::<Body>(body).ok()).flatten();
        let (code, message) = match &parsed {
            Some(Body { code, message }) if !code.is_empty() => (code.as_str(), escape_foreign(message, MAX_MESSAGE)),
            _ => {
                let excerpt = String::from_utf8_lossy(&body[..body.len().min(200)]);
                let shown = escape_foreign(excerpt.trim(), 200);
                (
                    BAD_RESPONSE,
                    format!("this is not how SLS answers; a proxy, or a wrong endpoint? It begins: {shown:?}"),
                )
            }
        };
        Self::Refused {
            status,
            code: escape_foreign(code, MAX_NAME),
            message,
            request_id: escape_foreign(request_id.unwrap_or(""), MAX_NAME),
            clock_offset_s,
        }
    }

    /// Makes an error of anything that prevented a usable answer.
    pub fn transport(what: impl Into<String>) -> Self {
        Self::Transport { what: what.into() }
    }

    /// SLS's error code, where it answered with one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Transport { .. } => None,
        }
    }

    /// Whether SLS answered with this code: without regard to case, and to the two spellings that some codes have.
    pub fn code_is(&self, code: &str) -> bool {
        self.code().is_some_and(|ours| canonical(ours) == canonical(code))
    }

    fn code_is_any(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.code_is(code))
    }

    /// What the failure asks of the sender. The code decides, never the status alone, where SLS gave a known one.
    pub fn class(&self) -> ErrorClass {
        let Self::Refused { status, message, clock_offset_s, .. } = self else {
            return ErrorClass::Retry;
        };
        if self.code_is_any(LEASE_LOST) {
            ErrorClass::LeaseLost
        } else if self.code_is("InvalidCursor") {
            ErrorClass::InvalidCursor
        } else if self.code_is("ShardNotExist") {
            ErrorClass::ShardGone
        } else if self.code_is_any(&["ParameterInvalid", "InvalidParameter"]) {
            let about_cursor = message.to_ascii_lowercase().contains("cursor");
            if about_cursor { ErrorClass::InvalidCursor } else { ErrorClass::Fatal }
        } else if self.is_clock() {
            // The client corrects its time by the offset, so the next attempt is another request.
            if clock_offset_s.is_some() { ErrorClass::Retry } else { ErrorClass::Fatal }
        } else if self.code_is_any(FATAL) {
            ErrorClass::Fatal
        } else if self.code_is_any(QUOTA) || *status == 429 || says_quota(message) {
            ErrorClass::SlowDown(Duration::from_secs(1))
        } else {
            // Also codes that nobody has heard of, and whatever a proxy in between says.
            ErrorClass::Retry
        }
    }

    /// Whether SLS finds our clock wrong.
    pub fn is_clock(&self) -> bool {
        self.code_is_any(&["RequestTimeTooSkewed", "RequestTimeExpired"])
    }

    /// Whether SLS knows us but does not let us do this one thing.
    pub fn is_denied_action(&self) -> bool {
        let Self::Refused { message, .. } = self else { return false };
        self.code_is("Unauthorized") && after(message, "action:").is_some()
    }

    /// One sentence that tells a human what to do, where there is something to do.
    pub fn remedy(&self) -> Option<String> {
        let Self::Refused { message, clock_offset_s, .. } = self else {
            return None;
        };
        let plain = |text: &str| Some(text.to_owned());
        if self.is_clock() {
            return Some(match clock_offset_s {
                Some(offset) if *offset > 0 => format!(
                    "this machine's clock is {offset} s behind that of SLS, and 15 minutes are allowed: set it (NTP)"
                ),
                Some(offset) if *offset < 0 => format!(
                    "this machine's clock is {} s ahead of that of SLS, and 15 minutes are allowed: set it (NTP)",
                    offset.unsigned_abs()
                ),
                _ => "this machine's clock differs from that of SLS by more than 15 minutes: set it (NTP)".to_owned(),
            });
        }
        if self.code_is("SignatureNotMatch") {
            return plain(
                "check the AccessKey secret (a space or line break at its end?) and, with signature V4, the region; \
                 if both are right, a proxy changes the requests on their way",
            );
        }
        if self.code_is_any(&["InvalidAccessKeyId", "InvalidAccessKeyId.NotFound"]) {
            return plain("check the AccessKey id: SLS does not know it");
        }
        if self.code_is_any(&["SecurityTokenExpired", "SecurityToken.Expired"]) {
            return plain("the STS token has expired: get a new one together with its AccessKey id and secret");
        }
        if self.code_is("Unauthorized") {
            return Some(unauthorized_remedy(message));
        }
        if self.code_is("ProjectNotExist") {
            return plain("check the project's name and that the endpoint is that of its region");
        }
        if self.code_is("ProjectForbidden") {
            return plain("the project is blocked: look at its state, and for unpaid bills, in the SLS console");
        }
        if self.code_is("LogStoreNotExist") {
            return plain("check the logstore's name, and that it is one of this project");
        }
        if self.code_is("ConsumerGroupNotExist") {
            return plain("somebody deleted the consumer group: create it again, or allow us to");
        }
        None
    }
}

const LEASE_LOST: &[&str] = &["ConsumerNotExist", "ConsumerNotMatch", "NotExistConsumerWithBody"];

const QUOTA: &[&str] = &[
    "ReadQuotaExceed",
    "ShardReadQuotaExceed",
    "WriteQuotaExceed",
    "ShardWriteQuotaExceed",
    "MetaOperationQpsLimitExceeded",
];

/// What no repetition changes: credentials and names to be corrected, and defects of our requests.
const FATAL: &[&str] = &[
    "Unauthorized",
    "SignatureNotMatch",
    "InvalidAccessKeyId",
    "InvalidAccessKeyId.NotFound",
    "SecurityTokenExpired",
    "SecurityToken.Expired",
    "MissAccessKeyId",
    "ProjectNotExist",
    "ProjectForbidden",
    "LogStoreNotExist",
    "LogStoreAlreadyExist",
    "ConsumerGroupNotExist",
    "ConsumerGroupAlreadyExist",
    "ConsumerGroupQuotaExceed",
    "InvalidShardCheckPoint",
    "JsonInfoInvalid",
    "InvalidMethod",
    "MissingContentType",
    "InvalidContentType",
    "MissingContentLength",
    "MissingHost",
    "InvalidHost",
    "MissingBodyRawSize",
    "InvalidBodyRawSize",
    "InvalidCompressType",
    "MissingAPIVersion",
    "InvalidAPIVersion",
    "MissingSignatureMethod",
    "InvalidSignatureMethod",
    "MissingDate",
    "InvalidDateFormat",
    "InvalidRequestTime",
    "PostBodyInvalid",
    "PostBodyUncompressError",
    "PostBodyTooLarge",
    "InvalidTimestamp",
    "InvalidEncoding",
    "InvalidKey",
];

/// One spelling for codes that are the same: lower case, without the transposed `Exsit` and the plural `NotExists`.
fn canonical(code: &str) -> String {
    let code = code.to_ascii_lowercase().replace("exsit", "exist");
    match code.strip_suffix("notexists") {
        Some(subject) => format!("{subject}notexist"),
        None => code,
    }
}

/// Quotas are also told by text, under codes that vary.
fn says_quota(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["qps exceed", "flow quota exceed", "quota exceed"].iter().any(|text| message.contains(text))
}

fn unauthorized_remedy(message: &str) -> String {
    let lower = message.to_ascii_lowercase();
    if let Some(action) = after(message, "action:") {
        return match after(message, "resource:") {
            Some(resource) => {
                format!("grant the RAM action {action} on the resource {resource} to the owner of the AccessKey")
            }
            None => format!("grant the RAM action {action} to the owner of the AccessKey"),
        };
    }
    let remedy = if lower.contains("security token") && lower.contains("expired") {
        "the STS token has expired: get a new one together with its AccessKey id and secret"
    } else if lower.contains("security token") {
        "check the STS token: it has to come from the same answer as the AccessKey id and secret"
    } else if lower.contains("not found") {
        "check the AccessKey id: SLS does not know it"
    } else if lower.contains("disabled") {
        "the AccessKey is disabled: enable it in the RAM console, or use another"
    } else if lower.contains("forbidden") {
        "the SLS service of this account is blocked: look for unpaid bills in the console"
    } else if lower.contains("does not belong to you") {
        "the project belongs to another account: check its name, or use a key of its owner"
    } else {
        "check the AccessKey and what its owner may do in RAM"
    };
    remedy.to_owned()
}

/// The word that follows a label of a message, up to a blank or comma.
fn after<'a>(message: &'a str, label: &str) -> Option<&'a str> {
    let at = message.to_ascii_lowercase().find(label)?;
    let rest = message[at + label.len()..].trim_start();
    let word = rest.split([' ', ',', ';']).next().unwrap_or("").trim_end_matches('.');
    (!word.is_empty()).then_some(word)
}

/// What to do when no further consumer group fits into the logstore; `existing` are the groups that fill it.
pub fn group_quota_remedy<S: AsRef<str>>(existing: &[S]) -> String {
    const SHOWN: usize = 50;
    let names: Vec<_> = existing.iter().take(SHOWN).map(|name| escape_foreign(name.as_ref(), 100)).collect();
    let mut list = names.join(", ");
    if existing.len() > SHOWN {
        list.push_str(&format!(" and {} more", existing.len() - SHOWN));
    }
    match existing {
        [] => "delete a consumer group of this logstore that nobody uses, or use an existing one".to_owned(),
        _ => format!("use one of the existing consumer groups, or delete one that nobody uses: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, message: &str) -> SlsError {
        let body = serde_json::json!({ "errorCode": code, "errorMessage": message }).to_string();
        SlsError::refused(status, body.as_bytes(), Some("0EA3501E0AF48FD7FF0FBC43"), Some(3))
    }

    #[test]
    fn both_spellings_of_the_error_body_are_read() {
        for body in [
            r#"{"errorCode":"LogStoreNotExist","errorMessage":"logstore nope does not exist","new":{"a":1}}"#,
            r#"{"error_code":"LogStoreNotExist","error_message":"logstore nope does not exist"}"#,
        ] {
            let error = SlsError::refused(404, body.as_bytes(), None, None);
            assert!(error.code_is("LogstoreNotExist"));
            assert_eq!(error.to_string(), "SLS answered 404 LogStoreNotExist: logstore nope does not exist (request )");
        }
    }

    #[test]
    fn codes_are_recognised_in_every_known_spelling() {
        assert!(refused(404, "ConsumerNotExsit", "").code_is("consumernotexist"));
        assert!(refused(404, "ShardNotExist", "").code_is("ShardNotExsit"));
        assert!(refused(404, "ProjectNotExists", "").code_is("ProjectNotExist"));
        assert!(!refused(404, "ConsumerGroupNotExist", "").code_is("ConsumerNotExist"));
        assert!(!SlsError::transport("x").code_is(""));
    }

    #[test]
    fn every_class_has_its_codes() {
        use ErrorClass::*;
        let second = SlowDown(Duration::from_secs(1));
        let cases = [
            (404, "ConsumerNotExist", "", LeaseLost),
            (404, "ConsumerNotExsit", "", LeaseLost),
            (400, "ConsumerNotMatch", "consumer doesn't match", LeaseLost),
            (400, "NotExistConsumerWithBody", "", LeaseLost),
            (400, "invalidcursor", "", InvalidCursor),
            (400, "ParameterInvalid", "Invalid cursor abc", InvalidCursor),
            (400, "InvalidParameter", "invalid Cursor", InvalidCursor),
            (400, "ParameterInvalid", "ParameterCount should be in [0-1000]", Fatal),
            (400, "ShardNotExist", "", ShardGone),
            (404, "ShardNotExsit", "", ShardGone),
            (403, "ShardReadQuotaExceed", "", second),
            (403, "ReadQuotaExceed", "Read QPS Exceed", second),
            (403, "Whatever", "Outflow Quota Exceed", second),
            (403, "MetaOperationQpsLimitExceeded", "", second),
            (429, "TooManyRequests", "", second),
            (403, "ConsumerGroupQuotaExceed", "consumer group quota exceed", Fatal),
            (401, "Unauthorized", "", Fatal),
            (401, "SignatureNotMatch", "", Fatal),
            (404, "ProjectNotExists", "", Fatal),
            (404, "LogstoreNotExist", "", Fatal),
            (400, "LogStoreWithoutShard", "", Retry),
            (500, "InternalServerError", "", Retry),
            (503, "ServerBusy", "", Retry),
            (418, "NeverHeardOf", "", Retry),
            (400, "RequestTimeTooSkewed", "", Retry),
        ];
        for (status, code, message, class) in cases {
            assert_eq!(refused(status, code, message).class(), class, "{code} {message}");
        }
        assert_eq!(SlsError::transport("refused").class(), Retry);
        let unknown_offset = SlsError::refused(400, br#"{"errorCode":"RequestTimeExpired"}"#, None, None);
        assert_eq!(unknown_offset.class(), Fatal);
    }

    #[test]
    fn what_is_no_sls_error_is_shown_cut_and_escaped() {
        let page = format!("<html>\r\n\u{1b}[2J{}", "x".repeat(100_000));
        let error = SlsError::refused(502, page.as_bytes(), None, None);
        assert!(error.code_is("BadResponse"));
        assert_eq!(error.class(), ErrorClass::Retry);
        let shown = error.to_string();
        assert!(shown.len() < 400 && !shown.contains(['\u{1b}', '\r', '\n']), "{shown}");
    }

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        let hostile = "evil\n\u{1b}]0;x\u{7}".repeat(1000);
        let body = serde_json::json!({ "errorCode": hostile, "errorMessage": hostile }).to_string();
        let shown = SlsError::refused(400, body.as_bytes(), Some(&hostile), None).to_string();
        assert!(shown.len() < 1400 && !shown.contains(char::is_control), "{shown}");
    }

    #[test]
    fn remedies_name_what_was_refused() {
        let denied = "denied by sts or ram, action: log:ConsumerGroupHeartBeat, resource: \
                      acs:log:cn-hangzhou:123:project/p/logstore/l/consumergroup/g";
        assert_eq!(
            refused(401, "Unauthorized", denied).remedy().unwrap(),
            "grant the RAM action log:ConsumerGroupHeartBeat on the resource \
             acs:log:cn-hangzhou:123:project/p/logstore/l/consumergroup/g to the owner of the AccessKey"
        );
        let remedy = |code, message| refused(400, code, message).remedy().unwrap();
        assert!(remedy("Unauthorized", "AccessKeyId not found: X").contains("AccessKey id"));
        assert!(remedy("Unauthorized", "The security token you provided has expired").contains("expired"));
        assert!(remedy("SignatureNotMatch", "signature X not match").contains("secret"));
        assert!(remedy("ProjectNotExist", "").contains("project"));
        assert!(remedy("LogStoreNotExist", "").contains("logstore"));
        assert_eq!(refused(500, "InternalServerError", "").remedy(), None);
    }

    #[test]
    fn the_clock_remedy_says_how_far_and_in_which_direction() {
        let remedy =
            |offset| SlsError::refused(400, br#"{"errorCode":"RequestTimeExpired"}"#, None, offset).remedy().unwrap();
        assert!(remedy(Some(1200)).contains("1200 s behind"));
        assert!(remedy(Some(-1200)).contains("1200 s ahead"));
        assert!(remedy(None).contains("15 minutes"));
    }

    #[test]
    fn the_quota_remedy_lists_the_groups_and_no_number() {
        assert_eq!(
            group_quota_remedy(&["a", "b\n"]),
            r"use one of the existing consumer groups, or delete one that nobody uses: a, b\n"
        );
        assert!(group_quota_remedy::<&str>(&[]).contains("delete"));
        assert!(group_quota_remedy(&vec!["g"; 60]).ends_with("and 10 more"));
    }
}
