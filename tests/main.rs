//! The whole house, through its real parts: a Postgres of our own, the binary, HTTP on loopback.
//! `README.md` beside this file says what each module proves.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod broker;
#[cfg(test)]
mod consumer;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod death;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod events;
#[cfg(test)]
mod group;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod reconciler;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod up;
#[cfg(test)]
mod verify;
