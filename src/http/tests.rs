use std::time::Instant;

use axum::Extension;
use axum::response::IntoResponse as _;
use axum::routing::get;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const SITE: Site =
    Site { refusal: |refused| refused.status().into_response(), open: &["/open"], sign_in: Some("/login") };

/// Serves `ok`, and `slow` after 300 ms.
async fn started(max_connections: usize, header_timeout: Duration) -> (SocketAddr, Shutdown) {
    started_with(Access::default(), max_connections, header_timeout).await
}

async fn started_with(
    access: Access,
    max_connections: usize,
    header_timeout: Duration,
) -> (SocketAddr, Shutdown) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(address, access, || "cannot bind".into()).await.unwrap();
    let server = Server { max_connections, header_timeout, ..server };
    let (address, shutdown) = (server.address(), Shutdown::new());
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    };
    let endless = async || {
        let beats = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("beat\n"));
        axum::body::Body::from_stream(beats.then(async |beat| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            beat
        }))
    };
    let who = async |caller: Option<Extension<Caller>>| {
        caller.map_or("nobody".to_owned(), |Extension(caller)| caller.identity.name)
    };
    let routes = Router::new()
        .route("/", get(async || "ok").post(async || "changed"))
        .route("/slow", get(slow))
        .route("/endless", get(endless))
        .route("/open", get(who));
    tokio::spawn(server.serve(routes, SITE, shutdown.clone()));
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

/// A listener with a login, and the token of a viewer in a file.
async fn with_login() -> (SocketAddr, Shutdown, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let token = login::token::add(&path, "ada", login::Role::Viewer).unwrap();
    let config = crate::config::HttpConfig { tokens_file: Some(path), ..Default::default() };
    let access = Access::of(&config).unwrap();
    let (address, shutdown) = started_with(access, 8, Duration::from_secs(60)).await;
    (address, shutdown, folder, token)
}

fn request(method_and_path: &str, headers: &str) -> Vec<u8> {
    format!("{method_and_path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
        .into_bytes()
}

#[tokio::test]
async fn without_a_token_only_what_is_open_is_answered() {
    let (address, _shutdown, _folder, token) = with_login().await;
    let answer = ask(address, &request("GET /", "")).await;
    assert!(
        answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer realm="),
        "{answer}"
    );
    let browser = ask(address, &request("GET /", "Accept: text/html,*/*\r\n")).await;
    assert!(browser.starts_with("HTTP/1.1 303") && browser.contains("location: /login"), "{browser}");
    assert!(ask(address, &request("GET /open", "")).await.ends_with("nobody"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert!(ask(address, &request("GET /open", &bearer(&token))).await.ends_with("ada"));
    assert!(ask(address, &request("GET /", &bearer(&token))).await.ends_with("ok"));
    assert!(ask(address, &request("POST /", &bearer(&token))).await.ends_with("changed"));
    for path in ["GET //open", "GET /open/", "GET /%6Fpen", "GET /open/../", "GET /other"] {
        assert!(ask(address, &request(path, "")).await.starts_with("HTTP/1.1 401"), "{path}");
    }
    let forged = format!("{}Origin: http://evil.example\r\n", bearer(&token));
    assert!(ask(address, &request("POST /", &forged)).await.starts_with("HTTP/1.1 403"));
    let wrong = ask(address, &request("GET /", &bearer("guess"))).await;
    assert!(wrong.starts_with("HTTP/1.1 401") && wrong.contains("invalid_token"), "{wrong}");
}

#[tokio::test]
async fn an_open_stream_ends_when_its_token_is_removed() {
    let (address, _shutdown, folder, token) = with_login().await;
    let headers = format!("Authorization: Bearer {token}\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("GET /endless", &headers)).await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    login::token::remove(&folder.path().join("tokens"), "ada").unwrap();
    tokio::time::timeout(Duration::from_secs(30), closed(&mut stream)).await.unwrap();
}

/// With a certificate of its own.
fn with_tls(folder: &std::path::Path) -> (crate::config::HttpConfig, Access) {
    let [certificate, key] = ["cert", "key"].map(|name| folder.join(name));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config =
        crate::config::HttpConfig { cert_file: Some(certificate), key_file: Some(key), ..Default::default() };
    let access = Access::of(&config).unwrap();
    (config, access)
}

#[tokio::test]
async fn a_listener_with_tls_tells_a_client_without_it_and_ends_silent_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (config, access) = with_tls(folder.path());
    let (hasty, _shutdown_of_hasty) = started_with(access.clone(), 2, Duration::from_millis(200)).await;
    let (address, _shutdown) = started_with(access, 2, Duration::from_secs(60)).await;
    let plain = ask(address, REQUEST).await;
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("use https://"), "{plain}");
    let mut silent = TcpStream::connect(hasty).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), closed(&mut silent)).await.unwrap();
    let client = own_client(&config).unwrap().unwrap();
    let over_tls = async |client: Arc<rustls::ClientConfig>| {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(client).connect(name, stream).await.ok()?;
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        Some(answer)
    };
    assert!(over_tls(client.clone()).await.unwrap().ends_with("ok"));
    // A client that trusts another certificate breaks off.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other_file = folder.path().join("other");
    std::fs::write(&other_file, other.cert.pem()).unwrap();
    let other = crate::config::HttpConfig { cert_file: Some(other_file), ..Default::default() };
    assert_eq!(over_tls(own_client(&other).unwrap().unwrap()).await, None);
}

/// Parts of an answer without end, as a query makes them; says when nobody holds the query any longer.
struct Query(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Query {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            let _ = ended.send(());
        }
    }
}

/// A server of an endless answer at `/rows` whose clients may stop for 300 ms.
async fn with_rows(access: Access) -> (SocketAddr, Registry, tokio::sync::oneshot::Receiver<()>, Shutdown) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(address, access, || "cannot bind".into()).await.unwrap();
    let server = Server { write_timeout: Duration::from_millis(300), ..server };
    let (address, registry, shutdown) = (server.address(), Registry::new(), Shutdown::new());
    server.register(&registry).unwrap();
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    let query = Arc::new(std::sync::Mutex::new(Some(Query(Some(ended)))));
    let rows = async move || {
        let query = query.lock().unwrap().take();
        let part = axum::body::Bytes::from(vec![b'x'; 64 * 1024]);
        axum::body::Body::from_stream(futures::stream::repeat_with(move || {
            let _held = &query;
            Ok::<_, std::io::Error>(part.clone())
        }))
    };
    tokio::spawn(server.serve(Router::new().route("/rows", get(rows)), SITE, shutdown.clone()));
    (address, registry, has_ended, shutdown)
}

fn stalled(registry: &Registry) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "iotctl_http_stalled_clients_total").unwrap();
    family.get_metric()[0].get_counter().get_value()
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_counted_and_its_query_ends() {
    let (address, registry, has_ended, _shutdown) = with_rows(Access::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("GET /rows", "")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), has_ended).await.expect("the query goes on").unwrap();
    assert_eq!(stalled(&registry), 1.0);
    // What the system still has comes, and then the end.
    tokio::time::timeout(Duration::from_secs(20), closed(&mut stream)).await.unwrap();
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_its_answer() {
    let (address, registry, mut has_ended, _shutdown) = with_rows(Access::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("GET /rows", "")).await.unwrap();
    let mut bytes = vec![0; 1 << 20];
    // Longer than it may stop, and more than the system holds.
    for _ in 0..20 {
        stream.read_exact(&mut bytes).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(has_ended.try_recv().is_err(), "the query has ended");
    assert_eq!(stalled(&registry), 0.0);
}

#[tokio::test]
async fn a_client_that_never_reads_over_tls_is_closed_too() {
    let folder = tempfile::tempdir().unwrap();
    let (config, access) = with_tls(folder.path());
    let (address, registry, has_ended, _shutdown) = with_rows(access).await;
    let client = own_client(&config).unwrap().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(client).connect(name, stream).await.unwrap();
    stream.write_all(&request("GET /rows", "")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), has_ended).await.expect("the query goes on").unwrap();
    assert_eq!(stalled(&registry), 1.0);
}
