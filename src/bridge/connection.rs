//! One connection to the MQTT broker: CONNECT and SUBSCRIBE, then reading and writing apart from each other, so that pings
//! and acknowledgements go out while reading waits for room.
//!
//! The packets are those of MQTT 5, by rumqttc's codec. Its own client is not used: it holds pings back while its reader
//! waits, and it may acknowledge on a new connection what belongs to an old one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Login,
    Packet, PingReq, PubAck, Publish, RetainForwardRule, Subscribe, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Error;
use crate::config::{MqttAddress, MqttConfig};
use crate::tls::{self, Settings};

const TLS_SETTINGS: Settings = Settings {
    ca: "mqtt.ca_file",
    certificate: "mqtt.cert_file",
    key: "mqtt.key_file",
    off: "mqtt.broker to mqtt://",
    name: "use a name that it has in mqtt.broker",
};

/// How long connecting, and writing to the broker, may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// What is read at once at least.
const READ_BYTES: usize = 16 * 1024;
/// What a message takes in memory beside topic and payload, roughly, in bytes.
const OVERHEAD: usize = 512;
/// The unit of the budget of bytes in flight.
const BUDGET_UNIT: usize = 1024;
/// The number of the one SUBSCRIBE of a connection.
const SUBSCRIBE_PACKET: u16 = 1;

/// Where to connect to, and as whom.
pub(super) struct Target {
    pub(super) address: MqttAddress,
    pub(super) client_id: String,
    login: Option<Login>,
    filters: Vec<Filter>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    has_own_certificate: bool,
    keep_alive: Duration,
    session_expiry: Duration,
    receive_maximum: u16,
    max_packet: u32,
}

/// What a connection reports. `connection` counts them.
pub(super) enum Event {
    Opened {
        connection: u64,
    },
    /// The subscriptions are active; `has_session` if the broker had kept the session.
    Subscribed {
        has_session: bool,
    },
    Message(Received),
    Lost {
        reason: String,
    },
    /// No further attempt is made.
    Failed(Error),
}

/// A message, with its part of the bytes that may be in flight.
pub(super) struct Received {
    pub(super) connection: u64,
    pub(super) publish: Publish,
    pub(super) permit: OwnedSemaphorePermit,
}

/// What a connection is told.
pub(super) enum Order {
    /// Packets of the given connection; dropped if it is not that one any more.
    Acknowledge { connection: u64, packets: Vec<u16> },
    /// End the connection; the session stays.
    Disconnect,
}

/// The number of permits of the budget for so many bytes.
pub(super) fn permits(bytes: usize) -> usize {
    bytes.div_ceil(BUDGET_UNIT)
}

impl Target {
    /// Reads the certificates.
    pub(super) fn new(config: &MqttConfig, client_id: String) -> Result<Self, Error> {
        let address = config.address()?;
        let own = config.cert_file.as_deref().zip(config.key_file.as_deref());
        let tls = match (address.uses_tls, config.ca_file.as_deref()) {
            (false, _) => None,
            (true, Some(ca)) => Some(tls::client_config(&TLS_SETTINGS, ca, own)?),
            (true, None) => Some(tls::client_config_of_system(&TLS_SETTINGS, own)?),
        };
        let name = |host: &str| {
            ServerName::try_from(host.to_owned()).map_err(|_| Error::Tls {
                broker: address.to_string(),
                reason: format!(
                    "{host:?} cannot be the name in a certificate (use a host name or an IP address)"
                ),
            })
        };
        let tls = tls.map(|tls| Ok::<_, Error>((tls.into(), name(&address.host)?))).transpose()?;
        let filter = |topic: &String| Filter {
            path: topic.clone(),
            qos: QoS::AtLeastOnce,
            // Not again at each reconnect. For shared subscriptions MQTT has none at all.
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..Filter::default()
        };
        let password = config.password.as_ref().map(|password| password.expose().to_owned());
        Ok(Self {
            client_id,
            login: config.username.clone().map(|user| Login::new(user, password.unwrap_or_default())),
            filters: config.topics.iter().map(filter).collect(),
            tls,
            has_own_certificate: own.is_some(),
            keep_alive: config.keep_alive,
            session_expiry: config.session_expiry,
            receive_maximum: config.max_in_flight,
            max_packet: u32::try_from(config.max_packet_bytes.as_u64()).unwrap_or(u32::MAX),
            address,
        })
    }

    fn unreachable(&self, reason: impl ToString) -> Error {
        Error::Unreachable { broker: self.address.to_string(), reason: reason.to_string() }
    }

    fn lost(&self, reason: impl Into<String>) -> Error {
        Error::Lost { broker: self.address.to_string(), reason: reason.into() }
    }

    /// Connects and asks for the subscriptions; the answer comes while it is served. `is_new` discards the session that
    /// the broker may have.
    pub(super) async fn open(&self, is_new: bool) -> Result<Connection, Error> {
        let opening = timeout(DEADLINE, self.handshake(is_new)).await;
        opening.unwrap_or_else(|_| {
            Err(self.unreachable(format!("no answer within {}", humantime::format_duration(DEADLINE))))
        })
    }

    async fn handshake(&self, is_new: bool) -> Result<Connection, Error> {
        let tcp = TcpStream::connect((self.address.host.as_str(), self.address.port));
        let tcp = tcp.await.map_err(|error| self.unreachable(error))?;
        // Nagle's algorithm would hold back acknowledgements.
        tcp.set_nodelay(true).map_err(|error| self.unreachable(error))?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some((tls, name)) => {
                let connected = tls.connect(name.clone(), tcp).await;
                Box::new(connected.map_err(|error| self.explain(&error))?)
            }
        };
        let mut buffer = BytesMut::new();
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval =
            Some(u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX));
        properties.receive_maximum = Some(self.receive_maximum);
        properties.max_packet_size = Some(self.max_packet);
        let connect = Connect {
            keep_alive: u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX),
            client_id: self.client_id.clone(),
            clean_start: is_new,
            properties: Some(properties),
        };
        let mut subscribe = Subscribe::new_many(self.filters.clone(), None);
        subscribe.pkid = SUBSCRIBE_PACKET;
        self.send(&mut stream, &Packet::Connect(connect, None, self.login.clone())).await?;
        let answer = match self.next_packet(&mut stream, &mut buffer).await {
            Ok(Packet::ConnAck(answer)) => answer,
            Err(Error::Lost { reason, .. }) if self.tls.is_none() => {
                let hint = "if it expects TLS, write mqtts:// in mqtt.broker";
                return Err(self.unreachable(format!("{reason} before it answered; {hint}")));
            }
            Err(error) => return Err(error),
            Ok(other) => return Err(self.lost(format!("it answered the CONNECT with {other:?}"))),
        };
        if answer.code != ConnectReturnCode::Success {
            return Err(self.refused(&answer));
        }
        self.send(&mut stream, &Packet::Subscribe(subscribe)).await?;
        let theirs = answer.properties.as_ref().and_then(|properties| properties.server_keep_alive);
        let keep_alive = theirs.map_or(self.keep_alive, |seconds| Duration::from_secs(seconds.max(1).into()));
        let (reading, writing) = tokio::io::split(stream);
        Ok(Connection { reading, writing, buffer, keep_alive, has_session: answer.session_present })
    }

    async fn send(&self, stream: &mut (impl AsyncWrite + Unpin), packet: &Packet) -> Result<(), Error> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).map_err(|error| self.lost(error.to_string()))?;
        self.write(stream, &bytes).await
    }

    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
        let writing = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        match timeout(DEADLINE, writing).await {
            Ok(written) => written.map_err(|error| self.lost(error.to_string())),
            Err(_) => {
                Err(self.lost(format!("it takes no data for {}", humantime::format_duration(DEADLINE))))
            }
        }
    }

    async fn next_packet(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
    ) -> Result<Packet, Error> {
        loop {
            if let Some(disconnect) = short_disconnect(buffer) {
                return Ok(Packet::Disconnect(disconnect));
            }
            let length = buffer.len();
            match Packet::read(buffer, Some(self.max_packet)) {
                Ok(packet) => return Ok(packet),
                // At most the largest packet: its length is checked before. Where bytes were taken, it is the packet itself
                // that ends too early.
                Err(mqttbytes::Error::InsufficientBytes(missing)) if buffer.len() == length => {
                    buffer.reserve(missing.max(READ_BYTES));
                }
                Err(error) => return Err(self.lost(format!("it sent a malformed packet: {error}"))),
            }
            match stream.read_buf(buffer).await {
                Ok(0) => return Err(self.lost("it closed the connection")),
                Ok(_) => {}
                Err(error) => {
                    return Err(match tls::explain(&error, &TLS_SETTINGS, self.has_own_certificate) {
                        Some(reason) => Error::Tls { broker: self.address.to_string(), reason },
                        None => self.lost(error.to_string()),
                    });
                }
            }
        }
    }

    fn explain(&self, error: &std::io::Error) -> Error {
        match tls::explain(error, &TLS_SETTINGS, self.has_own_certificate) {
            Some(reason) => Error::Tls { broker: self.address.to_string(), reason },
            None => self.unreachable(format!("the TLS handshake fails: {error}")),
        }
    }

    fn refused(&self, answer: &ConnAck) -> Error {
        use ConnectReturnCode::*;
        let said = answer.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        let (reason, is_transient) = match answer.code {
            BadUserNamePassword | NotAuthorized => (
                "user name or password is wrong, or the user is not authorized (check mqtt.username, and \
                 IOTCTL_MQTT_PASSWORD or mqtt.password_file)",
                false,
            ),
            ClientIdentifierNotValid | BadClientId => {
                ("it does not accept the client id (set mqtt.client_id)", false)
            }
            UnsupportedProtocolVersion | RefusedProtocolVersion => {
                ("it does not speak MQTT 5 (update it: mosquitto has it since 1.6)", false)
            }
            ServerUnavailable | ServiceUnavailable => ("it is not available", true),
            ServerBusy => ("it is busy", true),
            ConnectionRateExceeded | QuotaExceeded => ("a limit of it is exceeded", true),
            _ => ("it gives no reason that is known here (see its log)", false),
        };
        let reason = format!("{reason} ({:?}{said})", answer.code);
        Error::Refused { broker: self.address.to_string(), reason, is_transient }
    }

    fn ended(&self, disconnect: &Disconnect) -> Error {
        if disconnect.reason_code == DisconnectReasonCode::SessionTakenOver {
            return Error::TakenOver { broker: self.address.to_string(), client_id: self.client_id.clone() };
        }
        let said = disconnect.properties.as_ref().and_then(|properties| properties.reason_string.clone());
        let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
        self.lost(format!("it ended the connection: {:?}{said}", disconnect.reason_code))
    }
}

/// A DISCONNECT without properties, or without a reason too: the codec takes neither.
fn short_disconnect(buffer: &[u8]) -> Option<Disconnect> {
    match buffer {
        [0xe0, 0, ..] => Some(Disconnect::new(DisconnectReasonCode::NormalDisconnection)),
        [0xe0, 1, reason, ..] => DisconnectReasonCode::try_from(*reason).ok().map(Disconnect::new),
        _ => None,
    }
}

/// A connection, plain or encrypted.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection on which the subscriptions were asked for.
pub(super) struct Connection {
    reading: ReadHalf<Box<dyn Stream>>,
    writing: WriteHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    keep_alive: Duration,
    has_session: bool,
}

/// When the broker was last heard, for the side that writes.
struct Heard {
    since: Instant,
    last_millis: std::sync::atomic::AtomicU64,
    /// Reading waits for room: silence says nothing about the broker.
    is_waiting: AtomicBool,
}

impl Heard {
    fn note(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        match self.is_waiting.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => self.since.elapsed().saturating_sub(last),
        }
    }
}

impl Connection {
    /// Passes messages on and acknowledgements back. Ends with `Ok` when it was told to disconnect.
    pub(super) async fn serve(
        self,
        target: &Target,
        connection: u64,
        budget: &Arc<Semaphore>,
        events: &mpsc::Sender<Event>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Result<(), Error> {
        let heard = Heard { since: Instant::now(), last_millis: 0.into(), is_waiting: false.into() };
        let Self { reading, writing, buffer, keep_alive, has_session } = self;
        let reader = Reader { target, connection, budget, events, heard: &heard, has_session };
        tokio::select! {
            // It never ends well.
            error = reader.run(reading, buffer) => error.map(|never| match never {}),
            ended = write(target, connection, writing, orders, keep_alive, &heard) => ended,
        }
    }
}

struct Reader<'a> {
    target: &'a Target,
    connection: u64,
    budget: &'a Arc<Semaphore>,
    events: &'a mpsc::Sender<Event>,
    heard: &'a Heard,
    has_session: bool,
}

impl Reader<'_> {
    async fn run(
        &self,
        mut stream: ReadHalf<Box<dyn Stream>>,
        mut buffer: BytesMut,
    ) -> Result<std::convert::Infallible, Error> {
        loop {
            let packet = self.target.next_packet(&mut stream, &mut buffer).await?;
            self.heard.note();
            match packet {
                Packet::Publish(publish) => self.pass_on(publish).await?,
                Packet::SubAck(answer) => {
                    for (filter, code) in self.target.filters.iter().zip(&answer.return_codes) {
                        self.check_granted(filter, *code)?;
                    }
                    self.report(Event::Subscribed { has_session: self.has_session }).await?;
                }
                Packet::Disconnect(disconnect) => return Err(self.target.ended(&disconnect)),
                // Answers to pings; nothing else is expected.
                _ => {}
            }
        }
    }

    async fn pass_on(&self, publish: Publish) -> Result<(), Error> {
        if publish.qos == QoS::ExactlyOnce {
            return Err(self.target.lost("it sent a message of QoS 2 to a subscription of QoS 1"));
        }
        let size = permits(publish.topic.len() + publish.payload.len() + OVERHEAD);
        self.heard.is_waiting.store(true, Ordering::Relaxed);
        let permit = self.budget.clone().acquire_many_owned(u32::try_from(size).unwrap_or(u32::MAX)).await;
        let permit = permit.map_err(|_| self.target.lost("the bridge ends"))?;
        self.report(Event::Message(Received { connection: self.connection, publish, permit })).await?;
        self.heard.note();
        self.heard.is_waiting.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn report(&self, event: Event) -> Result<(), Error> {
        self.events.send(event).await.map_err(|_| self.target.lost("the bridge ends"))
    }

    fn check_granted(&self, filter: &Filter, code: SubscribeReasonCode) -> Result<(), Error> {
        use SubscribeReasonCode::*;
        let reason = match code {
            Success(QoS::AtMostOnce) => {
                "it grants QoS 0 only, which loses messages (allow QoS 1 in the broker)".to_owned()
            }
            Success(_) => return Ok(()),
            NotAuthorized => "the user is not authorized (allow it in the broker's access rules)".to_owned(),
            SharedSubscriptionsNotSupported => {
                "it has no shared subscriptions (subscribe without $share)".to_owned()
            }
            other => format!("{other:?} (see the broker's log)"),
        };
        let (broker, filter) = (self.target.address.to_string(), filter.path.clone());
        Err(Error::Subscription { broker, filter, reason })
    }
}

/// Writes acknowledgements and pings, and finds out that the broker is silent.
async fn write(
    target: &Target,
    connection: u64,
    mut stream: WriteHalf<Box<dyn Stream>>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    keep_alive: Duration,
    heard: &Heard,
) -> Result<(), Error> {
    let malformed = |error: mqttbytes::Error| target.lost(error.to_string());
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + keep_alive / 2, keep_alive / 2);
    let mut out = BytesMut::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => Some(order.unwrap_or(Order::Disconnect)),
            _ = pings.tick() => None,
        };
        match order {
            Some(Order::Acknowledge { connection: of, packets }) if of == connection => {
                for packet in packets {
                    PubAck::new(packet, None).write(&mut out).map_err(malformed)?;
                }
            }
            Some(Order::Acknowledge { .. }) => {}
            Some(Order::Disconnect) => {
                let goodbye = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
                goodbye.write(&mut out).map_err(malformed)?;
                target.write(&mut stream, &out).await?;
                let _ = stream.shutdown().await;
                return Ok(());
            }
            None => {
                let silence = heard.silence();
                if silence > keep_alive.mul_f64(1.5) {
                    return Err(target.lost(format!(
                        "nothing was heard for {}",
                        humantime::format_duration(Duration::from_secs(silence.as_secs()))
                    )));
                }
                PingReq::write(&mut out).map_err(malformed)?;
            }
        }
        target.write(&mut stream, &out).await?;
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_of_a_broker_make_the_codec_panic(
            first in prop::sample::select(vec![0x20_u8, 0x30, 0x32, 0x3f, 0x40, 0x90, 0xd0, 0xe0, 0xf0]),
            body in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
            bytes.extend(body);
            let mut buffer = BytesMut::from(&bytes[..]);
            let _ = Packet::read(&mut buffer, Some(1024));
        }
    }

    #[test]
    fn a_disconnect_may_have_a_reason_alone_or_none() {
        let reason = |bytes: &[u8]| short_disconnect(bytes).map(|disconnect| disconnect.reason_code);
        assert_eq!(reason(&[0xe0, 1, 0x8e]), Some(DisconnectReasonCode::SessionTakenOver));
        assert_eq!(reason(&[0xe0, 0]), Some(DisconnectReasonCode::NormalDisconnection));
        assert_eq!((reason(&[0xe0, 2, 0x8e, 0]), reason(&[0xe0, 1]), reason(&[])), (None, None, None));
    }

    #[test]
    fn a_message_takes_its_share_of_the_budget_in_whole_units() {
        assert_eq!((permits(0), permits(1), permits(1024), permits(1025)), (0, 1, 1, 2));
    }
}
