//! Where the nodes and edges of a workflow stand: columns from left to right, each node right of what it needs.
//!
//! Ranks are found here, by longest path. An edge that spans several columns is cut into pieces with an invisible
//! node in each column between, so that it has a lane of its own. Order within the columns and coordinates come from
//! `rust-sugiyama`, which draws from top to bottom: its axes are swapped on the way in and out. Should it fail or
//! take too long, nodes stand in plain columns: a page is never lost over its drawing.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_domain::workflow::Definition;
use rust_sugiyama::configure::Config;

/// Nodes drawn at most. Nodes are numbered in an order in which they could run, so that what is drawn is complete
/// in itself: the first so many, with everything they need.
pub(in crate::dashboard) const MOST_NODES: usize = 500;
/// Width of a node in pixels.
pub(super) const NODE_WIDTH: i32 = 186;
/// Height of a node in pixels.
pub(super) const NODE_HEIGHT: i32 = 58;

/// Pixels between columns.
const COLUMN_GAP: i32 = 48;
/// Pixels between nodes of a column.
const ROW_GAP: i32 = 18;
/// Height of the lane of a long edge, in pixels.
const LANE: i32 = 6;
/// Pixels around the whole.
const MARGIN: i32 = 8;
/// With more nodes and lanes than this, long edges get no lanes.
const MOST_LANES: usize = 1_500;
/// With more nodes and lanes than this, columns are not tried in every order.
const MOST_SWAPPED: usize = 200;
/// How long a drawing may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A point in pixels, x to the right, y down.
pub(super) type Point = (i32, i32);

/// Where everything stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dashboard) struct Layout {
    /// The size of the whole.
    pub(super) width: i32,
    /// The size of the whole.
    pub(super) height: i32,
    /// The upper left corner of each node, at the place of its index.
    pub(super) nodes: Vec<Point>,
    /// What needs what.
    pub(super) edges: Vec<Edge>,
}

/// A line from a node to one that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    /// Where it begins, by index.
    pub(super) from: usize,
    /// Where it ends, by index.
    pub(super) to: usize,
    /// The middles of the lanes it passes through.
    pub(super) through: Vec<Point>,
    /// Whether the one stands in for the other when that fails.
    pub(super) is_fallback: bool,
}

/// A graph by indexes: for each node, what it needs; all smaller than itself.
type Needs = Vec<Vec<usize>>;

/// Lays a workflow out, off the async threads.
pub(super) async fn lay_out(definition: &Definition) -> Layout {
    let shown = definition.nodes.iter().take(MOST_NODES);
    let needs: Needs = shown.map(|node| node.needs.iter().map(|need| *need as usize).collect()).collect();
    let fallback = needs.clone();
    let drawing = tokio::task::spawn_blocking(move || arranged(&needs));
    let mut layout = match tokio::time::timeout(PATIENCE, drawing).await {
        Ok(Ok(Some(layout))) => layout,
        _ => in_columns(&fallback),
    };
    for edge in &mut layout.edges {
        let stands_in_for = definition.nodes.get(edge.to).and_then(|node| node.stands_in_for);
        edge.is_fallback = stands_in_for.is_some_and(|origin| origin as usize == edge.from);
    }
    layout
}

/// The column of each node: right of everything it needs; beginnings stand right before who needs them first.
fn ranks(needs: &Needs) -> Vec<usize> {
    let mut ranks = vec![0_usize; needs.len()];
    for (index, own) in needs.iter().enumerate() {
        ranks[index] = own.iter().map(|need| ranks[*need] + 1).max().unwrap_or(0);
    }
    let mut first_user: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, own) in needs.iter().enumerate() {
        for need in own {
            let first = first_user.entry(*need).or_insert(usize::MAX);
            *first = ranks[index].min(*first);
        }
    }
    for (index, _) in needs.iter().enumerate().filter(|(_, own)| own.is_empty()) {
        ranks[index] = first_user.get(&index).map_or(0, |first| first.saturating_sub(1));
    }
    ranks
}

/// The graph with lanes: vertices beyond the nodes are lanes.
struct Laned {
    vertices: usize,
    pieces: Vec<(u32, u32)>,
    /// For each edge, where it begins and ends and the lanes it takes.
    edges: Vec<(usize, usize, Vec<usize>)>,
}

fn with_lanes(needs: &Needs, ranks: &[usize]) -> Laned {
    let spans = |to: usize, from: usize| ranks[to].saturating_sub(ranks[from]).saturating_sub(1);
    let lanes: usize =
        needs.iter().enumerate().flat_map(|(to, own)| own.iter().map(move |from| spans(to, *from))).sum();
    let affordable = needs.len() + lanes <= MOST_LANES;
    let mut laned = Laned { vertices: needs.len(), pieces: Vec::new(), edges: Vec::new() };
    for (to, own) in needs.iter().enumerate() {
        for from in own {
            let count = if affordable { spans(to, *from) } else { 0 };
            let through: Vec<usize> = (laned.vertices..laned.vertices + count).collect();
            laned.vertices += count;
            let stops: Vec<usize> = std::iter::once(*from).chain(through.iter().copied()).chain([to]).collect();
            laned.pieces.extend(stops.windows(2).map(|piece| (piece[0] as u32, piece[1] as u32)));
            laned.edges.push((*from, to, through));
        }
    }
    laned
}

/// The drawing by `rust-sugiyama`; `None` when it leaves a node out.
fn arranged(needs: &Needs) -> Option<Layout> {
    let laned = with_lanes(needs, &ranks(needs));
    let across = f64::from(NODE_WIDTH + COLUMN_GAP - ROW_GAP);
    let size = |vertex: usize| (f64::from(if vertex < needs.len() { NODE_HEIGHT } else { LANE }), across);
    let vertices: Vec<(u32, (f64, f64))> = (0..laned.vertices).map(|vertex| (vertex as u32, size(vertex))).collect();
    let config =
        Config { vertex_spacing: f64::from(ROW_GAP), transpose: laned.vertices <= MOST_SWAPPED, ..Config::default() };
    let parts = rust_sugiyama::from_vertices_and_edges(&vertices, &laned.pieces, &config);
    let mut middles: Vec<Option<Point>> = vec![None; laned.vertices];
    let mut top = MARGIN;
    for (places, _, _) in parts {
        // what is its x is our y; each part of the graph stands below the one before
        let part: Vec<(usize, f64, f64)> = places.into_iter().map(|(vertex, (y, x))| (vertex, x, y)).collect();
        let left = part.iter().map(|(_, x, _)| *x).fold(f64::INFINITY, f64::min);
        let upper = part.iter().map(|(vertex, _, y)| y - size(*vertex).0 / 2.0).fold(f64::INFINITY, f64::min);
        let lower = part.iter().map(|(vertex, _, y)| y + size(*vertex).0 / 2.0).fold(f64::NEG_INFINITY, f64::max);
        for (vertex, x, y) in part {
            let point = (MARGIN + NODE_WIDTH / 2 + (x - left).round() as i32, top + (y - upper).round() as i32);
            *middles.get_mut(vertex)? = Some(point);
        }
        top += (lower - upper).round() as i32 + ROW_GAP;
    }
    let middles: Vec<Point> = middles.into_iter().collect::<Option<_>>()?;
    let edges = laned.edges.iter().map(|(from, to, through)| Edge {
        from: *from,
        to: *to,
        through: through.iter().map(|lane| middles[*lane]).collect(),
        is_fallback: false,
    });
    Some(framed(&middles[..needs.len()], edges.collect()))
}

/// The plain drawing: columns by rank, rows by number.
fn in_columns(needs: &Needs) -> Layout {
    let mut used: BTreeMap<usize, i32> = BTreeMap::new();
    let place = |rank: &usize| {
        let row = used.entry(*rank).or_default();
        *row += 1;
        let x = MARGIN + NODE_WIDTH / 2 + *rank as i32 * (NODE_WIDTH + COLUMN_GAP);
        (x, MARGIN + NODE_HEIGHT / 2 + (*row - 1) * (NODE_HEIGHT + ROW_GAP))
    };
    let middles: Vec<Point> = ranks(needs).iter().map(place).collect();
    let pairs = needs.iter().enumerate().flat_map(|(to, own)| own.iter().map(move |from| (*from, to)));
    framed(&middles, pairs.map(|(from, to)| Edge { from, to, through: Vec::new(), is_fallback: false }).collect())
}

fn framed(middles: &[Point], edges: Vec<Edge>) -> Layout {
    let nodes: Vec<Point> = middles.iter().map(|(x, y)| (x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2)).collect();
    let lanes = edges.iter().flat_map(|edge| &edge.through).map(|(_, y)| y + LANE);
    let width = nodes.iter().map(|(x, _)| x + NODE_WIDTH).max().unwrap_or(0) + MARGIN;
    let height = nodes.iter().map(|(_, y)| y + NODE_HEIGHT).chain(lanes).max().unwrap_or(0) + MARGIN;
    Layout { width, height, nodes, edges }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Every node stands right of what it needs and on top of no other.
    #[track_caller]
    fn check(needs: &Needs, layout: &Layout) {
        assert_eq!(layout.nodes.len(), needs.len());
        assert_eq!(layout.edges.len(), needs.iter().map(Vec::len).sum::<usize>());
        for edge in &layout.edges {
            let (from, to) = (layout.nodes[edge.from], layout.nodes[edge.to]);
            assert!(from.0 + NODE_WIDTH < to.0, "{} at {from:?} is not left of {} at {to:?}", edge.from, edge.to);
        }
        for (index, a) in layout.nodes.iter().enumerate() {
            assert!(a.0 >= 0 && a.1 >= 0 && a.0 + NODE_WIDTH <= layout.width && a.1 + NODE_HEIGHT <= layout.height);
            for b in &layout.nodes[index + 1..] {
                let apart = (a.0 - b.0).abs() >= NODE_WIDTH || (a.1 - b.1).abs() >= NODE_HEIGHT;
                assert!(apart, "two nodes overlap at {a:?} and {b:?}");
            }
        }
    }

    fn graphs() -> Vec<Needs> {
        let chain = (0..20_usize).map(|index| index.checked_sub(1).into_iter().collect()).collect();
        let fan = (0..40_usize).map(|index| if index == 0 || index == 39 { vec![] } else { vec![0] }).collect();
        let mut diamond: Needs = fan_of(12);
        diamond.push((1..12).collect());
        let company = vec![vec![], vec![0], vec![0, 1], vec![1, 2], vec![0, 2], vec![3, 4], vec![]];
        vec![vec![vec![]], vec![vec![], vec![], vec![]], chain, fan, diamond, company]
    }

    fn fan_of(nodes: usize) -> Needs {
        (0..nodes).map(|index| if index == 0 { vec![] } else { vec![0] }).collect()
    }

    #[test]
    fn nodes_stand_right_of_what_they_need_and_never_overlap() {
        for needs in graphs() {
            check(&needs, &arranged(&needs).unwrap());
            check(&needs, &in_columns(&needs));
        }
    }

    #[test]
    fn a_long_edge_passes_no_node() {
        // 0 → 1 → 2 → 3, and 0 → 3 beside them
        let needs: Needs = vec![vec![], vec![0], vec![1], vec![0, 2]];
        let layout = arranged(&needs).unwrap();
        let long = layout.edges.iter().find(|edge| (edge.from, edge.to) == (0, 3)).unwrap();
        assert_eq!(long.through.len(), 2);
        for (x, y) in &long.through {
            let hits =
                |node: &&Point| (node.0..node.0 + NODE_WIDTH).contains(x) && (node.1..node.1 + NODE_HEIGHT).contains(y);
            assert_eq!(layout.nodes.iter().find(hits), None);
        }
    }

    #[test]
    fn five_hundred_nodes_are_laid_out() {
        let needs: Needs =
            (0..MOST_NODES).map(|index| (1..=3).filter_map(|back| index.checked_sub(back * 7)).collect()).collect();
        check(&needs, &arranged(&needs).unwrap());
    }
}
