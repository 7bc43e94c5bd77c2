//! A TCP proxy before Postgres or Redis that breaks connections on purpose: it cuts, refuses, stalls, and takes away
//! the answer to what was committed.
//!
//! Of Postgres it reads the framing of the server's messages (a type byte, a length, a body) and the tags of finished
//! commands; of anything else nothing. Without TLS only. It and all its connections end when the value goes.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::hand::SeededChance;

/// What it does with bytes and with new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes everything on.
    Pass,
    /// Closes new connections at once.
    Refuse,
    /// Accepts, and passes nothing on, in neither direction, until another mode is set.
    Stall,
}

/// Which answers are taken away: one of so many, by seeded dice.
#[derive(Debug)]
struct Cutting {
    dice: SeededChance,
    one_in: usize,
}

#[derive(Debug)]
struct Orders {
    mode: watch::Sender<Mode>,
    /// Counts up with each order to cut all connections.
    cut: watch::Sender<u64>,
    cutting: Mutex<Option<Cutting>>,
    commits_cut: AtomicU64,
    others_cut: AtomicU64,
    /// Stall once a client begins a transaction.
    stall_at_begin: AtomicBool,
}

/// The proxy.
#[derive(Debug)]
pub(crate) struct ChaosProxy {
    url: String,
    orders: Arc<Orders>,
    accepting: JoinHandle<()>,
}

impl ChaosProxy {
    /// A proxy before the Postgres database that a URL names.
    pub(crate) async fn before(url: &str) -> Self {
        let (user, rest) = url.split_once('@').expect("the URL has a user");
        let (server, database) = rest.split_once('/').expect("the URL has a database");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("{user}@{}/{database}?sslmode=disable", listener.local_addr().unwrap());
        let orders = Arc::new(Orders {
            mode: watch::Sender::new(Mode::Pass),
            cut: watch::Sender::new(0),
            cutting: Mutex::default(),
            commits_cut: AtomicU64::new(0),
            others_cut: AtomicU64::new(0),
            stall_at_begin: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, server.to_owned(), orders.clone()));
        Self { url, orders, accepting }
    }

    /// The URL of the same database by way of the proxy.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.orders.mode.send_replace(mode);
    }

    /// What it does now.
    pub(crate) fn mode(&self) -> Mode {
        *self.orders.mode.borrow()
    }

    /// Cuts all connections now.
    pub(crate) fn cut_all(&self) {
        self.orders.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts connections when the server has done and answered a statement outside of a transaction, or a commit, before
    /// the client hears of it: one of so many, by the seed.
    pub(crate) fn cut_answers(&self, seed: u64, one_in: usize) {
        *self.orders.cutting.lock().unwrap() = Some(Cutting { dice: SeededChance::new(seed), one_in });
    }

    /// Cuts no answers any more.
    pub(crate) fn spare_answers(&self) {
        *self.orders.cutting.lock().unwrap() = None;
    }

    /// Stalls everything as soon as the client begins its next transaction: the server does not hear of it.
    pub(crate) fn stall_at_begin(&self) {
        self.orders.stall_at_begin.store(true, Ordering::SeqCst);
    }

    /// How many answers to commits, and to statements without a transaction, were taken away.
    pub(crate) fn cuts(&self) -> (u64, u64) {
        (self.orders.commits_cut.load(Ordering::SeqCst), self.orders.others_cut.load(Ordering::SeqCst))
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, orders: Arc<Orders>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *orders.mode.borrow() != Mode::Refuse {
            connections.spawn(serve(client, server.clone(), orders.clone()));
        }
    }
}

/// One connection, until either side ends or it is cut.
async fn serve(client: TcpStream, server: String, orders: Arc<Orders>) {
    let mut cut = orders.cut.subscribe();
    let Ok(server) = TcpStream::connect(server).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = ask(from_client, to_server, &orders) => {}
        _ = answer(from_server, to_client, &orders) => {}
        _ = cut.changed() => {}
    }
}

async fn until_it_may_pass(orders: &Orders) {
    let mut mode = orders.mode.subscribe();
    let _ = mode.wait_for(|mode| *mode != Mode::Stall).await;
}

async fn ask(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, orders: &Orders) -> std::io::Result<()> {
    let mut bytes = vec![0_u8; 64 * 1024];
    loop {
        let count = client.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        // a simple query: `Q`, a length, the text
        let begins = bytes[0] == b'Q' && bytes[..count].get(5..10) == Some(b"begin");
        if begins && orders.stall_at_begin.swap(false, Ordering::SeqCst) {
            orders.mode.send_replace(Mode::Stall);
        }
        until_it_may_pass(orders).await;
        server.write_all(&bytes[..count]).await?;
    }
}

/// Passes whole answers on, each up to the `ReadyForQuery` that ends it.
async fn answer(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, orders: &Orders) -> std::io::Result<()> {
    let (mut gathered, mut is_login, mut has_done, mut has_committed) = (Vec::new(), true, false, false);
    loop {
        let mut head = [0_u8; 5];
        server.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let start = gathered.len();
        gathered.extend(head);
        gathered.resize(start + length + 1, 0);
        server.read_exact(&mut gathered[start + 5..]).await?;
        let body = &gathered[start + 5..];
        match head[0] {
            b'C' => {
                has_done = true;
                has_committed |= body.starts_with(b"COMMIT");
                continue;
            }
            b'Z' => {
                if !is_login && has_done && body == b"I" && is_to_be_cut(orders, has_committed) {
                    return Ok(());
                }
                (is_login, has_done, has_committed) = (false, false, false);
            }
            _ if !is_login => continue,
            _ => {}
        }
        until_it_may_pass(orders).await;
        client.write_all(&gathered).await?;
        gathered.clear();
    }
}

fn is_to_be_cut(orders: &Orders, has_committed: bool) -> bool {
    let mut cutting = orders.cutting.lock().unwrap();
    let Some(cutting) = cutting.as_mut() else { return false };
    let is_cut = cutting.dice.below(cutting.one_in) == 0;
    let count = if has_committed { &orders.commits_cut } else { &orders.others_cut };
    count.fetch_add(u64::from(is_cut), Ordering::SeqCst);
    is_cut
}
