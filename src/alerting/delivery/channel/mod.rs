//! The ways to a receiver. Each has one attempt with a result; repeating is the worker's.

use std::time::Duration;

use super::notification::Notification;

mod command;
mod email;
mod http;

use command::Command;
use email::Email;
use http::{Alertmanager, Webhook};

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The receiver may accept the same another time.
    Unavailable(String),
    /// It never will.
    Refused(String),
}

/// A way to a receiver.
#[derive(Debug)]
pub(super) enum Channel {
    Alertmanager(Alertmanager),
    Webhook(Box<Webhook>),
    Email(Box<Email>),
    Command(Command),
}

impl Channel {
    pub(super) fn alertmanager(raw: super::receivers::RawAlertmanager) -> Result<Self, String> {
        Ok(Self::Alertmanager(Alertmanager::check(&raw)?))
    }

    pub(super) fn webhook(raw: super::receivers::RawWebhook) -> Result<Self, String> {
        Ok(Self::Webhook(Box::new(Webhook::check(&raw)?)))
    }

    pub(super) fn email(raw: super::receivers::RawEmail, timeout: Duration) -> Result<Self, String> {
        Ok(Self::Email(Box::new(Email::check(&raw, timeout)?)))
    }

    pub(super) fn command(raw: super::receivers::RawCommand) -> Result<Self, String> {
        Ok(Self::Command(Command::check(raw)?))
    }

    /// How often what fires is sent again; `None` where once is enough.
    pub(super) fn resend(&self) -> Option<Duration> {
        match self {
            Self::Alertmanager(alertmanager) => Some(alertmanager.resend),
            Self::Webhook(_) | Self::Email(_) | Self::Command(_) => None,
        }
    }

    /// One attempt, within `timeout`.
    pub(super) async fn send(
        &self,
        notification: &Notification<'_>,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let attempt = async {
            match self {
                Self::Alertmanager(alertmanager) => alertmanager.send(notification).await,
                Self::Webhook(webhook) => webhook.send(notification).await,
                Self::Email(email) => email.send(notification).await,
                Self::Command(command) => command.send(notification).await,
            }
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Unavailable(format!(
                "no answer within {} (timeout)",
                humantime::format_duration(timeout)
            ))),
        }
    }
}
