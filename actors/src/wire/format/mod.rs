//! Payload formats: log groups in, framed syslog messages out. One hot file per format.
