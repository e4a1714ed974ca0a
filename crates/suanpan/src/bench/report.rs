use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::figures::{Budget, Measure, Round};
use super::machine::Machine;
use crate::cli::BenchArgs;

/// What is printed.
pub(super) struct Report<'a> {
    pub(super) machine: Machine,
    /// The version of the database's server.
    pub(super) postgres: &'a str,
    pub(super) args: &'a BenchArgs,
    /// The median of the notifications' lengths.
    pub(super) body_bytes: usize,
    pub(super) sections: &'a [Section],
}

/// All rounds of one scenario.
pub(super) struct Section {
    name: &'static str,
    rows: Vec<Row>,
    pub(super) wrong: Vec<String>,
}

struct Row {
    measure: Measure,
    min: u64,
    median: u64,
    max: u64,
}

impl Section {
    pub(super) fn of(name: &'static str, rounds: Vec<Round>) -> Section {
        let measures: Vec<Measure> = rounds
            .first()
            .into_iter()
            .flat_map(|round| &round.figures)
            .map(|(it, _)| *it)
            .collect();
        let rows = measures
            .into_iter()
            .filter_map(|measure| {
                let figures = rounds.iter().flat_map(|round| &round.figures);
                let mut values: Vec<u64> =
                    figures.filter(|(it, _)| *it == measure).map(|(_, value)| *value).collect();
                values.sort_unstable();
                // Of an even number, the smaller of the two in the middle: a figure that was measured.
                let median = *values.get((values.len() - 1) / 2)?;
                Some(Row { measure, min: *values.first()?, median, max: *values.last()? })
            })
            .collect();
        let wrong = rounds
            .into_iter()
            .enumerate()
            .flat_map(|(number, round)| {
                let named = move |text| format!("{name}, round {}: {text}", number + 1);
                round.wrong.into_iter().map(named)
            })
            .collect();
        Section { name, rows, wrong }
    }
}

/// One table for eyes.
pub(super) fn text(report: &Report<'_>) -> Result<String, std::fmt::Error> {
    let Report { machine, postgres, args, body_bytes, sections } = report;
    let mut text = String::new();
    let Machine { cores, cpu, system, memory, load } = machine;
    writeln!(text, "machine    {cores} cores of {cpu}, {memory}, {system}, load {load} before")?;
    writeln!(text, "software   suanpan {} ({}), Postgres {postgres}", VERSION, build())?;
    match &args.kafka {
        None => writeln!(text, "log        Postgres, on the ledger's server")?,
        Some(brokers) => {
            writeln!(text, "log        Kafka at {brokers}; what its brokers use is not counted")?;
        }
    }
    writeln!(text, "command    {}", command())?;
    writeln!(
        text,
        "load       {} notifications of {body_bytes} bytes, {} connections, {} rounds, seed {}",
        args.notifications, args.connections, args.rounds, args.seed
    )?;
    if sections
        .iter()
        .flat_map(|section| &section.rows)
        .all(|row| !row.measure.key.contains("cpu_per"))
    {
        writeln!(text, "CPU time of other processes cannot be read here: there is no /proc")?;
    }
    for section in *sections {
        writeln!(text)?;
        writeln!(
            text,
            "{:<40} {:>12} {:>12} {:>12}   budget",
            section.name, "min", "median", "max"
        )?;
        for Row { measure, min, median, max } in &section.rows {
            let budget = match measure.budget {
                Budget::None => String::new(),
                Budget::AtMost(limit) => format!("<= {}", measure.unit.show(limit)),
                Budget::AtLeast(limit) => format!(">= {}", measure.unit.show(limit)),
            };
            let [min, median, max] = [min, median, max].map(|value| measure.unit.show(*value));
            let line =
                format!("  {:<38} {min:>12} {median:>12} {max:>12}   {budget}", measure.label);
            writeln!(text, "{}", line.trim_end())?;
        }
    }
    Ok(text)
}

/// One document for programs; the names carry the units.
pub(super) fn json(report: &Report<'_>) -> Value {
    let Report { machine, postgres, args, body_bytes, sections } = report;
    let results: Map<String, Value> = sections
        .iter()
        .map(|section| {
            let figures: Map<String, Value> = section.rows.iter().map(figure).collect();
            (section.name.replace('-', "_"), Value::Object(figures))
        })
        .collect();
    let wrong: Vec<&String> = sections.iter().flat_map(|section| &section.wrong).collect();
    json!({
        "machine": {
            "cores": machine.cores,
            "cpu": machine.cpu,
            "system": machine.system,
            "memory": machine.memory,
            "load_before": machine.load,
        },
        "suanpan": VERSION,
        "build": build(),
        "postgres": postgres,
        "log": if args.kafka.is_some() { "kafka" } else { "postgres" },
        "command": command(),
        "notifications": args.notifications,
        "body_bytes": body_bytes,
        "connections": args.connections,
        "rounds": args.rounds,
        "seed": args.seed,
        "results": results,
        "wrong": wrong,
    })
}

fn figure(Row { measure, min, median, max }: &Row) -> (String, Value) {
    let mut figure = json!({ "min": min, "median": median, "max": max });
    let budget = match measure.budget {
        Budget::None => None,
        Budget::AtMost(limit) => Some(("budget_at_most", limit)),
        Budget::AtLeast(limit) => Some(("budget_at_least", limit)),
    };
    if let (Some((name, limit)), Value::Object(figure)) = (budget, &mut figure) {
        figure.insert(name.to_owned(), Value::from(limit));
    }
    (measure.key.to_owned(), figure)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

fn command() -> String {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    format!("suanpan {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::figures::Unit;
    use super::*;

    #[test]
    fn a_section_tells_the_least_the_middle_and_the_most_of_its_rounds() {
        let measure = Measure::new("x_us", "x", Unit::Us).at_most(5);
        let rounds = [30, 10, 20].map(|value| Round {
            figures: vec![(measure, value)],
            wrong: if value == 10 { vec!["one is missing".to_owned()] } else { vec![] },
        });
        let section = Section::of("consumer", rounds.into());
        assert_eq!(section.wrong, ["consumer, round 2: one is missing"]);
        let (key, figure) = figure(&section.rows[0]);
        assert_eq!(key, "x_us");
        assert_eq!(figure, json!({ "min": 10, "median": 20, "max": 30, "budget_at_most": 5 }));
    }
}
