//! Money: what the ledger answers in every odd case, to the last micro-credit, on both stores.

mod desk;
mod odd_cases;
