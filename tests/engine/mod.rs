//! The engine on real stores and queues: missions from submit to their end, with workers that share, fail and vanish.

mod agents;
mod approvals;
mod branches;
mod cancels;
mod deadlines;
mod dedupe;
mod estimates;
mod families;
mod memory;
mod messages;
mod money;
mod outages;
mod pauses;
mod prices;
mod renewals;
mod retention;
mod reuse;
mod runs;
mod schedules;
mod services;
mod share;
mod signals;
mod steering;
mod turns;
mod writes;
