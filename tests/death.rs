//! Processes that die, lines that break and disks that fill in the shapes that servers run in, while posts go on.
//! Afterwards: answered `success` = in the log = in the ledger = told to others, to the fen, each once.
//! `README.md` numbers the cases; those of the embedded shape are in `crash.rs`.

mod crowd;
mod disk;
mod events;
mod kills;
mod march;
mod records;
mod stage;
