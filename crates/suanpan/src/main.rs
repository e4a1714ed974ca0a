#![doc = include_str!("../README.md")]

mod audit;
mod bench;
mod bill;
mod cli;
mod dead_letters;
mod demo;
mod home;
mod house;
mod reconcile;
mod set_aside;
mod setup;
mod simulate;
mod verify;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("suanpan: {}", service::chain(&*error));
            ExitCode::from(2)
        }
    }
}
