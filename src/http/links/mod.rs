//! Callback links: somebody without an account decides once, an approval or a signal.
//!
//! A link holds a secret that is shown when it is made and known here by its hash alone. Opening one shows what is to be
//! decided and changes nothing, however often mail scanners do it; only a POST decides. No answer tells a stranger
//! whether a link ever existed, and no log holds one.

use bursar_domain::time::Timestamp;

use super::problem::{Code, Problem};
use super::state::Site;
use crate::digest::sha256_hex;
use crate::store::CallbackLink;
use crate::store::read::ApprovalView;

pub(super) mod decide;
pub(super) mod make;
pub(super) mod show;

/// What every secret begins with, so that scanners of code and logs find it.
const PREFIX: &str = "cbl_";

/// What a link is for.
enum Subject {
    /// An approval, as it stands.
    Approval(Box<ApprovalView>),
    /// A signal of this name.
    Signal(String),
}

/// The link with this secret, and what it is for. Errors: there is none, or it is over.
async fn open(site: &Site, secret: &str) -> Result<(CallbackLink, Subject), Problem> {
    let unknown = || Problem::not_found("link");
    if !secret.starts_with(PREFIX) {
        return Err(unknown());
    }
    let link = site.store().link_by_hash(&sha256_hex(secret)).await?.ok_or_else(unknown)?;
    if link.expires_at <= now(site) {
        return Err(over());
    }
    if let Some(name) = &link.signal {
        let subject = Subject::Signal(name.clone());
        return Ok((link, subject));
    }
    let task = link.task_id.ok_or_else(unknown)?;
    let view = site.store().approval(Some(link.tenant_id), task).await?.ok_or_else(over)?;
    // asked again, it is another question than the one the link was made for
    if view.ready_at != link.asked_at {
        return Err(over());
    }
    Ok((link, Subject::Approval(Box::new(view))))
}

fn now(site: &Site) -> Timestamp {
    site.engine().clock().now()
}

/// The link can't be used any more. Does not say why.
fn over() -> Problem {
    Problem::new(Code::LinkOver, "this link was used, or its time is over")
}
