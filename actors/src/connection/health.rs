//! What looks and ends mean for the connection: what is confirmed, what is said, and how long it waits.

use slog::{debug, error, info, warn};
use tokio::time::Instant;

use super::ended::Ended;
use super::{EARLY_CLOSES, Link, SyslogConnection};
use crate::event::Code;
use crate::messages::{ReceiverChanged, ReceiverState};
use crate::model::outage::Say;
use crate::trouble::seconds;

impl SyslogConnection {
    /// A look has found it open.
    pub(super) fn looked(&mut self, acknowledged: u64, now: Instant) {
        let looked = self.session.looked(acknowledged, now.into_std());
        self.counters.bytes_confirmed.add(looked.bytes_confirmed);
        if looked.confirmed_more {
            self.backoff.reset();
        }
        if looked.passed_over {
            self.passed_over();
        }
        if looked.became_ready {
            self.early_closes = 0;
            self.open_wanted = false;
        }
        // While a message is on trial, that a connection stands open shows nothing: what matters is what it carries.
        if self.session.is_ready() && !self.session.is_on_trial() && self.state != ReceiverState::Ready {
            match self.outage.works(now.into_std()) {
                Some(Say { lasting, failures }) => info!(self.logger, "the receiver works again";
                    "lasted_s" => seconds(lasting), "failures" => failures, "code" => Code::ReceiverDown.as_str()),
                None if !self.said_connected => info!(self.logger, "the receiver is ready"),
                None => {}
            }
            self.said_connected = true;
            self.report(ReceiverState::Ready);
        }
    }

    /// A gap record is confirmed, and its message done with.
    fn passed_over(&mut self) {
        self.counters.messages_refused.add(1);
        self.counters.gaps.add(1);
        if let Some(reason) = self.set_aside.confirmed() {
            warn!(self.logger, "the receiver does not take a message, and has confirmed a gap record in its place: \
                {reason}; if it is too long, destination.max_message_bytes cuts such messages";
                "code" => Code::MessageRefused.as_str());
        }
    }

    /// An open connection has ended.
    pub(super) fn cut(&mut self, ended: Ended, now: Instant) -> Link {
        let cut = self.session.cut(ended.blame(), now.into_std());
        if cut.passed_over {
            self.passed_over();
        }
        self.set_aside.give_up();
        let refused = self.session.refused().map(|refused| self.set_aside.gap_record(&refused));
        let is_refused = refused.is_some();
        if let Some(gap_record) = refused {
            self.session.substitute(gap_record);
        }
        self.counters.connections_cut.add(1);
        self.counters.bytes_confirmed.add(cut.bytes_confirmed);
        self.counters.messages_resent.add(cut.messages_unconfirmed);
        if !cut.on_probation && !self.session.has_unsent() {
            // Receivers close what is idle for a while; the next piece opens another.
            debug!(self.logger, "the idle connection has ended"; "why" => ended.to_sentence(self.timeout));
            self.report(ReceiverState::Idle);
            return Link::None { until: now };
        }
        if ended.is_renewal() {
            debug!(self.logger, "another connection follows"; "why" => ended.to_sentence(self.timeout));
            return Link::None { until: now };
        }
        if cut.messages_unconfirmed > 0 {
            debug!(self.logger, "unconfirmed messages will be sent again";
                "messages" => cut.messages_unconfirmed, "bytes" => cut.bytes_unconfirmed);
        }
        if (is_refused || cut.passed_over) && ended.took_later() {
            // It takes other messages, so there is nothing to wait for.
            if is_refused {
                warn!(self.logger, "{}", ended.and_next(&cut, is_refused, self.timeout); "code" => Code::ReceiverDown.as_str());
            }
            return Link::None { until: now };
        }
        if !cut.on_probation && cut.suspect.is_some_and(|(_, cuts)| cuts == 1) {
            // It stood open: what makes it end is what it is sent, and pauses of an earlier outage would delay the proof.
            self.backoff.reset();
        }
        let closed_early = cut.on_probation && ended.is_close();
        self.early_closes = if closed_early { self.early_closes.saturating_add(1) } else { 0 };
        self.failed(ended.and_next(&cut, is_refused, self.timeout), closed_early, now)
    }

    /// An attempt or a connection has failed: says so when it is time to, and waits before the next attempt.
    pub(super) fn failed(&mut self, why: String, closed_early: bool, now: Instant) -> Link {
        let pause = self.backoff.next_pause();
        let closes_all = closed_early && self.early_closes >= EARLY_CLOSES;
        let why = if closes_all {
            format!(
                "{why}; it has closed {} connections in a row within {:?} of opening them, and nothing counts as \
                 confirmed before (destination.confirm_after_connect); does it expect another destination.protocol or \
                 destination.framing, or a client certificate?",
                self.early_closes, self.confirm_after_connect
            )
        } else {
            why
        };
        let say = self.outage.failed(now.into_std());
        if closes_all && (say.is_some() || self.early_closes == EARLY_CLOSES) {
            error!(self.logger, "the receiver closes every connection: {why}"; "code" => Code::ReceiverClosesEarly.as_str());
        } else if let Some(Say { lasting, failures }) = say {
            let (pieces, bytes) = self.session.backlog();
            warn!(self.logger, "the receiver is down: {why}; will try again"; "code" => Code::ReceiverDown.as_str(),
                "lasting_s" => seconds(lasting), "failures" => failures, "pause_s" => seconds(pause), "waiting_pieces" => pieces, "waiting_bytes" => bytes);
        }
        self.report(ReceiverState::Down { why });
        Link::None { until: now + pause }
    }

    pub(super) fn report(&mut self, state: ReceiverState) {
        if self.state != state {
            self.state = state.clone();
            // actix fact 3: always enqueued. Bounded by the pauses between attempts: a state differs from the last one.
            self.receiver_changed.do_send(ReceiverChanged { worker: self.worker, index: self.index, state });
        }
    }
}
