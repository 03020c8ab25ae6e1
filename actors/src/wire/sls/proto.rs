//! Log groups as owned structs (proto2), where speed does not matter: puts, odd records, the oracle of tests.
//!
//! Every text is `bytes`: producers are not forced to send UTF-8, and one bad string must not reject a whole message.
//! Unknown fields are skipped. Field 3 of `Log` is unused.

use bytes::Bytes;

/// What PullLogs answers once decompressed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogGroupList {
    /// The groups, in cursor order.
    #[prost(message, repeated, tag = "1")]
    pub log_groups: Vec<LogGroup>,
}

/// Logs of one source that were written together; one step of the cursor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogGroup {
    /// The logs.
    #[prost(message, repeated, tag = "1")]
    pub logs: Vec<Log>,
    /// Reserved (some producers put a category here).
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub category: Option<Bytes>,
    /// Topic.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub topic: Option<Bytes>,
    /// Address or name of the sender.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub source: Option<Bytes>,
    /// Identifier of the sending machine.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub machine_uuid: Option<Bytes>,
    /// Tags, which belong to every log of the group.
    #[prost(message, repeated, tag = "6")]
    pub log_tags: Vec<LogTag>,
}

/// One log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    /// Unix seconds.
    #[prost(uint32, required, tag = "1")]
    pub time: u32,
    /// Fields.
    #[prost(message, repeated, tag = "2")]
    pub contents: Vec<Content>,
    /// Nanoseconds within the second.
    #[prost(fixed32, optional, tag = "4")]
    pub time_ns: Option<u32>,
}

/// One field of a log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Content {
    /// Name.
    #[prost(bytes = "bytes", required, tag = "1")]
    pub key: Bytes,
    /// Value.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub value: Bytes,
}

/// One tag of a log group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogTag {
    /// Name.
    #[prost(bytes = "bytes", required, tag = "1")]
    pub key: Bytes,
    /// Value.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub value: Bytes,
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use prost::Message;

    use super::*;

    #[test]
    fn the_documented_group_reads_as_described() {
        let wire = HEXLOWER.decode(b"0a0e0880e2cfaa0612060a0172120173").unwrap();
        let group = LogGroup::decode(&wire[..]).unwrap();
        assert_eq!(group.logs.len(), 1);
        assert_eq!(group.logs[0].time, 1_700_000_000);
        assert_eq!((&group.logs[0].contents[0].key[..], &group.logs[0].contents[0].value[..]), (&b"r"[..], &b"s"[..]));
        assert_eq!(group.encode_to_vec(), wire);
    }

    #[test]
    fn nanoseconds_are_fixed32_in_field_four_and_bad_utf8_survives() {
        let log = Log {
            time: 1,
            contents: vec![Content { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"ab\xff\xfe") }],
            time_ns: Some(982_097_408),
        };
        let wire = log.encode_to_vec();
        assert_eq!(&wire[wire.len() - 5..], [&[0x25][..], &982_097_408_u32.to_le_bytes()].concat());
        assert_eq!(Log::decode(&wire[..]).unwrap(), log);
    }
}
