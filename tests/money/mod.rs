//! Money: what the ledger answers in every odd case, to the last micro-credit, on both stores.

mod corrections;
mod desk;
mod keys;
mod limits;
mod line;
mod odd_cases;
mod refunds;
