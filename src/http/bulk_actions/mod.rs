//! Bulk actions: dead letters are tried again together, a few each second. A tenant's are about its own missions, an
//! operator's about those of one tenant or of all; what they order, see and stop is the same otherwise.

pub(super) mod body;
pub(super) mod look;
pub(super) mod order;
