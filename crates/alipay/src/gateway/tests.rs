use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use expect_test::{Expect, expect};

use super::*;
use crate::samples::{PRIVATE_2048, PUBLIC_2048, content, ring, sign};
use crate::{SignType, Trust, UnverifiedForm, VerificationKey};

const NODE: &str = "alipay_data_dataservice_bill_downloadurl_query_response";

/// A server that answers one request and gives back what it was asked.
struct Once {
    address: String,
    asked: JoinHandle<String>,
}

impl Once {
    /// Sends `answer` as it is, head and body, and closes.
    fn raw(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(reader.read_line(&mut head).unwrap(), 0);
            }
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ").map(|length| length.parse().unwrap())
            });
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            // The other side may hang up before it has read everything.
            stream.write_all(&answer).ok();
            head + &String::from_utf8(body).unwrap()
        });
        Once { address, asked }
    }

    fn with(status: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::raw([head.as_bytes(), body].concat())
    }

    fn asked(self) -> String {
        self.asked.join().unwrap()
    }
}

fn gateway(url: &str) -> Gateway {
    gateway_in(url, Environment::Production).unwrap()
}

fn gateway_in(url: &str, environment: Environment) -> Result<Gateway, GatewayError> {
    let app_id = AppId::parse("2021000000000001").unwrap();
    let signing_key = SigningKey::read("app", PRIVATE_2048.as_bytes()).unwrap();
    let keys = ring(&[("alipay", PUBLIC_2048)]);
    Gateway::new(url, app_id, environment, signing_key, keys, Timeouts::default())
}

fn signed(name: &str, node: &str) -> String {
    let signature = STANDARD.encode(sign(PRIVATE_2048, SignType::Rsa2, node.as_bytes()));
    format!(r#"{{"{name}":{node},"sign":"{signature}"}}"#)
}

fn now() -> DateTime<Utc> {
    payment::parse_local("2024-03-06 09:30:00").unwrap()
}

fn ask(server: &Once) -> Result<BillAddress, GatewayError> {
    let day = BillDay::parse("2024-03-05").unwrap();
    gateway(&format!("{}/gateway.do", server.address)).bill_download_url("trade", day, now())
}

fn answered(body: &str) -> Result<BillAddress, GatewayError> {
    ask(&Once::with("200 OK", body))
}

/// The error and its sources, as a log would print them, behind its code.
fn show(error: &GatewayError) -> String {
    let source = std::error::Error::source(error);
    let source = source.map(|source| format!(": {source}")).unwrap_or_default();
    format!("{}: {error}{source}", error.code())
}

fn refused<T: fmt::Debug>(result: Result<T, GatewayError>, expected: Expect) {
    expected.assert_eq(&show(&result.unwrap_err()));
}

#[test]
fn a_request_is_signed_over_all_its_parameters() {
    let link = "http://example.com/bill?token=secret";
    let node = format!(r#"{{"code":"10000","bill_download_url":"{link}"}}"#);
    let server = Once::with("200 OK", signed(NODE, &node));
    let address = ask(&server).unwrap();
    assert_eq!(address, BillAddress { url: Some(link.to_owned()), empty: false });

    let asked = server.asked();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /gateway.do?charset=utf-8 HTTP/1.1\r\n"), "{head}");
    let content_type = "content-type: application/x-www-form-urlencoded;charset=utf-8";
    assert!(head.to_lowercase().contains(content_type), "{head}");

    let form = UnverifiedForm::parse(body.as_bytes()).unwrap();
    let text = |name: &str| String::from_utf8(form.get(name).unwrap().to_vec()).unwrap();
    assert_eq!(text("timestamp"), "2024-03-06 09:30:00");
    assert_eq!(text("biz_content"), r#"{"bill_date":"2024-03-05","bill_type":"trade"}"#);
    assert_eq!(text("method"), BILL_DOWNLOAD_URL);
    let rest: Vec<(&[u8], &[u8])> = form.pairs().filter(|(name, _)| *name != b"sign").collect();
    assert_eq!(rest.len(), 8);
    let key = VerificationKey::read("app", PUBLIC_2048.as_bytes()).unwrap();
    let signature = STANDARD.decode(text("sign")).unwrap();
    assert!(key.verifies(SignType::Rsa2, &content(&rest), &signature));
    // A request is signed as V2 messages are, so the verifier agrees.
    assert!(crate::verify(form, &ring(&[("app", PUBLIC_2048)]), Trust::Active).is_ok());
}

#[test]
fn an_empty_day_is_told_with_or_without_a_link() {
    let node = r#"{"code":"10000","bill_file_code":"EMPTY_DATA_WITH_BILL_FILE"}"#;
    assert_eq!(answered(&signed(NODE, node)).unwrap(), BillAddress { url: None, empty: true });
}

#[test]
fn a_missing_bill_is_told_apart_from_other_refusals() {
    for sub_code in ["isp.bill_not_exist", "BILL_NOT_EXIST", "isp.Bill_Not_Exist"] {
        let node = format!(r#"{{"code":"40004","msg":"Business Failed","sub_code":"{sub_code}"}}"#);
        refused(
            answered(&signed(NODE, &node)),
            expect![
                "bill_not_exist: Alipay has no `trade` bill of 2024-03-05: nothing happened that day, or it is not written yet (normally by 09:00)"
            ],
        );
        // Anybody can say so without a signature.
        let unsigned = answered(&format!(r#"{{"{NODE}":{node}}}"#)).unwrap_err();
        assert_eq!(unsigned.code(), "40004");
    }
}

#[test]
fn alipays_own_words_are_passed_on_with_a_hint() {
    let node = r#"{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.invalid-signature","sub_msg":"验签出错"}"#;
    refused(
        answered(&format!(r#"{{"error_response":{node}}}"#)),
        expect![
            "40002: Alipay refused `alipay.data.dataservice.bill.downloadurl.query` with 40002 isv.invalid-signature: 验签出错 (the public key registered in Alipay's console is not that of `signing_key`)"
        ],
    );
    let node = r#"{"code":"99999","msg":"new"}"#;
    refused(
        answered(&signed(NODE, node)),
        expect![
            "other: Alipay refused `alipay.data.dataservice.bill.downloadurl.query` with 99999: new"
        ],
    );
}

#[test]
fn an_answer_that_cannot_be_trusted_is_refused() {
    let node = r#"{"code":"10000","bill_download_url":"http://example.com/?token=secret"}"#;
    refused(
        answered(&format!(r#"{{"{NODE}":{node}}}"#)),
        expect![
            "bad_signature: the gateway's answer cannot be used: the answer says it is a success and nobody has signed it"
        ],
    );
    let changed = signed(NODE, node).replace("example.com", "example.org");
    refused(
        answered(&changed),
        expect![
            "bad_signature: the gateway's answer cannot be used: none of Alipay's keys has signed the answer"
        ],
    );
    refused(
        answered("<html>"),
        expect![
            "malformed: the gateway's answer cannot be used: the answer is not the JSON of the open API: byte 0 should be the `{` of the outer object"
        ],
    );
    refused(
        answered(&" ".repeat(1024 * 1024 + 1)),
        expect!["too_large: `127.0.0.1` sent more than 1048576 bytes"],
    );
}

#[test]
fn redirects_and_error_pages_are_refused() {
    let redirect =
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let error = ask(&Once::raw(redirect.to_vec())).unwrap_err();
    assert!(matches!(error, GatewayError::Status { status: 302, .. }), "{error}");
    let error = ask(&Once::with("502 Bad Gateway", "oops")).unwrap_err();
    assert!(matches!(error, GatewayError::Status { status: 502, .. }), "{error}");
}

#[test]
fn an_unreachable_gateway_is_a_transport_error_without_its_address() {
    // Nobody serves tcpmux.
    let gateway = gateway("http://127.0.0.1:1/gateway.do?secret=1");
    let day = BillDay::parse("2024-03-05").unwrap();
    refused(
        gateway.bill_download_url("trade", day, now()),
        expect!["transport: the exchange with `127.0.0.1` failed: connection refused"],
    );
}

#[test]
fn a_silent_gateway_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/gateway.do", listener.local_addr().unwrap());
    let mut gateway = gateway(&url);
    let timeouts = Timeouts { read: Duration::from_millis(50), ..Timeouts::default() };
    gateway.agent = agent(timeouts, Duration::from_secs(60));
    let day = BillDay::parse("2024-03-05").unwrap();
    refused(
        gateway.bill_download_url("trade", day, now()),
        expect!["timeout: the exchange with `127.0.0.1` failed: it took too long"],
    );
}

#[test]
fn environments_do_not_mix() {
    let production = "https://openapi.alipay.com/gateway.do";
    let sandbox = "https://openapi-sandbox.dl.alipaydev.com/gateway.do";
    let old_sandbox = "https://OPENAPI.alipaydev.com./gateway.do";
    let simulator = "http://127.0.0.1:8099/gateway.do";
    for (url, fits_sandbox, fits_production) in [
        (production, false, true),
        (sandbox, true, false),
        (old_sandbox, true, false),
        (simulator, true, true),
        ("https://notalipay.com/gateway.do", true, true),
    ] {
        assert_eq!(gateway_in(url, Environment::Sandbox).is_ok(), fits_sandbox, "{url}");
        assert_eq!(gateway_in(url, Environment::Production).is_ok(), fits_production, "{url}");
    }
    for url in ["", "openapi.alipay.com", "ftp://openapi.alipay.com/", "https:///gateway.do"] {
        let error = gateway_in(url, Environment::Production).unwrap_err();
        assert!(matches!(error, GatewayError::NotAUrl), "{url}: {error}");
    }
    refused(
        gateway_in(production, Environment::Sandbox),
        expect![
            "misconfigured: the gateway `openapi.alipay.com` does not belong to the sandbox environment of this app; change `gateway` or `environment`"
        ],
    );
}

fn download(server: &Once, limit_bytes: u64) -> Result<Vec<u8>, GatewayError> {
    let url = Some(format!("{}/downloadBillFile.resource?token=secret", server.address));
    let mut bill = Vec::new();
    let gateway = gateway("https://openapi.alipay.com/gateway.do");
    let address = BillAddress { url, empty: false };
    let bytes = gateway.download(&address, &mut bill, limit_bytes)?;
    assert_eq!(bytes, u64::try_from(bill.len()).unwrap());
    Ok(bill)
}

#[test]
fn a_bill_is_fetched_whole() {
    for length in [2_usize, 100, 4096, 70_000, 1_000_000] {
        let bill: Vec<u8> = b"PK"
            .iter()
            .copied()
            .chain((2..length).map(|at| u8::try_from(at % 251).unwrap()))
            .collect();
        let server = Once::with("200 OK", &bill);
        assert_eq!(download(&server, 1_000_000).unwrap(), bill);
        assert!(server.asked().starts_with("GET /downloadBillFile.resource?token=secret HTTP/1.1"));
    }
}

#[test]
fn a_bill_over_the_limit_is_refused() {
    let bill = [b"PK".as_slice(), &[0; 70_000]].concat();
    assert_eq!(download(&Once::with("200 OK", &bill), 70_002).unwrap().len(), 70_002);
    let error = download(&Once::with("200 OK", &bill), 70_001).unwrap_err();
    assert_eq!(error.code(), "too_large");
}

#[test]
fn a_bill_that_breaks_off_is_refused() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nPK and no more";
    let error = download(&Once::raw(head.to_vec()), 1000).unwrap_err();
    assert_eq!(error.code(), "transport");
}

#[test]
fn an_expired_link_is_told_apart_from_other_pages() {
    let gbk = b"\xCF\xC2\xD4\xD8\xB3\xAC\xCA\xB1\xA3\xAC\xC7\xEB\xD6\xD8\xD0\xC2\xCF\xC2\xD4\xD8";
    for page in ["下载超时，请重新下载".as_bytes(), gbk] {
        refused(
            download(&Once::with("200 OK", page), 1000),
            expect!["link_expired: the bill's download link has expired; ask for another"],
        );
    }
    refused(
        download(&Once::with("200 OK", "<html>"), 1000),
        expect!["not_an_archive: what the bill's download link gave is not a zip file"],
    );
    refused(
        download(&Once::with("200 OK", ""), 1000),
        expect!["not_an_archive: what the bill's download link gave is not a zip file"],
    );
}

#[test]
fn without_a_usable_link_nothing_is_fetched() {
    let gateway = gateway("https://openapi.alipay.com/gateway.do");
    let fetch = |url: Option<&str>| {
        let address = BillAddress { url: url.map(str::to_owned), empty: false };
        gateway.download(&address, &mut Vec::new(), 1000)
    };
    refused(fetch(None), expect!["no_link: Alipay gave no download link with the bill"]);
    refused(
        fetch(Some("file:///etc/passwd")),
        expect!["no_link: the bill's download link is not an http or https address"],
    );
}

#[test]
fn a_link_does_not_show_in_debug_output() {
    let address = BillAddress { url: Some("http://e/?token=secret".to_owned()), empty: false };
    assert_eq!(format!("{address:?}"), "BillAddress { url: hidden, empty: false }");
}
