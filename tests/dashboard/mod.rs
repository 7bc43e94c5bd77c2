//! The dashboard as a browser meets it: pages over a real store, queue and worker pool, through the router.

mod access;
mod approvals;
mod live;
mod messages;
mod pages;
mod prices;
mod projects;
mod redrives;
mod schedules;
mod site;
mod wallets;
