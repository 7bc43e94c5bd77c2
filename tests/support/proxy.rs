//! A TCP proxy before Postgres that counts answers: each `ReadyForQuery` of the server ends one round trip.
//!
//! One that says nothing else is not counted: the driver asks so much when a connection goes back to its pool, and
//! nobody waits for it. What a program says it asked is no measurement; what went over the wire is. Without TLS only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The proxy; it ends when this value goes.
#[derive(Debug)]
pub(crate) struct CountingProxy {
    port: u16,
    answers: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl CountingProxy {
    /// A proxy before the server that a URL names.
    pub(crate) async fn before(url: &str) -> Self {
        let (_, rest) = url.split_once('@').expect("the URL has a user");
        let server = rest.split_once('/').expect("the URL has a database").0.to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(AtomicU64::new(0));
        let counter = answers.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (mut from_client, to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                tokio::spawn(count(from_server, to_client, counter.clone()));
            }
        });
        Self { port, answers, accepting }
    }

    /// The URL of the same database by way of the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let (user, rest) = url.split_once('@').expect("the URL has a user");
        let (_, database) = rest.split_once('/').expect("the URL has a database");
        format!("{user}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Round trips so far.
    pub(crate) fn round_trips(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes messages on (a type byte, a length, a body) and counts those of type `Z`.
async fn count(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, answers: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut says_something = false;
    loop {
        let mut head = [0_u8; 5];
        server.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut message = vec![0_u8; length + 1];
        message[..5].copy_from_slice(&head);
        server.read_exact(&mut message[5..]).await?;
        if head[0] == b'Z' {
            answers.fetch_add(u64::from(says_something), Ordering::SeqCst);
        }
        says_something = head[0] != b'Z';
        client.write_all(&message).await?;
    }
}
