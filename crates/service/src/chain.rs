use std::error::Error;

/// An error with everything under it, joined by colons: for the one place where it is logged or printed.
pub fn chain(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |error: &&dyn Error| (*error).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
