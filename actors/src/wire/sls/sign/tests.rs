//! The published vectors of both versions, and what a server refuses.

use chrono::TimeZone;
use secrecy::SecretString;

use super::*;
use crate::model::ids::ShardId;
use crate::wire::sls::request;

type Pairs<'a> = &'a [(&'a str, &'a str)];

const MOCK: (&str, &str) = ("mockAccessKeyID", "mockAccessKeySecret");
const RUST: (&str, &str) = ("test-access-key-id", "test-access-key");
const PAGE: (&str, &str) = ("bq2sjzesjmo86kq35behupbq", "4fdO2fTDDnZPU/L7CHNdemB2Nsk=");
const GO: (&str, &str) = ("acsddda21dsd", "zxasdasdasw2");
const PULL_QUERY: Pairs<'_> = &[
    ("type", "log"),
    ("cursor", "MTcwMDAwMDAwMDAwMDAwMDAwMA=="),
    ("count", "1000"),
    ("end_cursor", "MTcwMDAwMDAwMDAwMDAwMDEwMA=="),
    ("query", "* | where msg like '%a+b=c&d%' -- 日志"),
    ("pullMode", "scan_on_stream"),
];
const BEAT_QUERY: Pairs<'_> = &[("type", "heartbeat"), ("consumer", "host 1/α")];
const TOKEN: (&str, &str) = ("x-acs-security-token", "CAIS+sts/token==");

fn v1(secret: &str, method: &str, path: &str, query: Pairs<'_>, headers: Pairs<'_>) -> (String, String) {
    let text = v1_string_to_sign(&Signed { method, path, query, headers }, find(headers, "date").unwrap());
    let signature = v1_signature(secret, &text);
    (text, signature)
}

#[test]
fn v1_1_bodiless() {
    let headers = [
        ("x-log-apiversion", "0.6.0"),
        ("x-log-signaturemethod", "hmac-sha1"),
        ("x-log-bodyrawsize", "0"),
        ("Date", "Mon, 3 Jan 2010 08:33:47 GMT"),
    ];
    let (text, signature) = v1(MOCK.1, "GET", "/logstores", &[], &headers);
    assert_eq!(
        text,
        "GET\n\n\nMon, 3 Jan 2010 08:33:47 GMT\nx-log-apiversion:0.6.0\nx-log-bodyrawsize:0\n\
         x-log-signaturemethod:hmac-sha1\n/logstores"
    );
    assert_eq!(signature, "Rwm6cTKzoti4HWoe+GKcb6Kv07E=");
}

#[test]
fn v1_2_protobuf_body() {
    let body = HEXLOWER
        .decode(
            b"0a320a1e08f8b2939e0512160a07546573744b6579120b54657374436f6e74656e741a00220e31302e3233302e3230312e313137",
        )
        .unwrap();
    assert_eq!(content_md5(&body), "8D6881250FF5559F59BBDF04100F6E59");
    let headers = [
        ("x-log-apiversion", "0.6.0"),
        ("x-log-signaturemethod", "hmac-sha1"),
        ("x-log-bodyrawsize", "50"),
        ("Content-Type", "application/x-protobuf"),
        ("Content-MD5", "8D6881250FF5559F59BBDF04100F6E59"),
        ("Date", "Mon, 3 Jan 2010 08:33:47 GMT"),
    ];
    assert_eq!(v1(MOCK.1, "GET", "/logstores/app_log", &[], &headers).1, "87xQWqFaOSewqRIma8kPjGYlXHc=");
}

#[test]
fn v1_3_and_4_sorted_query_and_token() {
    let body =
        HEXLOWER.decode(b"0a2020202020202020202020207b226b6579223a202276616c7565227d0a2020202020202020").unwrap();
    let md5 = content_md5(&body);
    assert_eq!(md5, "CE688F8D1AC3ED309BA9BE0A5ABAFCE5");
    let query = [("type", "log"), ("offset", "0"), ("line", "100")];
    let mut headers = vec![
        ("x-log-apiversion", "0.6.0"),
        ("x-log-signaturemethod", "hmac-sha1"),
        ("Content-Type", "application/json"),
        ("Content-MD5", md5.as_str()),
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ];
    let sign = |headers: Pairs<'_>| v1(RUST.1, "POST", "/logstores/test-logstore", &query, headers).1;
    assert_eq!(sign(&headers), "4pL2xZJERC3tPKtRiHh9+nMG3tI=");
    headers.insert(0, ("x-acs-security-token", "test-security-token"));
    assert_eq!(sign(&headers), "ZQt+0wIvpd+O9yIJKeKxZTJ2hv0=");
}

#[test]
fn v1_5_decoded_query() {
    let headers = [
        ("x-log-apiversion", "0.6.0"),
        ("x-log-signaturemethod", "hmac-sha1"),
        ("x-log-bodyrawsize", "0"),
        ("Accept", "application/x-protobuf"),
        ("Accept-Encoding", "lz4"),
        ("Date", "Tue, 03 Mar 2026 07:05:09 GMT"),
    ];
    let (text, signature) = v1(MOCK.1, "GET", "/logstores/nginx/shards/7", PULL_QUERY, &headers);
    assert!(text.ends_with(
        "\n/logstores/nginx/shards/7?count=1000&cursor=MTcwMDAwMDAwMDAwMDAwMDAwMA==&\
         end_cursor=MTcwMDAwMDAwMDAwMDAwMDEwMA==&pullMode=scan_on_stream&\
         query=* | where msg like '%a+b=c&d%' -- 日志&type=log"
    ));
    assert_eq!(signature, "QGu8yIiRcdkUKPnSWOeg6xbSdG8=");
}

#[test]
fn v1_6_heartbeat_with_token() {
    let md5 = content_md5(b"[0, 1]");
    let headers = [
        ("x-log-apiversion", "0.6.0"),
        ("Content-Type", "application/json"),
        ("x-log-signaturemethod", "hmac-sha1"),
        ("Date", "Tue, 03 Mar 2026 07:05:09 GMT"),
        ("x-log-date", "Tue, 03 Mar 2026 07:05:09 GMT"),
        ("Content-MD5", md5.as_str()),
        TOKEN,
    ];
    let path = "/logstores/nginx/consumergroups/siem-forwarder";
    assert_eq!(v1(MOCK.1, "POST", path, BEAT_QUERY, &headers).1, "9C/yYeXcoYkmssFYBQUt7NZjbK8=");
}

#[test]
fn v1_7_content_type_without_body() {
    let headers = [
        ("x-log-apiversion", "0.6.0"),
        ("x-log-signaturemethod", "hmac-sha1"),
        ("x-log-bodyrawsize", "0"),
        ("Content-Type", "application/x-protobuf"),
        ("Date", "Tue, 03 Mar 2026 07:05:09 GMT"),
    ];
    assert_eq!(v1(MOCK.1, "GET", "/logstores/nginx/shards", &[], &headers).1, "X9w/gUBxG5axNiIMH5dKOmi4OUI=");
}

#[test]
fn v1_8_empty_parameter_keeps_its_equals_sign() {
    let headers = [
        ("x-log-apiversion", "0.6.0"),
        ("x-log-signaturemethod", "hmac-sha1"),
        ("Date", "Mon, 09 Nov 2015 06:11:16 GMT"),
    ];
    let query = [("logstoreName", ""), ("offset", "0"), ("size", "1000")];
    assert_eq!(v1(PAGE.1, "GET", "/logstores", &query, &headers).1, "jEYOTCJs2e88o+y5F4/S5IsnBJQ=");
}

#[test]
fn v1_9_compressed_body() {
    let headers = [
        ("Content-MD5", "1DD45FA4A70A9300CC9FE7305AF2C494"),
        ("Content-Type", "application/x-protobuf"),
        ("Date", "Mon, 09 Nov 2015 06:03:03 GMT"),
        ("x-log-apiversion", "0.6.0"),
        ("x-log-bodyrawsize", "50"),
        ("x-log-compresstype", "lz4"),
        ("x-log-signaturemethod", "hmac-sha1"),
    ];
    assert_eq!(v1(PAGE.1, "POST", "/logstores/test-logstore", &[], &headers).1, "XWLGYHGg2F2hcfxWxMLiNkGki6g=");
}

struct V4<'a> {
    secret: &'a str,
    region: &'a str,
    method: &'a str,
    path: &'a str,
    query: Pairs<'a>,
    headers: Pairs<'a>,
    body: &'a [u8],
    canonical: &'a str,
    canonical_hash: &'a str,
    key: &'a str,
    signature: &'a str,
}

impl V4<'_> {
    fn check(&self) {
        let hash = content_sha256(self.body);
        let mut headers = self.headers.to_vec();
        headers.push(("x-log-content-sha256", &hash));
        let request = Signed { method: self.method, path: self.path, query: self.query, headers: &headers };
        let canonical = v4_canonical_request(&request, &hash);
        assert_eq!(canonical, self.canonical);
        let date_time = find(&headers, "x-log-date").unwrap();
        let date = &date_time[..8];
        let text = v4_string_to_sign(date_time, date, self.region, &canonical);
        assert_eq!(
            text,
            format!(
                "SLS4-HMAC-SHA256\n{date_time}\n{date}/{}/sls/aliyun_v4_request\n{}",
                self.region, self.canonical_hash
            )
        );
        let key = v4_signing_key(self.secret, date, self.region);
        assert_eq!(HEXLOWER.encode(&key), self.key);
        assert_eq!(v4_signature(&key, &text), self.signature);
    }
}

const ODD_QUERY: Pairs<'_> = &[(" abc", "efg"), (" agc ", ""), ("", "efg"), ("A-bc", "eFg")];
const ODD_HEADERS: Pairs<'_> = &[
    ("hello", "world"),
    ("hello-Text", "a12X- "),
    (" Ko ", ""),
    ("", "AA"),
    ("x-log-test", "het123"),
    ("x-acs-ppp", "dds"),
    ("x-log-date", "20220808T032330Z"),
];

#[test]
fn v4_1_odd_names() {
    V4 {
        secret: GO.1,
        region: "cn-hangzhou",
        method: "POST",
        path: "/logstores",
        query: ODD_QUERY,
        headers: ODD_HEADERS,
        body: b"adasd= -asd zcas",
        canonical: "POST\n/logstores\n=efg& abc=efg& agc &A-bc=eFg\nx-acs-ppp:dds\n\
            x-log-content-sha256:c7a4fd95f1d70933caf91641e8000768cea86100dc5649fd4f16fead718a62e4\n\
            x-log-date:20220808T032330Z\nx-log-test:het123\n\n\
            x-acs-ppp;x-log-content-sha256;x-log-date;x-log-test\n\
            c7a4fd95f1d70933caf91641e8000768cea86100dc5649fd4f16fead718a62e4",
        canonical_hash: "8a6dc74ae7eb62997dba7291c88f4e4714d4efd6669e89d36ded25ed58129a82",
        key: "f9feff3df1212a2705c848a72bb8403889fee324e9a021427e4489d156215a64",
        signature: "a98f5632e93836e63839cd836a54055f480020a9364ca944e2d34f2eb9bf1bed",
    }
    .check();
}

#[test]
fn v4_2_no_query() {
    V4 {
        secret: GO.1,
        region: "cn-shanghai",
        method: "POST",
        path: "/logstores",
        query: &[],
        headers: &[("x-log-date", "20220808T032330Z")],
        body: b"adasd= -asd zcas",
        canonical: "POST\n/logstores\n\n\
            x-log-content-sha256:c7a4fd95f1d70933caf91641e8000768cea86100dc5649fd4f16fead718a62e4\n\
            x-log-date:20220808T032330Z\n\nx-log-content-sha256;x-log-date\n\
            c7a4fd95f1d70933caf91641e8000768cea86100dc5649fd4f16fead718a62e4",
        canonical_hash: "4f73de14376f2e28bcf261b1ff31dfa8b23ed5166e3877f494bf3dcd523bd102",
        key: "e9afb525ed8c733ab3a489aecdcf0b64ef9f363f14975f7de03636fdead0b7d8",
        signature: "8a10a5e723cb2e75964816de660b2c16a58af8bc0261f7f0722d832468c76ce8",
    }
    .check();
}

#[test]
fn v4_3_empty_body() {
    V4 {
        secret: GO.1,
        region: "cn-hangzhou",
        method: "GET",
        path: "/logstores",
        query: ODD_QUERY,
        headers: ODD_HEADERS,
        body: b"",
        canonical: "GET\n/logstores\n=efg& abc=efg& agc &A-bc=eFg\nx-acs-ppp:dds\n\
            x-log-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
            x-log-date:20220808T032330Z\nx-log-test:het123\n\n\
            x-acs-ppp;x-log-content-sha256;x-log-date;x-log-test\n\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        canonical_hash: "c4d4099f73161af1425b67dbcb07d43891970541300229859dfeb2fa4ee4338d",
        key: "f9feff3df1212a2705c848a72bb8403889fee324e9a021427e4489d156215a64",
        signature: "d92741852500791d662a8d469ff61627c0559ecd86c3f59b7bf6772b6c62666a",
    }
    .check();
}

#[test]
fn v4_4_pull() {
    V4 {
        secret: MOCK.1,
        region: "cn-hangzhou",
        method: "GET",
        path: "/logstores/nginx/shards/7",
        query: PULL_QUERY,
        headers: &[
            ("x-log-apiversion", "0.6.0"),
            ("x-log-date", "20260303T070509Z"),
            ("x-log-bodyrawsize", "0"),
            ("Host", "proj1.cn-hangzhou.log.aliyuncs.com"),
            ("Accept", "application/x-protobuf"),
            ("Accept-Encoding", "lz4"),
        ],
        body: b"",
        canonical: "GET\n/logstores/nginx/shards/7\n\
            count=1000&cursor=MTcwMDAwMDAwMDAwMDAwMDAwMA%3D%3D&end_cursor=MTcwMDAwMDAwMDAwMDAwMDEwMA%3D%3D&\
            pullMode=scan_on_stream&query=%2A%20%7C%20where%20msg%20like%20%27%25a%2Bb%3Dc%26d%25%27%20--%20\
            %E6%97%A5%E5%BF%97&type=log\nhost:proj1.cn-hangzhou.log.aliyuncs.com\nx-log-apiversion:0.6.0\n\
            x-log-bodyrawsize:0\n\
            x-log-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
            x-log-date:20260303T070509Z\n\n\
            host;x-log-apiversion;x-log-bodyrawsize;x-log-content-sha256;x-log-date\n\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        canonical_hash: "42f9521a782d7c5a8814cfb10836d39363fe33a09ba6c32652483f998b693d23",
        key: "8e97d14704c817a9e42d0e744635e5557f87ac635e928886b6d452213a068985",
        signature: "fa4182cb7def2779c0ee93935a7f80499426f111f72287fc89430c5fc6051570",
    }
    .check();
}

#[test]
fn v4_5_heartbeat_with_token() {
    V4 {
        secret: MOCK.1,
        region: "cn-hangzhou",
        method: "POST",
        path: "/logstores/nginx/consumergroups/siem-forwarder",
        query: BEAT_QUERY,
        headers: &[
            ("x-log-apiversion", "0.6.0"),
            ("x-log-date", "20260303T070509Z"),
            ("Host", "proj1.cn-hangzhou.log.aliyuncs.com"),
            ("Content-Type", "application/json"),
            TOKEN,
        ],
        body: b"[0, 1]",
        canonical: "POST\n/logstores/nginx/consumergroups/siem-forwarder\n\
            consumer=host%201%2F%CE%B1&type=heartbeat\ncontent-type:application/json\n\
            host:proj1.cn-hangzhou.log.aliyuncs.com\nx-acs-security-token:CAIS+sts/token==\n\
            x-log-apiversion:0.6.0\n\
            x-log-content-sha256:923682bea6d517dc178d480c88e129e485ed902f4fa024866666658cd4ea6836\n\
            x-log-date:20260303T070509Z\n\n\
            content-type;host;x-acs-security-token;x-log-apiversion;x-log-content-sha256;x-log-date\n\
            923682bea6d517dc178d480c88e129e485ed902f4fa024866666658cd4ea6836",
        canonical_hash: "623def2c0f526e8596a58ce23026859963fe0bd9ec8d205460a0d33e2a46dc75",
        key: "8e97d14704c817a9e42d0e744635e5557f87ac635e928886b6d452213a068985",
        signature: "e3855c939148a079adebc7bd6e344633c3a57d4162a4fa867d01de39af1259a7",
    }
    .check();
}

#[test]
fn v4_6_host_with_port() {
    V4 {
        secret: MOCK.1,
        region: "cn-hangzhou",
        method: "GET",
        path: "/logstores/nginx/shards",
        query: &[],
        headers: &[
            ("x-log-apiversion", "0.6.0"),
            ("x-log-date", "20260303T070509Z"),
            ("x-log-bodyrawsize", "0"),
            ("Host", "proj1.cn-hangzhou.log.aliyuncs.com:19080"),
        ],
        body: b"",
        canonical: "GET\n/logstores/nginx/shards\n\nhost:proj1.cn-hangzhou.log.aliyuncs.com:19080\n\
            x-log-apiversion:0.6.0\nx-log-bodyrawsize:0\n\
            x-log-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
            x-log-date:20260303T070509Z\n\n\
            host;x-log-apiversion;x-log-bodyrawsize;x-log-content-sha256;x-log-date\n\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        canonical_hash: "9ae72d11f14d6920f403a9c3cb17607e121dc53b185dc95126a8b75fbbb1b984",
        key: "8e97d14704c817a9e42d0e744635e5557f87ac635e928886b6d452213a068985",
        signature: "76c6c90dd08cb7b3491db1eb1a0d20ddc11766ee8f62f411672796bcd0246c9d",
    }
    .check();
}

// ---- Requests of our own, checked as a server does -----------------------------------------------------------

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 3, 7, 5, 9).unwrap()
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: MOCK.0.to_owned(),
        access_key_secret: SecretString::from(MOCK.1),
        security_token: token.map(SecretString::from),
    }
}

fn versions() -> [Signature; 2] {
    [Signature::V1, Signature::V4 { region: "cn-hangzhou".to_owned() }]
}

fn beat(signature: &Signature, token: Option<&str>) -> SlsRequest {
    let mut beat = request::heartbeat("nginx", "siem-forwarder", "host 1/α+%", &[ShardId(0), ShardId(1)]);
    sign_request(&mut beat, &credentials(token), signature, "proj1.127.0.0.1:9000", now());
    beat
}

type Headers = Vec<(&'static str, String)>;
type Tamper = fn(&mut String, &mut Headers, &mut Vec<u8>);

/// Verifies a request as it arrives after `tamper` has changed its target, headers or body on the way.
fn verify_after(
    request: &SlsRequest,
    token: Option<&'static str>,
    at: Option<DateTime<Utc>>,
    tamper: impl FnOnce(&mut String, &mut Headers, &mut Vec<u8>),
) -> Result<(), VerifyError> {
    let mut headers: Headers = request.headers.clone();
    let (mut target, mut body) = (request.target(), request.body.to_vec());
    tamper(&mut target, &mut headers, &mut body);
    let (path, raw_query) = target.split_once('?').unwrap_or((&target, ""));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let received = Received { method: request.method.as_str(), path, raw_query, headers: &headers, body: &body };
    verify(received, |id| (id == MOCK.0).then_some(KnownKey { secret: MOCK.1, token }), at)
}

fn set(headers: &mut Headers, name: &'static str, value: Option<&str>) {
    headers.retain(|(n, _)| *n != name);
    headers.extend(value.map(|value| (name, value.to_owned())));
}

#[test]
fn own_requests_verify_in_both_versions() {
    for signature in versions() {
        for token in [None, Some("CAIS+sts/token==")] {
            assert_eq!(verify_after(&beat(&signature, token), token, Some(now()), |_, _, _| {}), Ok(()));
        }
        let mut bodiless = request::list_shards("nginx");
        sign_request(&mut bodiless, &credentials(None), &signature, "proj1.sls.test", now());
        assert_eq!(verify_after(&bodiless, None, Some(now()), |_, _, _| {}), Ok(()));
    }
}

#[test]
fn other_spellings_of_the_same_request_verify() {
    for signature in versions() {
        let request = beat(&signature, None);
        let spelled = verify_after(&request, None, Some(now()), |target, headers, _| {
            *target = target.replace("%20", "+");
            headers.reverse();
        });
        assert_eq!(spelled, Ok(()));
    }
}

#[test]
fn whatever_is_signed_cannot_be_changed() {
    for signature in versions() {
        let request = beat(&signature, Some("token"));
        let refused =
            |tamper: Tamper| verify_after(&request, Some("token"), Some(now()), tamper).unwrap_err().answer().1;
        assert_eq!(refused(|target, _, _| *target = target.replace("siem", "mein")), "SignatureNotMatch");
        assert_eq!(refused(|target, _, _| target.push_str("&x=1")), "SignatureNotMatch");
        assert_eq!(refused(|_, headers, _| set(headers, TOKEN_HEADER, Some("other"))), "SignatureNotMatch");
        assert_eq!(refused(|_, headers, _| set(headers, "content-type", None)), "SignatureNotMatch");
        assert_eq!(refused(|_, headers, _| set(headers, "x-log-new", Some("1"))), "SignatureNotMatch");
        assert_eq!(refused(|_, _, body| body[1] = b'7'), "ParameterInvalid");
    }
    let v4 = beat(&versions()[1], None);
    let host = verify_after(&v4, None, Some(now()), |_, headers, _| set(headers, "host", Some("else.sls.test")));
    assert_eq!(host.unwrap_err().answer().1, "SignatureNotMatch");
}

#[test]
fn a_server_says_what_is_wrong() {
    let code = |result: Result<(), VerifyError>| result.unwrap_err().answer().1;
    for signature in versions() {
        let request = beat(&signature, None);
        let late = now() + chrono::TimeDelta::minutes(16);
        assert_eq!(code(verify_after(&request, None, Some(late), |_, _, _| {})), "RequestTimeExpired");
        let early = now() - chrono::TimeDelta::minutes(16);
        assert_eq!(code(verify_after(&request, None, Some(early), |_, _, _| {})), "RequestTimeExpired");
        assert_eq!(verify_after(&request, None, None, |_, _, _| {}), Ok(()));
        let without = |name: &'static str| verify_after(&request, None, Some(now()), |_, h, _| set(h, name, None));
        assert_eq!(code(without("authorization")), "Unauthorized");
        assert_eq!(code(without("x-log-apiversion")), "MissingAPIVersion");
        let date = if signature == Signature::V1 { "date" } else { "x-log-date" };
        assert_eq!(code(without(date)), "MissingDate");
        let odd = verify_after(&request, None, Some(now()), |_, h, _| set(h, date, Some("yesterday")));
        assert_eq!(code(odd), "InvalidDateFormat");
        assert_eq!(code(verify_after(&request, Some("token"), Some(now()), |_, _, _| {})), "Unauthorized");
    }
    let v1 = beat(&Signature::V1, None);
    let method = verify_after(&v1, None, Some(now()), |_, h, _| set(h, "x-log-signaturemethod", None));
    assert_eq!(code(method), "MissingSignatureMethod");
    let stranger =
        verify_after(&v1, None, Some(now()), |_, h, _| set(h, "authorization", Some("LOG no\u{7}body:eA==")));
    assert_eq!(stranger.unwrap_err().answer(), (401, "Unauthorized", r"AccessKeyId not found: no\u{7}body".to_owned()));
}

#[test]
fn malformed_authorizations_are_refused() {
    for header in
        ["", "LOG", "LOG x", "Basic eDp5", "SLS4-HMAC-SHA256 Credential=a/b/c,Signature=00", "SLS4-HMAC-SHA256 x"]
    {
        let tampered =
            verify_after(&beat(&Signature::V1, None), None, None, |_, h, _| set(h, "authorization", Some(header)));
        assert_eq!(tampered, Err(VerifyError::NotAuthorized), "{header}");
    }
}

#[test]
fn debug_output_of_a_request_holds_no_secret() {
    for signature in versions() {
        let shown = format!("{:?}", beat(&signature, Some("marker-token")));
        assert!(!shown.contains("marker") && !shown.contains(MOCK.1) && !shown.contains("Signature="), "{shown}");
    }
}
