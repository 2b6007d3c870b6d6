use std::time::Instant;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn refusal() -> Response {
    StatusCode::MISDIRECTED_REQUEST.into_response()
}

/// Serves `ok`, and `slow` after 300 ms.
async fn started(max_connections: usize, header_timeout: Duration) -> (SocketAddr, Shutdown) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(address, || "cannot bind".into()).await.unwrap();
    let server = Server { max_connections, header_timeout, ..server };
    let (address, shutdown) = (server.address(), Shutdown::new());
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    };
    let routes = Router::new().route("/", get(async || "ok")).route("/slow", get(slow));
    tokio::spawn(server.serve(routes, refusal, shutdown.clone()));
    (address, shutdown)
}

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    // A closed connection is an empty answer.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

/// Resolves once the server has closed the connection.
async fn closed(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {}
}

#[tokio::test]
async fn half_open_connections_make_room_for_one_that_asks() {
    let (address, _shutdown) = started(8, Duration::from_secs(60)).await;
    let mut half_open = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
        }
        half_open.push(stream);
    }
    assert!(ask(address, REQUEST).await.ends_with("ok"));
    // All but the newest were closed.
    for stream in &mut half_open[..90] {
        tokio::time::timeout(Duration::from_secs(5), closed(stream)).await.unwrap();
    }
}

#[tokio::test]
async fn headers_that_do_not_come_in_time_close_the_connection() {
    let (address, _shutdown) = started(8, Duration::from_millis(200)).await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    closed(&mut stream).await;
    let elapsed = started.elapsed();
    assert!((Duration::from_millis(150)..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test]
async fn connections_with_a_request_in_progress_are_not_evicted() {
    let (address, _shutdown) = started(2, Duration::from_secs(60)).await;
    let slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let busy = [tokio::spawn(ask(address, slow)), tokio::spawn(ask(address, slow))];
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(ask(address, REQUEST).await, "");
    for answer in busy {
        assert!(answer.await.unwrap().ends_with("slow"));
    }
    assert!(ask(address, REQUEST).await.ends_with("ok"));
}

#[tokio::test]
async fn another_host_and_headers_beyond_the_buffer_are_refused() {
    let (address, _shutdown) = started(8, Duration::from_secs(60)).await;
    let rebound = b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(ask(address, rebound).await.starts_with("HTTP/1.1 421"));
    let mut large = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec();
    large.resize(2 * BUFFER_BYTES, b'x');
    assert!(!ask(address, &large).await.contains("200"));
}

#[tokio::test]
async fn a_shutdown_lets_responses_in_progress_finish_and_then_refuses() {
    let (address, shutdown) = started(8, Duration::from_secs(60)).await;
    let slow = tokio::spawn(ask(address, b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    shutdown.request();
    assert!(slow.await.unwrap().ends_with("slow"));
    assert!(TcpStream::connect(address).await.is_err());
}
