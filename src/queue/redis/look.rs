//! What Redis knows of a pool, read in small pipelines. Changes nothing.

use std::collections::BTreeSet;

use bursar_domain::id::TaskId;
use redis::aio::ConnectionManager;

use super::Keys;
use crate::queue::QueueError;
use crate::queue::look::{Known, MOST_TENANTS, Question, QueueLook};

/// Tenants or tasks in one pipeline: no other client waits long behind it.
const AT_ONCE: usize = 256;

/// Looks at a pool at `now_ms`. Not one moment: what moves meanwhile is looked at again by whoever asks.
pub(super) async fn look(
    connection: &mut ConnectionManager,
    keys: &Keys,
    now_ms: i64,
    question: &Question<'_>,
) -> Result<QueueLook, QueueError> {
    let last = isize::try_from(MOST_TENANTS).unwrap_or(isize::MAX).saturating_sub(1);
    let (epoch, ring): (Option<String>, Vec<String>) =
        redis::pipe().get(&keys.epoch).zrange(&keys.ring, 0, last).query_async(connection).await?;
    let unknown = unknown(connection, keys, question).await?;
    let waiting: Vec<String> = ring.iter().map(|tenant| format!("{}{tenant}", keys.tenants)).collect();
    let tenants: BTreeSet<String> =
        ring.into_iter().chain(question.tenants.iter().map(ToString::to_string)).take(MOST_TENANTS).collect();
    let running: Vec<String> = tenants.iter().map(|tenant| format!("{}{tenant}", keys.running)).collect();
    Ok(QueueLook {
        stands: epoch.is_some(),
        waiting: known(connection, &waiting, "-inf", question.most).await?,
        popped: known(connection, std::slice::from_ref(&keys.popped), "-inf", question.most).await?,
        // what ran out is not counted by those who take, either
        running: known(connection, &running, &format!("({now_ms}"), question.most).await?,
        unknown,
    })
}

/// Members of sorted sets above a score: all of them counted, the first `most` named.
async fn known(
    connection: &mut ConnectionManager,
    sets: &[String],
    above: &str,
    most: usize,
) -> Result<Known, QueueError> {
    let mut known = Known::default();
    for sets in sets.chunks(AT_ONCE) {
        let mut pipe = redis::pipe();
        for set in sets {
            pipe.zcount(set, above, "+inf");
        }
        let counts: Vec<u64> = pipe.query_async(connection).await?;
        let mut pipe = redis::pipe();
        let mut left = most.saturating_sub(known.ids.len());
        for (set, count) in sets.iter().zip(&counts) {
            known.count = known.count.saturating_add(*count);
            let take = usize::try_from(*count).unwrap_or(usize::MAX).min(left);
            left = left.saturating_sub(take);
            if take > 0 {
                pipe.zrangebyscore_limit(set, above, "+inf", 0, isize::try_from(take).unwrap_or(isize::MAX));
            }
        }
        if !pipe.is_empty() {
            let named: Vec<Vec<String>> = pipe.query_async(connection).await?;
            known.ids.extend(named.into_iter().flatten());
        }
    }
    Ok(known)
}

/// Those that are neither popped nor in the set of a tenant that stands in the ring. Each one's place is asked for in one
/// moment: it may be popped or come back meanwhile.
async fn unknown(
    connection: &mut ConnectionManager,
    keys: &Keys,
    question: &Question<'_>,
) -> Result<Vec<TaskId>, QueueError> {
    let mut unknown = Vec::new();
    for chunk in question.ready.chunks(AT_ONCE) {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for (tenant, task) in chunk {
            let (tenant, task) = (tenant.to_string(), task.to_string());
            pipe.zscore(format!("{}{tenant}", keys.tenants), &task);
            pipe.zscore(&keys.popped, &task);
            pipe.zscore(&keys.ring, &tenant);
        }
        let scores: Vec<Option<f64>> = pipe.query_async(connection).await?;
        for ((_, task), scores) in chunk.iter().zip(scores.chunks(3)) {
            let [waits, popped, stands_in_ring] = [0, 1, 2].map(|at| matches!(scores.get(at), Some(Some(_))));
            if !(popped || waits && stands_in_ring) {
                unknown.push(*task);
            }
        }
    }
    Ok(unknown)
}
