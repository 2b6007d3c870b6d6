//! A live view of rates, lag, nodes and partitions on the whole screen.
//!
//! Two pollers read Kafka and Cassandra with the readers of `monitor`, so that a server that hangs does not delay the
//! other; [`State`] keeps what they find, and [`draw`](fn@draw) is a pure function of it. The terminal is restored on every exit,
//! a panic included.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::kafka::Subscription;
use crate::observe::exporter;
use crate::output::log::Hold;
use crate::shutdown::Shutdown;

mod cassandra;
mod columns;
mod draw;
mod input;
mod kafka;
mod palette;
mod source;
mod state;
mod tables;

use cassandra::CassandraState;
pub use draw::draw;
pub use input::Action;
use kafka::KafkaState;
pub use state::State;

/// How long one server may take before the view shows it as not answering.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the keyboard is polled.
const KEY_INTERVAL: Duration = Duration::from_millis(100);

/// What the pollers and the keyboard send.
enum Update {
    Kafka(Result<KafkaState, String>),
    Cassandra(Result<CassandraState, String>),
    Terminal(Event),
    /// The terminal is closed.
    Hangup,
}

/// Draws until a key, a signal or the end of the terminal ends it.
pub async fn run(
    config: &Config,
    interval: Duration,
    is_colored: bool,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    // Log lines would garble the screen.
    let _hold = Hold::terminal();
    // It installs a panic hook that restores the terminal before the message is printed.
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, config, interval, is_colored, shutdown).await;
    ratatui::restore();
    ended
}

async fn show(
    terminal: &mut ratatui::DefaultTerminal,
    config: &Config,
    interval: Duration,
    is_colored: bool,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let (sender, mut updates) = mpsc::channel(64);
    let stop = tokio_util::sync::CancellationToken::new();
    // However this function is left, polling stops.
    let _guard = stop.clone().drop_guard();
    poll_kafka(config, interval, sender.clone(), stop.clone());
    poll_cassandra(config, interval, sender.clone(), stop.clone());
    listen(sender, stop.clone());

    let mut state = State::new(config, interval);
    let mut ticks = tokio::time::interval(interval.min(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        state.now = chrono::Utc::now();
        terminal.draw(|frame| draw(frame, &state, is_colored))?;
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = ticks.tick() => {}
            update = updates.recv() => match update {
                Some(Update::Kafka(look)) => state.update_kafka(look),
                Some(Update::Cassandra(look)) => state.update_cassandra(look),
                Some(Update::Terminal(Event::Key(key))) => match input::action(key) {
                    Some(Action::Quit) => return Ok(()),
                    Some(action) => state.act(action),
                    None => {}
                },
                // The next iteration draws the new size.
                Some(Update::Terminal(_)) => {}
                Some(Update::Hangup) | None => return Ok(()),
            }
        }
    }
}

fn poll_kafka(
    config: &Config,
    interval: Duration,
    sender: mpsc::Sender<Update>,
    stop: tokio_util::sync::CancellationToken,
) {
    let subscription = Subscription::configured_or_built_in(config);
    let (config, group) = (config.kafka.clone(), config.kafka.group.clone());
    tokio::spawn(async move {
        let mut watch =
            exporter::kafka::Watch::new(&config, vec![group], ANSWER_TIMEOUT).reading(subscription.clone());
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = tokio::select! {
                () = stop.cancelled() => return,
                look = watch.look() => look,
            };
            let look = look
                .map(|(snapshot, overview)| KafkaState::of(&config, &subscription, &snapshot, &overview))
                .map_err(|error| error.to_string());
            if sender.send(Update::Kafka(look)).await.is_err() {
                return;
            }
        }
    });
}

fn poll_cassandra(
    config: &Config,
    interval: Duration,
    sender: mpsc::Sender<Update>,
    stop: tokio_util::sync::CancellationToken,
) {
    let config = config.cassandra.clone();
    tokio::spawn(async move {
        let mut watch = exporter::cassandra::Watch::new(&config, ANSWER_TIMEOUT);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = tokio::select! {
                () = stop.cancelled() => return,
                look = watch.look() => look,
            };
            let (snapshot, answered) = look;
            let look = answered.map(|()| CassandraState::of(&config.keyspace, &snapshot));
            if sender.send(Update::Cassandra(look)).await.is_err() {
                return;
            }
        }
    });
}

/// Reading the keyboard blocks, so it runs on a thread, which ends with the view.
fn listen(sender: mpsc::Sender<Update>, stop: tokio_util::sync::CancellationToken) {
    std::thread::spawn(move || {
        while !stop.is_cancelled() {
            let update = match event::poll(KEY_INTERVAL) {
                Ok(false) => continue,
                Ok(true) => event::read().map_or(Update::Hangup, Update::Terminal),
                Err(_) => Update::Hangup,
            };
            let is_over = matches!(update, Update::Hangup);
            if sender.blocking_send(update).is_err() || is_over {
                return;
            }
        }
    });
}
