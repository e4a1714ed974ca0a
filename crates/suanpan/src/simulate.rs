use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use service::{Clock, Shutdown, SystemClock, shutdown};
use simulator::{Listen, open_keys, post_all, write_settings};

use crate::cli::SimulateArgs;
use crate::demo::{Progress, plan};

/// Serves the pretend gateway until a signal, after sending the notifications if an address was given.
pub(crate) fn simulate(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    service::logs::start(service::settings::LogFormat::Text);
    let shutdown = Shutdown::new();
    shutdown::on_signals(&shutdown).context("cannot listen for signals")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let world = &args.world;

    let keys = Arc::new(open_keys(&world.out.join("keys"))?);
    let plan = plan(world, clock.now())?;
    let scenario = Arc::new(simulator::plan(&plan, &keys)?);
    let server = simulator::start(args.listen, scenario.clone(), keys.clone(), clock)?;
    let listen = Listen { ingress: local(8080), admin: local(9090) };
    let settings = write_settings(&world.out, &plan, &keys, &server.gateway_url(), listen)?;
    let answers = world.out.join("answer-key.json");
    let answer_key = serde_json::to_string_pretty(&scenario.key)?;
    std::fs::write(&answers, answer_key)
        .with_context(|| format!("cannot write {}", answers.display()))?;

    println!("gateway     {}", server.gateway_url());
    println!("settings    {}", settings.display());
    println!("answer key  {}", answers.display());
    println!("days        {} to {}", plan.first_day, last_day(&plan));
    if let Some(url) = &args.notify {
        let mut progress = Progress::new("notifications");
        let tally =
            post_all(&scenario.deliveries, url, 8, |done, total| progress.show(done, total))?;
        progress.done();
        println!(
            "{} answered success, {} refused, {} otherwise than they must be",
            tally.success,
            tally.fail,
            tally.wrong.len()
        );
    }
    println!("serving until a signal");
    shutdown.wait();
    server.stop();
    Ok(ExitCode::SUCCESS)
}

fn last_day(plan: &simulator::Plan) -> payment::BillDay {
    (1..plan.days).fold(plan.first_day, |day, _| day.next())
}

fn local(port: u16) -> std::net::SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, port).into()
}
