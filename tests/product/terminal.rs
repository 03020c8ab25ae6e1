//! Help, completions, manual pages and first certificates, as they are read and used.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver};
use crate::hub::Hub;
use crate::snapshot::{fits_a_terminal, is_as_kept};

fn run(arguments: &[&str]) -> Output {
    Process::sls_syslog(arguments).output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

const COMMANDS: [&str; 10] =
    ["run", "check", "status", "demo", "loghub", "receiver", "dead-letter", "config", "completions", "man"];

#[test]
fn every_help_text_fits_a_terminal() {
    let below: [&[&str]; 4] =
        [&["config", "show"], &["config", "check"], &["dead-letter", "show"], &["dead-letter", "resend"]];
    for command in COMMANDS.iter().map(std::slice::from_ref).chain(below).chain([&[][..]]) {
        for help in ["-h", "--help"] {
            let output = run(&[command, &[help]].concat());
            assert!(output.status.success(), "{command:?}");
            let shown = text(output.stdout);
            fits_a_terminal(&shown);
            assert!(shown.contains("Usage:"), "{shown}");
        }
    }
    let whole = text(run(&["--help"]).stdout);
    for command in COMMANDS {
        assert!(whole.contains(&format!("\n  {command} ")), "{command} is missing:\n{whole}");
    }
    for (command, codes) in [("check", "1    at least one check FAILED"), ("status", "1    at least one warning")] {
        assert!(text(run(&[command, "--help"]).stdout).contains(codes), "{command}");
    }
}

#[test]
fn the_table_of_settings_fits_a_terminal() {
    let mut command = Process::sls_syslog(&["config", "show", "--set", "destination.max_messages_per_second=20000"]);
    command.env("STATE_DIRECTORY", "/var/lib/sls-syslog").envs([
        ("SLS_ENDPOINT", "cn-hangzhou-intranet.log.aliyuncs.com"),
        ("SLS_PROJECT", "a-project-with-quite-a-long-name"),
        ("SLS_LOGSTORE", "a-logstore-with-quite-a-long-name"),
        ("SLS_CG", "siem"),
        ("SLS_AK_ID", "id"),
        ("SLS_AK_KEY", "key"),
        ("SYSLOG_HOST", "siem.example.com"),
        ("SYSLOG_PROTOCOL", "tcp"),
    ]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    let shown = text(output.stdout);
    fits_a_terminal(&shown);
    for row in ["$SYSLOG_PROTOCOL", "flag --set", "  note: destination.protocol tcp is not"] {
        assert!(shown.contains(row), "no {row:?}:\n{shown}");
    }
}

#[test]
fn completions_are_scripts_that_know_the_commands() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef sls-syslog"), ("fish", "complete -c sls-syslog")] {
        let script = text(run(&["completions", shell]).stdout);
        assert!(script.contains(word), "{shell}");
        assert!(["check", "status", "receiver"].iter().all(|command| script.contains(command)), "{shell}");
    }
    let folder = Folder::new("completions");
    let file = folder.path().join("completions.bash");
    std::fs::write(&file, run(&["completions", "bash"]).stdout).unwrap();
    let source = format!(
        "source {} && f=$(complete -p sls-syslog | sed 's/.*-F \\([^ ]*\\).*/\\1/') && \
         COMP_WORDS=(sls-syslog che) && COMP_CWORD=1 && $f sls-syslog che sls-syslog && echo ${{COMPREPLY[@]}}",
        file.display()
    );
    let completed = Command::new("bash").arg("-c").arg(source).output().unwrap();
    assert_eq!(text(completed.stdout).trim(), "check", "{}", text(completed.stderr));
}

#[test]
fn manual_pages_are_roff_and_an_unknown_one_is_refused() {
    let page = text(run(&["man"]).stdout);
    assert!(page.contains(".TH sls-syslog 1") && page.contains("SLS_AK_KEY"), "{page}");
    let page = text(run(&["man", "check"]).stdout);
    assert!(page.contains(".TH sls-syslog-check 1") && page.contains("\\-\\-send"), "{page}");
    let unknown = run(&["man", "women"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(text(unknown.stderr), "error: there is no command \"women\"\n");
}

/// From nothing to mutual TLS: make certificates, receive with them, forward with them.
#[test]
fn made_certificates_lead_to_mutual_tls() {
    let folder = Folder::new("make-certs");
    let make = || {
        let mut command = Process::sls_syslog(&["receiver", "--make-certs", "certs", "--cert-name", "siem.test"]);
        let output = command.current_dir(folder.path()).output().unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, made, error) = make();
    assert_eq!((code, error.as_str()), (Some(0), ""));
    fits_a_terminal(&made);
    is_as_kept("make-certs", &made);
    let certs = folder.path().join("certs");
    for name in ["ca", "server", "client"] {
        let mode = std::fs::metadata(certs.join(format!("{name}-key.pem"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let before = std::fs::read(certs.join("ca.pem")).unwrap();
    assert!(make().1.starts_with("Nothing made, since they are there"));
    assert_eq!(std::fs::read(certs.join("ca.pem")).unwrap(), before);

    let path = |name: &str| certs.join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let receiver = Receiver::start(&["--protocol", "tls", "--mode", "check", "--make-certs", certs.to_str().unwrap()]);
    let hub = Hub::start(1);
    hub.put_numbered(0..10, 10);
    let name = ("destination.tls.server_name", "siem.test");
    let client = [
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
        name,
    ];
    let mut without = Forwarder::start_named("without", &hub, receiver.address, "tls", &[client[0], name]);
    without.process.says("demands a client certificate");
    without.stop();
    let forwarder = Forwarder::start(&hub, receiver.address, "tls", &client);
    hub.wait_until_committed();
    forwarder.stop();
    assert_eq!(receiver.finish()["unique"], 10);

    std::fs::remove_file(certs.join("client.pem")).unwrap();
    let (code, _, error) = make();
    assert_eq!(code, Some(1));
    assert!(error.contains("but not client.pem: name another folder"), "{error}");
}

/// The same words with and without colour, on a terminal that util-linux's `script` makes.
#[test]
fn colour_is_for_terminals_and_no_color_switches_it_off() {
    let on_a_terminal = |no_color: Option<&str>| {
        let program = env!("CARGO_BIN_EXE_sls-syslog");
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{program} check --within 1"), "/dev/null"]).env_clear();
        command.envs([("PATH", std::env::var("PATH").unwrap_or_default()), ("TERM", "xterm".to_owned())]);
        command.envs([
            ("SLS_ENDPOINT", "127.0.0.1:9"),
            ("SLS_AK_ID", "id"),
            ("SLS_AK_KEY", "key"),
            ("SLS_PROJECT", "shop"),
            ("SLS_LOGSTORE", "access"),
            ("SLS_CG", "siem"),
            ("SYSLOG_HOST", "127.0.0.1"),
            ("SYSLOG_PORT", "9"),
            ("SYSLOG_PROTOCOL", "tcp"),
        ]);
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(output.stdout).replace('\r', "")
    };
    let coloured = on_a_terminal(None);
    assert!(coloured.contains("\x1b[1;31mFAILED\x1b[0m  receiver connection"), "{coloured:?}");
    let plain = on_a_terminal(Some("1"));
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let codes = ["\x1b[1;31m", "\x1b[1;35m", "\x1b[32m", "\x1b[1m", "\x1b[0m"];
    assert_eq!(codes.iter().fold(coloured, |text, code| text.replace(code, "")), plain);
}
