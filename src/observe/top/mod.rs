//! A live view of rates, lag, nodes and partitions on the whole screen.
//!
//! Two pollers look at Kafka and Cassandra with the readers of `monitor`, so that one which hangs does not hold the other
//! back; [`State`] takes in what they find, and [`draw`] is a pure function of it. The terminal is as it was before on
//! every way out, a panic included.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::observe::exporter::{cassandra, kafka};
use crate::output::log::Hold;
use crate::shutdown::Shutdown;

mod draw;
mod input;
mod state;

pub use draw::draw;
pub use input::Action;
pub use state::State;

/// How long one server may take; a view that is older than that says so.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the keyboard is looked at.
const KEY_INTERVAL: Duration = Duration::from_millis(100);

/// What the pollers and the keyboard tell.
enum Told {
    Kafka(Result<state::KafkaLook, String>),
    Cassandra(Result<state::CassandraLook, String>),
    Terminal(Event),
    /// The keyboard is gone.
    Hangup,
}

/// Draws until a key, a signal or the end of the terminal ends it.
pub async fn run(
    config: &Config,
    interval: Duration,
    is_colored: bool,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    // Nobody who shows a screen wants a log across it.
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
    let (tell, mut told) = mpsc::channel(64);
    let stop = tokio_util::sync::CancellationToken::new();
    // Whatever way this function is left, nobody goes on polling.
    let _guard = stop.clone().drop_guard();
    poll_kafka(config, interval, tell.clone(), stop.clone());
    poll_cassandra(config, interval, tell.clone(), stop.clone());
    listen(tell, stop.clone());

    let mut state = State::new(config, interval);
    let mut ticks = tokio::time::interval(interval.min(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        state.now = chrono::Utc::now();
        terminal.draw(|frame| draw(frame, &state, is_colored))?;
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = ticks.tick() => {}
            found = told.recv() => match found {
                Some(Told::Kafka(look)) => state.take_in_kafka(look),
                Some(Told::Cassandra(look)) => state.take_in_cassandra(look),
                Some(Told::Terminal(Event::Key(key))) => match input::action(key) {
                    Some(Action::Quit) => return Ok(()),
                    Some(action) => state.act(action),
                    None => {}
                },
                // A new size is drawn by the next turn of the loop.
                Some(Told::Terminal(_)) => {}
                Some(Told::Hangup) | None => return Ok(()),
            }
        }
    }
}

fn poll_kafka(
    config: &Config,
    interval: Duration,
    tell: mpsc::Sender<Told>,
    stop: tokio_util::sync::CancellationToken,
) {
    let (config, group) = (config.kafka.clone(), config.kafka.group.clone());
    tokio::spawn(async move {
        let mut watch = kafka::Watch::new(&config, vec![group], PATIENCE);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = tokio::select! {
                () = stop.cancelled() => return,
                look = watch.look() => look,
            };
            let look = look
                .map(|(sheet, overview)| state::KafkaLook::of(&config, &sheet, &overview))
                .map_err(|error| error.to_string());
            if tell.send(Told::Kafka(look)).await.is_err() {
                return;
            }
        }
    });
}

fn poll_cassandra(
    config: &Config,
    interval: Duration,
    tell: mpsc::Sender<Told>,
    stop: tokio_util::sync::CancellationToken,
) {
    let config = config.cassandra.clone();
    tokio::spawn(async move {
        let mut watch = cassandra::Watch::new(&config, PATIENCE);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = tokio::select! {
                () = stop.cancelled() => return,
                look = watch.look() => look,
            };
            let (sheet, answered) = look;
            let look = answered.map(|()| state::CassandraLook::of(&config.keyspace, &sheet));
            if tell.send(Told::Cassandra(look)).await.is_err() {
                return;
            }
        }
    });
}

/// The keyboard blocks, so it has a thread; the thread ends with the view.
fn listen(tell: mpsc::Sender<Told>, stop: tokio_util::sync::CancellationToken) {
    std::thread::spawn(move || {
        while !stop.is_cancelled() {
            let told = match event::poll(KEY_INTERVAL) {
                Ok(false) => continue,
                Ok(true) => event::read().map_or(Told::Hangup, Told::Terminal),
                Err(_) => Told::Hangup,
            };
            let is_over = matches!(told, Told::Hangup);
            if tell.blocking_send(told).is_err() || is_over {
                return;
            }
        }
    });
}
