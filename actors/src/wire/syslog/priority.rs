//! Facilities and severities: names, aliases and numbers (RFC 5424 section 6.2.1).

/// The 24 facilities: the usual name first, then other names under which they are known.
const FACILITIES: [&[&str]; 24] = [
    &["kern", "kernel"],
    &["user", "user_level"],
    &["mail"],
    &["daemon", "system"],
    &["auth", "authorization", "security/authorization"],
    &["syslog", "syslogd"],
    &["lpr", "printer", "line_printer"],
    &["news", "network_news"],
    &["uucp"],
    &["cron", "clock", "clock_daemon"],
    &["authpriv", "security2", "megasafe"],
    &["ftp"],
    &["ntp"],
    &["audit", "logaudit", "bsd_security"],
    &["alert", "logalert", "console"],
    &["clock2", "cron2", "solaris_cron", "clock_daemon2"],
    &["local0", "local_0"],
    &["local1", "local_1"],
    &["local2", "local_2"],
    &["local3", "local_3"],
    &["local4", "local_4"],
    &["local5", "local_5"],
    &["local6", "local_6"],
    &["local7", "local_7"],
];

/// The 8 severities, as above.
const SEVERITIES: [&[&str]; 8] = [
    &["emerg", "emergency", "panic", "fatal"],
    &["alert"],
    &["crit", "critical"],
    &["err", "error"],
    &["warning", "warn"],
    &["notice"],
    &["info", "informational", "information"],
    &["debug", "trace"],
];

/// A facility or severity that is none; the message says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriorityError {
    /// Means 4 to some and 13 to others.
    #[error("facility `security` means auth (4) to some programs and audit (13) to others: write `auth` or `audit`")]
    Security,
    /// A facility as C has it in `LOG_LOCAL0` and the like.
    #[error("facility {shifted} is a facility shifted by three bits, as C writes it: write {facility} (`{name}`)")]
    Shifted {
        /// What was given.
        shifted: u32,
        /// What was meant.
        facility: u8,
        /// Its name.
        name: &'static str,
    },
    /// Nothing known.
    #[error("facility `{0}` is not known: write 0 to 23 or a name such as user, daemon, auth or local0")]
    UnknownFacility(String),
    /// Nothing known.
    #[error(
        "severity `{0}` is not known: write 0 to 7 or one of emerg, alert, crit, err, warning, notice, info, debug"
    )]
    UnknownSeverity(String),
}

/// Reads a facility: a number from 0 to 23, a name or an alias in any case, also as `FAC_USER` or `LOG_USER`.
pub fn facility(text: &str) -> Result<u8, PriorityError> {
    if let Ok(number) = text.trim().parse::<u32>() {
        return match (number, number % 8) {
            (0..=23, _) => Ok(number as u8),
            (24..=184, 0) => {
                let facility = (number / 8) as u8;
                Err(PriorityError::Shifted { shifted: number, facility, name: facility_name(facility) })
            }
            _ => Err(PriorityError::UnknownFacility(quotable(text))),
        };
    }
    let name = normalised(text, &["fac_", "log_"]);
    if name == "security" {
        return Err(PriorityError::Security);
    }
    find(&FACILITIES, &name).ok_or_else(|| PriorityError::UnknownFacility(quotable(text)))
}

/// Reads a severity: a number from 0 to 7, a name or an alias in any case, also as `SEV_INFO` or `LOG_INFO`.
pub fn severity(text: &str) -> Result<u8, PriorityError> {
    if let Ok(number @ 0..=7) = text.trim().parse::<u8>() {
        return Ok(number);
    }
    find(&SEVERITIES, &normalised(text, &["sev_", "log_"]))
        .ok_or_else(|| PriorityError::UnknownSeverity(quotable(text)))
}

/// The usual name of a facility; `?` above 23.
pub fn facility_name(facility: u8) -> &'static str {
    FACILITIES.get(usize::from(facility)).map_or("?", |names| names[0])
}

/// The usual name of a severity; `?` above 7.
pub fn severity_name(severity: u8) -> &'static str {
    SEVERITIES.get(usize::from(severity)).map_or("?", |names| names[0])
}

fn find(table: &[&[&str]], name: &str) -> Option<u8> {
    table.iter().position(|names| names.contains(&name)).map(|code| code as u8)
}

/// Lower case, without prefix, with `_` where some write a space or a hyphen.
fn normalised(text: &str, prefixes: &[&str]) -> String {
    let name = text.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(&name).to_owned()
}

fn quotable(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against the numbers of the RFC, spelt out: a list that misses an entry shifts all behind it.
    #[test]
    fn every_facility_has_its_number() {
        let names = [
            "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
            "ntp", "audit", "alert", "clock2", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
            "local7",
        ];
        for (code, name) in names.iter().enumerate() {
            assert_eq!(facility(name), Ok(code as u8));
            assert_eq!(facility_name(code as u8), *name);
            assert_eq!(facility(&code.to_string()), Ok(code as u8));
            assert_eq!(facility(&format!("FAC_{}", name.to_uppercase())), Ok(code as u8));
            for alias in FACILITIES[code] {
                assert_eq!(facility(alias), Ok(code as u8), "{alias}");
            }
        }
        for (alias, code) in [
            ("Kernel", 0),
            ("user-level", 1),
            ("line printer", 6),
            ("network news", 7),
            ("log_audit", 13),
            ("log audit", 13),
            ("LOG_ALERT", 14),
            ("solaris-cron", 15),
            ("local_3", 19),
            ("LOG_LOCAL0", 16),
        ] {
            assert_eq!(facility(alias), Ok(code), "{alias}");
        }
    }

    #[test]
    fn every_severity_has_its_number() {
        let names = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
        for (code, name) in names.iter().enumerate() {
            assert_eq!(severity(name), Ok(code as u8));
            assert_eq!(severity_name(code as u8), *name);
            assert_eq!(severity(&code.to_string()), Ok(code as u8));
            for alias in SEVERITIES[code] {
                assert_eq!(severity(&format!("SEV_{alias}")), Ok(code as u8), "{alias}");
            }
        }
    }

    #[test]
    fn what_is_ambiguous_or_shifted_is_refused_with_the_remedy() {
        assert_eq!(facility("Security"), Err(PriorityError::Security));
        let shifted = facility("128").unwrap_err();
        assert!(shifted.to_string().contains("write 16 (`local0`)"), "{shifted}");
        for bad in ["24x", "25", "192", "4294967296", "-1", "", "local8", "user\n"] {
            let refused = facility(bad);
            // Surrounding blanks do no harm.
            assert_eq!(refused.is_err(), bad != "user\n", "{bad:?}: {refused:?}");
        }
        assert!(severity("8").is_err());
        assert!(severity("nothing").is_err());
    }
}
