//! Bills from the gateway: the pretend Alipay's, over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use payment::{AppId, BillDay, SellerId};
use serde_json::Value;
use service::SystemClock;
use simulator::{Keys, Listen, Plan, SimulatorKey};

use super::{DAY, NEXT_DAY, changes, ids};
use crate::harness::alipay::{APP_ID, SELLER_ID};
use crate::harness::binary::Ended;
use crate::harness::home::Home;
use crate::harness::sql;

fn plan(first_day: &str, trades: u32) -> Plan {
    Plan {
        seed: 9,
        first_day: BillDay::parse(first_day).unwrap(),
        days: 2,
        trades,
        app_id: AppId::parse(APP_ID).unwrap(),
        seller_id: SellerId::parse(SELLER_ID).unwrap(),
        fee_rate_ppm: 6_000,
    }
}

fn reconcile(home: &Home, day: &str) -> Ended {
    home.run(&["reconcile", "--json", "--app", APP_ID, "--date", day])
}

#[test]
fn days_are_fetched_and_reconciled_as_the_answer_key_says() {
    let home = Home::new();
    let keys = Arc::new(Keys::generate().unwrap());
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let clock = Arc::new(SystemClock);
    let scenario = Arc::new(simulator::plan(&plan(DAY, 60), &keys).unwrap());
    let alipay = simulator::start(any_port, scenario.clone(), keys.clone(), clock.clone()).unwrap();
    let settle = |gateway: &str| {
        let listen = Listen { ingress: any_port, admin: any_port };
        simulator::write_settings(home.folder.path(), &scenario.plan, &keys, gateway, listen)
            .unwrap();
    };
    settle(&alipay.gateway_url());
    let up = home.up();
    let door = up.notify_url("");
    let door = door.strip_suffix("/notify/alipay/").unwrap();
    let tally = simulator::post_all(&scenario.deliveries, door, 4, |_, _| {}).unwrap();
    assert!(tally.wrong.is_empty(), "{:?}", tally.wrong);
    home.wait_until_applied();

    for round in 1..=2 {
        let mut found: Vec<String> = Vec::new();
        for totals in &scenario.key.days {
            let ended = reconcile(&home, &totals.day.to_string());
            assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
            let report = ended.json();
            assert_eq!(report["bill"]["rows"], totals.bill_rows);
            assert_eq!(report["bill"]["net_fen"], totals.bill_net_fen.get());
            assert_eq!(report["ledger"]["movements"], totals.ledger_movements);
            assert_eq!(report["ledger"]["net_fen"], totals.ledger_net_fen.get());
            let changed = changes(&report)[..3].iter().sum::<i64>();
            assert!(round == 1 || changed == 0, "{report}");
            found.extend(ids(&report));
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), scenario.key.differences.len(), "round {round}");
    }

    // No bill, long ago: an empty day.
    let ended = reconcile(&home, "2024-01-15");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report: Value = ended.json();
    assert_eq!((&report["bill"]["rows"], &report["bill"]["file"]), (&0.into(), &"".into()));

    // No bill for a day on which the ledger has movements is not believed.
    alipay.stop();
    let elsewhere = Arc::new(simulator::plan(&plan("2023-06-01", 1), &keys).unwrap());
    let alipay = simulator::start(any_port, elsewhere, keys.clone(), clock).unwrap();
    settle(&alipay.gateway_url());
    // Of these days only: `up` asks for yesterday's bill by itself.
    let runs = |home: &Home| {
        let runs = "SELECT count(*) AS number FROM reconciliation_run WHERE day < '2024-12-31'";
        sql::number(&mut home.connect(), runs)
    };
    let before = runs(&home);
    reconcile(&home, DAY).assert_refused(&[DAY, "no bill"]);
    assert_eq!(runs(&home), before);

    // Nobody there.
    alipay.stop();
    reconcile(&home, NEXT_DAY).assert_refused(&[NEXT_DAY, "gateway"]);
    assert_eq!(runs(&home), before);
}

#[test]
fn a_gateway_that_signs_with_another_key_is_not_believed() {
    let home = Home::new();
    let keys = Arc::new(Keys::generate().unwrap());
    let app = SimulatorKey::read_pem(&keys.app.private_key_pem().unwrap()).unwrap();
    let impostor = Arc::new(Keys { app, ..Keys::generate().unwrap() });
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let scenario = Arc::new(simulator::plan(&plan(DAY, 1), &impostor).unwrap());
    let alipay =
        simulator::start(any_port, scenario.clone(), impostor, Arc::new(SystemClock)).unwrap();
    let listen = Listen { ingress: any_port, admin: any_port };
    let url = alipay.gateway_url();
    simulator::write_settings(home.folder.path(), &scenario.plan, &keys, &url, listen).unwrap();
    assert_eq!(home.run(&["migrate"]).code, Some(0));
    reconcile(&home, DAY).assert_refused(&[DAY, "gateway"]);
    assert_eq!(sql::count(&mut home.connect(), "bill"), 0);
    alipay.stop();
}
