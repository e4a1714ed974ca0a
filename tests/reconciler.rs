//! Mornings: which days are due, and that a missed one is made up for.

use std::sync::Arc;

use alipay::{Environment, Gateway, KeyRing, SigningKey, Timeouts, VerificationKey};
use chrono::Duration;
use payment::{AppId, BillDay, SellerId};
use prometheus::Registry;
use reconciliation::{Client, Metrics, Reconciler, Terms};
use service::{Clock, FixedClock, Health};
use simulator::{Keys, Plan};

use crate::harness::{Database, sql};

#[test]
fn a_day_is_run_once_its_hour_has_come_and_missed_days_are_made_up_for() {
    let database = Database::new();
    let mut conn = database.connect();
    let plan = Plan {
        seed: 1,
        first_day: BillDay::parse("2024-03-05").unwrap(),
        days: 3,
        trades: 30,
        app_id: AppId::parse("2021000000000001").unwrap(),
        seller_id: SellerId::parse("2088000000000001").unwrap(),
        fee_rate_ppm: 6000,
    };
    let [first, second, third] =
        [plan.first_day, plan.first_day.next(), plan.first_day.next().next()];
    let keys = Arc::new(Keys::generate().unwrap());
    let scenario = Arc::new(simulator::plan(&plan, &keys).unwrap());
    let clock = Arc::new(FixedClock::new(first.end() + Duration::hours(8)));
    let door = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let alipay = simulator::start(door, scenario, keys.clone(), clock.clone()).unwrap();

    let alipay_key = keys.alipay.public_key_base64().unwrap();
    let alipay_key = VerificationKey::read("alipay", alipay_key.as_bytes()).unwrap();
    let app_key = keys.app.private_key_pem().unwrap();
    let gateway = Gateway::new(
        &alipay.gateway_url(),
        plan.app_id.clone(),
        Environment::Sandbox,
        SigningKey::read("app", app_key.as_bytes()).unwrap(),
        KeyRing::new(vec![alipay_key], vec![]).unwrap(),
        Timeouts::default(),
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let client = Client {
        app_id: plan.app_id.clone(),
        seller_id: plan.seller_id.clone(),
        terms: Terms { fee_rate_millionths: None, carry_window: Duration::minutes(5) },
        data_dir: folder.path().to_owned(),
    };
    let shared_clock: Arc<dyn Clock> = clock.clone();
    let mut reconciler = Reconciler::new(
        &database.url,
        vec![(client, Some(gateway))],
        9,
        shared_clock,
        Metrics::new(&Registry::new()).unwrap(),
        &Health::new(),
    );

    // Nothing was ever heard: a bill of before would be all missing.
    clock.set(first.end() + Duration::hours(10));
    assert_eq!(reconciler.step(&mut conn), 0);
    sql::run(
        &mut conn,
        "INSERT INTO inbox VALUES ('2021000000000001', 'notifications', 0, 0, 'N', 'other', 'notification',
            'kept', NULL, NULL, '2024-03-05 02:00:00+00', '2024-03-05 02:00:00+00', '')",
    );
    clock.set(first.end() + Duration::hours(8));
    assert_eq!(reconciler.step(&mut conn), 0, "its hour has not come");
    clock.set(first.end() + Duration::hours(9));
    assert_eq!(reconciler.step(&mut conn), 1);
    assert_eq!(reconciler.step(&mut conn), 0, "once is enough");
    assert!(ledger::run::last_run(&mut conn, &plan.app_id, first).unwrap().is_some());

    // Nobody was there on the second day's morning.
    clock.set(third.end() + Duration::hours(9));
    assert_eq!(reconciler.step(&mut conn), 2);
    for day in [second, third] {
        assert!(ledger::run::last_run(&mut conn, &plan.app_id, day).unwrap().is_some(), "{day}");
    }
    assert_eq!(reconciler.step(&mut conn), 0);
    alipay.stop();
}
