mod kafka;

use std::path::Path;

use super::*;

const APP: &str = r#"
[[app]]
provider = "alipay"
id = "2021000000000001"
seller_id = "2088000000000001"
verification_keys = ["file:keys/alipay-2026.pem"]
"#;

fn read(text: &str, env: &[(&str, &str)]) -> Result<Settings, String> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::parse(text, Path::new("/etc/suanpan.toml"), env).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_embedded_shape_with_its_defaults() {
    let settings = read("", &[]).unwrap();
    assert_eq!(settings.data_dir, Path::new("/etc/./suanpan-data"));
    assert_eq!(settings.database.url, None);
    assert_eq!((settings.log.kind, settings.log.partitions), (LogKind::Postgres, 4));
    assert_eq!(settings.log.keep_hours, 168);
    assert_eq!(settings.ingress.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.ingress.body_limit_bytes, 65_536);
    assert_eq!(settings.admin.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(settings.console.listen.to_string(), "127.0.0.1:8090");
    assert_eq!(settings.reconciliation.carry_window_minutes, 5);
    assert_eq!((settings.stop.delay_ms, settings.stop.limit_ms), (0, 15_000));
    assert_eq!(settings.logs.format, LogFormat::Text);
    assert!(settings.apps.is_empty());
}

#[test]
fn every_documented_name_is_read() {
    let settings = read(
        r#"
            data_dir = "/var/lib/suanpan"
            [database]
            url = "postgres://u:hunter2@db/suanpan"
            [log]
            kind = "postgres"
            partitions = 8
            keep_hours = 24
            [ingress]
            listen = "0.0.0.0:0"
            body_limit_bytes = 32768
            read_timeout_ms = 1000
            append_timeout_ms = 2000
            [admin]
            listen = "[::1]:9090"
            [console]
            listen = "127.0.0.1:1"
            [reconciliation]
            carry_window_minutes = 0
            from_hour = 10
            [stop]
            delay_ms = 3000
            limit_ms = 20000
            [logs]
            format = "json"
            [[app]]
            provider = "alipay"
            id = "2021000000000001"
            seller_id = "2088000000000001"
            environment = "sandbox"
            verification_keys = ["file:keys/alipay-2026.pem", "env:ALIPAY_KEY"]
            retired_verification_keys = ["file:/keys/alipay-2024.pem"]
            signing_key = "file:keys/app-private.pem"
            gateway = "https://openapi.example/gateway.do"
            refund_fee = "single"
            fee_rate = "0.006"
        "#,
        &[],
    )
    .unwrap();
    assert_eq!(settings.data_dir, Path::new("/var/lib/suanpan"));
    assert_eq!(
        settings.database.url.as_ref().unwrap().read().unwrap(),
        "postgres://u:hunter2@db/suanpan"
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!(settings.ingress.listen.port(), 0);
    assert_eq!((settings.stop.delay_ms, settings.stop.limit_ms), (3_000, 20_000));
    assert_eq!(settings.logs.format, LogFormat::Json);
    let app = settings.apps.first().unwrap();
    assert_eq!(
        app.verification_keys.first().unwrap().to_string(),
        "file:/etc/keys/alipay-2026.pem"
    );
    assert_eq!(app.retired_verification_keys.first().unwrap().name(), "alipay-2024.pem");
    assert_eq!(app.environment, Environment::Sandbox);
    assert_eq!(app.gateway_url(), "https://openapi.example/gateway.do");
    assert_eq!((app.refund_fee, app.fee_rate_millionths), (RefundFee::Single, Some(6_000)));
}

#[test]
fn the_gateway_follows_the_environment() {
    let gateway = |environment: &str| {
        let settings = read(&format!("{APP}environment = \"{environment}\""), &[]).unwrap();
        settings.apps.first().unwrap().gateway_url().to_owned()
    };
    assert_eq!(gateway("production"), "https://openapi.alipay.com/gateway.do");
    assert_eq!(gateway("sandbox"), "https://openapi-sandbox.dl.alipaydev.com/gateway.do");
}

#[test]
fn variables_override_the_file() {
    let settings = read(
        &format!("[ingress]\nlisten = \"127.0.0.1:1\"\n{APP}"),
        &[
            ("SUANPAN__INGRESS__LISTEN", "127.0.0.1:2"),
            ("SUANPAN__LOG__PARTITIONS", "16"),
            ("SUANPAN__DATABASE__URL", "env:DATABASE"),
            ("SUANPAN__APP__0__SELLER_ID", "2088000000000009"),
            ("SUANPAN__APP__0__VERIFICATION_KEYS", r#"["env:KEY_A", "env:KEY_B"]"#),
            ("SUANPAN__APP__0__RETIRED_VERIFICATION_KEYS__0", "env:KEY_C"),
            ("SUANPAN__APP__1__ID", "2021000000000002"),
            ("SUANPAN__APP__1__PROVIDER", "alipay"),
            ("SUANPAN__APP__1__SELLER_ID", "2088000000000001"),
            ("SUANPAN__APP__1__VERIFICATION_KEYS__0", "file:b.pem"),
            ("SUANPAN_LOG", "debug"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(settings.ingress.listen.port(), 2);
    assert_eq!(settings.log.partitions, 16);
    assert_eq!(format!("{:?}", settings.database.url), "Some(DatabaseUrl(env:DATABASE))");
    let [first, second] = settings.apps.as_slice() else { panic!("{:?}", settings.apps) };
    assert_eq!(
        (first.id.as_str(), first.seller_id.as_str()),
        ("2021000000000001", "2088000000000009")
    );
    assert_eq!(first.verification_keys.len(), 2);
    assert_eq!(first.retired_verification_keys.len(), 1);
    assert_eq!(second.id, "2021000000000002");
    assert_eq!(second.verification_keys.first().unwrap().to_string(), "file:/etc/b.pem");
}

/// What is wrong in the file is told with the line and the key.
#[test]
fn a_wrong_file_is_refused_with_the_line_and_the_name() {
    let app = |line: &str| format!("{APP}{line}");
    for (text, line, words) in [
        ("data_dri = \"x\"", 1, "unknown field `data_dri`"),
        ("[ingress]\n\nlissten = \"127.0.0.1:1\"", 3, "unknown field `lissten`"),
        ("[ingres]\nlisten = \"127.0.0.1:1\"", 1, "unknown field `ingres`"),
        ("[ingress]\nlisten = \"localhost\"", 2, "in `ingress.listen`"),
        (
            "[ingress]\nbody_limit_bytes = 5",
            2,
            "`5` is not from 1024 to 16777216 in `ingress.body_limit_bytes`",
        ),
        ("[log]\npartitions = 0", 2, "in `log.partitions`"),
        ("[log]\npartitions = -1", 2, "`-1` is not from 1 to 1000"),
        ("[log]\nkind = \"nats\"", 2, "expected `postgres` or `kafka` in `log.kind`"),
        ("[stop]\ndelay_ms = 15000", 2, "nothing of the 15000 ms"),
        ("[stop]\nlimit_ms = 50", 2, "`50` is not from 100 to 600000 in `stop.limit_ms`"),
        ("[stop]\ndelay_ms = 60001", 2, "in `stop.delay_ms`"),
        ("[logs]\nformat = \"xml\"", 2, "expected `text` or `json`"),
        ("[database]\nurl = \"mysql://x\"", 2, "in `database.url`"),
        ("[ingress\n", 1, "expected"),
        ("[admin]\nlisten = 1\nlisten = 2", 3, "duplicate key"),
        (&app("colour = 1"), 7, "unknown field `colour`"),
        (&app("signing_key = \"MIIEvQIBADANBg\""), 7, "references"),
        (&app("retired_verification_keys = [\n\"x\"\n]"), 7, "references"),
        (&app("\n[[app]]\nid = \"2\"\nprovider = \"alipay\""), 8, "missing field"),
        (&app("environment = \"test\""), 7, "expected `production` or `sandbox`"),
        (&app("fee_rate = 0.006"), 7, "in quotes"),
        (&app("fee_rate = \"0.6%\""), 7, "like \"0.006\" in `app.fee_rate`"),
        (&app("root_certificate = \"file:r.crt\""), 7, "certificate mode is not in this version"),
        (&app("verification_certificates = []"), 7, "certificate mode is not in this version"),
        (&app(APP), 10, "app 2 has the id `2021000000000001` of app 1"),
        ("[[app]]\nprovider = \"alipay\"", 1, "missing field"),
        (&APP.replace("\"file:keys/alipay-2026.pem\"", ""), 6, "lists no key"),
        (&APP.replace("id = \"2021000000000001\"", "id = \"a/b\""), 4, "in `app.id`"),
    ] {
        let error = read(text, &[]).unwrap_err();
        let place = format!("/etc/suanpan.toml, line {line}: ");
        assert!(error.starts_with(&place) && error.contains(words), "{text}\n=> {error}");
        assert!(!error.contains("MIIEvQ"), "a secret is repeated: {error}");
    }
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    for (name, value, words) in [
        ("SUANPAN__INGRESS__LISTE", "127.0.0.1:1", "unknown field `liste`"),
        ("SUANPAN__NOTHING", "1", "unknown field `nothing`"),
        ("SUANPAN__INGRESS__LISTEN", "here", "in `ingress.listen`"),
        ("SUANPAN__INGRESS__LISTEN__PORT", "1", "invalid type"),
        ("SUANPAN__LOG__PARTITIONS", "four", "whole number"),
        ("SUANPAN__APP__5__ID", "2021000000000002", "from 0 to 1"),
        ("SUANPAN__APP__X__ID", "2021000000000002", "from 0 to 1"),
        ("SUANPAN__APP__0__ID__X", "1", "nothing below a value"),
        ("SUANPAN__APP__0__SIGNING_KEY", "MIIEvQIBADANBg", "references"),
        ("SUANPAN__APP__0__VERIFICATION_KEYS", "[\"env:A\"", "expected"),
        ("SUANPAN__APP__1__ID", "2021000000000001", "app 2 has the id"),
        ("SUANPAN__", "1", "unknown field ``"),
    ] {
        let error = read(APP, &[(name, value)]).unwrap_err();
        assert!(
            error.starts_with(&format!("environment variable `{name}`: ")),
            "{name} => {error}"
        );
        assert!(error.contains(words), "{name} => {error}");
        assert!(!error.contains("MIIEvQ"), "a secret is repeated: {error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Settings::load(Path::new("/nowhere/suanpan.toml"), std::iter::empty()).unwrap_err();
    assert!(error.to_string().contains("`/nowhere/suanpan.toml`"), "{error}");
}
