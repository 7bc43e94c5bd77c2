//! Wallets from the command line: brought over from another system, and read.

mod commands;
mod import;
