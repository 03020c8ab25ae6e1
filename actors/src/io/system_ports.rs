//! The outside as it really is: SLS over HTTP, the receiver over sockets, this machine's clock and entropy.

use std::rc::Rc;
use std::sync::Arc;

use chrono::Utc;
use slog::Logger;

use crate::config::{Confirmation, ForwarderConfig};
use crate::counters::Counters;
use crate::error::ForwarderError;
use crate::io::dead_letter::FileDeadLetter;
use crate::io::dial::Destination;
use crate::io::log_hub::{SlsClient, SlsSetup};
use crate::ports::{DeadLetter, Dial, LogHub, WorkerPorts};

/// Certificates and keys read once; each worker builds its own clients and dialers of them.
pub struct SystemPorts {
    sls: Arc<SlsSetup>,
    destination: Destination,
    dead_letter: Option<FileDeadLetter>,
}

impl SystemPorts {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// [`ForwarderError::Settings`]: a file that cannot be read or used.
    pub fn new(config: &ForwarderConfig) -> Result<Self, ForwarderError> {
        let sls = SlsSetup::new(&config.source).map_err(|error| ForwarderError::Settings(error.to_string()))?;
        let destination =
            Destination::new(&config.destination).map_err(|error| ForwarderError::Settings(error.to_string()))?;
        let dead_letter = FileDeadLetter::new(&config.dead_letter, &config.source);
        Ok(Self { sls: Arc::new(sls), destination, dead_letter })
    }
}

impl WorkerPorts for SystemPorts {
    fn log_hub(&self) -> Rc<dyn LogHub> {
        Rc::new(SlsClient::new(Arc::clone(&self.sls), Utc::now))
    }

    fn dialer(&self, counters: Arc<Counters>, log: Logger) -> Rc<dyn Dial> {
        self.destination.dialer(counters, log)
    }

    fn dead_letter(&self, log: Logger) -> Option<Rc<dyn DeadLetter>> {
        let dead_letter: Rc<dyn DeadLetter> = Rc::new(self.dead_letter.as_ref()?.logging_to(log));
        Some(dead_letter)
    }

    fn level(&self) -> Confirmation {
        self.destination.level()
    }

    fn unix_seconds(&self) -> i64 {
        Utc::now().timestamp()
    }

    fn seed(&self) -> u64 {
        fastrand::u64(..)
    }
}
